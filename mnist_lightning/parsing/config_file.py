"""Checks the user's config files before they are parsed."""

import itertools
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mnist_lightning.errors import SettingError

LARGEST = 1 << 20  # bytes; a run's whole config.yaml has 5,000
MOST = 100_000  # nodes, with each alias in full
GROUPS = ("trainer", "model", "data", "checkpoint", "predictions")  # each may be named as a file, too
LINKED = ("model.seed", "data.seed")  # seed_everything sets them
LONGEST_NAME = 300  # characters of a file's name in an error
AS_WRITTEN = re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)")  # other whole numbers are octal or of base 60

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def refuse_bad_configs(arguments: Sequence[str]) -> None:
    """Makes sure that each config of a command line is YAML and holds settings. The parser checks the settings.

    Args:
        arguments: Of the command line.

    Raises:
        SettingError: If one is not; the parser would not name the file, would not end, or would take the last of two values.
    """
    for option, value in options(arguments):
        _refuse_device(option, value)
        if option in ("config", "c"):
            # A YAML mapping may also stand on the command line itself.
            if value.lstrip().startswith("{"):
                parse_settings(f"config {value[:60]}", value)
            else:
                read_settings(value, "config ")
        elif option in GROUPS and Path(value).is_file():
            read_settings(value, f"{option} ")
        elif value.lstrip()[:1] in ("[", "{"):
            try:
                _refuse_device(option, _loaded(f"{option} {value[:60]}", value))
            except SettingError:
                raise
            except (yaml.YAMLError, RecursionError, ValueError):  # the parser says it
                continue


def read_settings(name: str | Path, option: str = "") -> dict[str, Any]:
    """The settings that a file holds.

    Args:
        name: Of the file.
        option: What names it, for the error.

    Raises:
        SettingError: If it holds none.
    """
    return parse_settings(f"{option}{name}", text_of(name, option))


def text_of(name: str | Path, option: str = "", largest: int = LARGEST) -> str:
    """The text of a regular file.

    Args:
        name: Of the file.
        option: What names it, for the error.
        largest: Bytes that it may have.

    Raises:
        SettingError: If it is none, or has more bytes.
    """
    what = f"{option}{name}" if len(str(name)) < LONGEST_NAME else f"{option}{str(name)[:60]}"
    try:
        status = Path(name).stat()
        if not stat.S_ISREG(status.st_mode):
            raise SettingError(f"{what} is no file: name one.")
        if status.st_size > largest:
            raise SettingError(f"{what} has {status.st_size:,} bytes, more than {largest:,}: name another file.")
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{what} cannot be read ({error.strerror}): name another file.") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"{what} is no text: name another file.") from error


def parse_settings(what: str, text: str) -> dict[str, Any]:
    """The settings that a YAML text holds.

    Args:
        what: The text in words, for the error.
        text: The text.

    Raises:
        SettingError: If it holds none, or what it says is read in another way than it looks.
    """
    try:
        settings = _loaded(what, text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "it is no text"
        raise SettingError(f"{what} is no YAML{place} ({reason}): mend it.") from error
    except ValueError as error:  # a date such as 2026-99-99
        if isinstance(error, SettingError):
            raise
        raise SettingError(f"{what} has a value that YAML cannot read ({error}): put it into quotes.") from error
    except RecursionError as error:
        raise SettingError(f"{what} is nested too deeply: name a file of settings.") from error
    if not isinstance(settings, dict) or not settings:
        kind = "is empty" if not settings else f"holds a {type(settings).__name__}"
        raise SettingError(f"{what} {kind}: it must hold settings, such as a run's config.yaml.")
    for group in GROUPS:
        if not isinstance(settings.get(group, {}), dict | str):
            raise SettingError(f"{what} sets {group} to {settings[group]}: name settings under it, or leave it out.")
    values = flat(settings)
    for name, value in values.items():
        if "\0" in f"{name}{value}":
            raise SettingError(f"{what} has a NUL character in {name.partition(chr(0))[0]}: leave it out.")
        _refuse_device(name, value)
        if name in LINKED:
            raise SettingError(f"{what} sets {name}, which seed_everything sets: leave it out.")
    return settings


def _loaded(what: str, text: str) -> Any:
    """What a YAML text of bounded expansion holds."""
    if _size(yaml.compose(text, Loader=_LOADER), {}, what) > MOST:
        raise SettingError(f"{what} grows to more than {MOST:,} values by its aliases: write them out.")
    return yaml.load(text, Loader=_LOADER)


def _size(node: yaml.Node | None, known: dict[yaml.Node, int], what: str) -> int:
    """How many nodes there are with each alias in full. Refuses what YAML reads in another way than it looks."""
    if node is None:
        return 0
    where = f"{what} in line {node.start_mark.line + 1}"
    if node in known:
        if not known[node]:
            raise SettingError(f"{where} has a value that contains itself: write it out.")
        return known[node]
    known[node] = 0
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        names = [str(key.value) for key, _ in node.value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise SettingError(f"{where} sets {twice[:60]} twice: leave one out.")
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif node.tag == "tag:yaml.org,2002:int" and not AS_WRITTEN.fullmatch(node.value):
        raise SettingError(f"{where} has {node.value}, which YAML reads as {yaml.safe_load(node.value)}: write that.")
    known[node] = 1 + sum(_size(part, known, what) for part in parts)
    return known[node]


def _refuse_device(name: str, value: Any) -> None:
    """Refuses what has no end, or waits for a writer: the parser opens each text that is a path, in lists as well."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _refuse_device(name, part)
        return
    try:
        mode = Path(str(value)).stat().st_mode
    except (OSError, ValueError):  # it is no path
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise SettingError(f"{name} is {value}, which is neither a file nor a folder: name another one.")


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config's settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        nested = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


def options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The options that have a value, without their dashes."""
    for here, following in itertools.zip_longest(arguments, arguments[1:]):
        option, given, value = here.partition("=")
        if option.startswith("-") and (given or following is not None):
            yield option.lstrip("-"), value if given else following
