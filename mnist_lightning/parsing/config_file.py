"""Checks the user's config files before they are parsed."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mnist_lightning.errors import SettingError

LARGEST = 1 << 20  # bytes; a run's whole config.yaml has 5,000


def refuse_bad_configs(arguments: Sequence[str]) -> None:
    """Makes sure that each file that `--config` names is YAML and holds settings. The parser checks the settings.

    Args:
        arguments: Of the command line.

    Raises:
        SettingError: If one is not; the parser would not name the file, or take minutes.
    """
    for name in _configs(arguments):
        path = Path(name)
        try:
            size = path.stat().st_size
            if size > LARGEST:
                raise SettingError(f"config {name} has {size:,} bytes: name a file of settings.")
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingError(f"config {name} cannot be read ({error.strerror}): name another file.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f" in line {mark.line + 1}" if mark else ""
            reason = getattr(error, "problem", None) or "it is no text"
            raise SettingError(f"config {name} is no YAML{place} ({reason}): mend it.") from error
        except RecursionError as error:
            raise SettingError(f"config {name} is nested too deeply: name a file of settings.") from error
        if not isinstance(settings, dict) or not settings:
            what = "is empty" if not settings else f"holds a {type(settings).__name__}"
            raise SettingError(f"config {name} {what}: it must hold settings, such as a run's config.yaml.")
        for linked in ("model.seed", "data.seed"):
            if linked in flat(settings):
                raise SettingError(f"config {name} sets {linked}, which seed_everything sets: leave it out.")


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config's settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        nested = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


def _configs(arguments: Sequence[str]) -> Iterator[str]:
    for here, following in itertools.zip_longest(arguments, arguments[1:]):
        option, given, value = here.partition("=")
        if option in ("--config", "-c"):
            name = value if given else following
            # A YAML mapping may also stand on the command line itself.
            if name is not None and not name.lstrip().startswith("{"):
                yield name
