"""What a study checks before its first cell."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from mnist_lightning.errors import SettingError
from mnist_lightning.parsing.config_file import flat
from mnist_lightning.runs.layout import CONFIG
from mnist_lightning.study.cells import Cell

# These settings say where a run is, not what it is.
PLACES = ("trainer.logger", "ckpt_path", "config")


def refuse_bad_arguments(
    name: str,
    setups: list[Path],
    batch_sizes: Sequence[int],
    seeds: Sequence[int],
    axes: dict[str, list[Any]],
    fit: dict[str, Any],
) -> None:
    """Makes sure that a study's arguments make a grid.

    Raises:
        SettingError: If one does not.
    """
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise SettingError(f"name is {name!r}: give one that may name a folder.")
    for config in setups:
        if not config.is_file():
            raise SettingError(f"setups names {config}, which is no file: name one such as configs/1xcpu.yaml.")
        if not re.fullmatch(r"\d+x(cpu|gpu|mps)", config.stem):
            raise SettingError(f"setups names {config}: a setup's file is called what runs, such as 2xcpu.yaml.")
    for argument, values in (("setups", setups), ("batch_sizes", batch_sizes), ("seeds", seeds), *axes.items()):
        if not isinstance(values, list | tuple) or not values:
            raise SettingError(f"{argument} is {values}: give a list of values.")
        if len({str(value) for value in values}) < len(values):
            raise SettingError(f"{argument} is {[str(value) for value in values]}: give each value once.")
    if min(batch_sizes) < 1:
        raise SettingError(f"batch_sizes is {batch_sizes}: give positive numbers.")
    for own, argument in (("data.batch_size", "batch_sizes"), ("seed_everything", "seeds")):
        if own in axes or own in fit:
            raise SettingError(f"{own} is set by {argument}: name its values there.")
    if fit.get("data.source") == "auto" or "auto" in axes.get("data.source", []):
        raise SettingError("data.source is auto, which may be other images tomorrow: give mnist or sample.")
    if both := axes.keys() & fit.keys():
        raise SettingError(f"{min(both)} is in axes and in fit: leave it out of one.")


def without_hardware(setups: list[Path]) -> list[str]:
    """The setups that need more GPUs than there are."""
    needs = {}
    for config in setups:
        trainer = (yaml.safe_load(config.read_text()) or {}).get("trainer", {})
        if trainer.get("accelerator") in ("gpu", "cuda", "mps"):
            needs[config.stem] = int(trainer.get("devices", 1))
    if not needs:
        return []
    count = "import torch; print(torch.cuda.device_count() or int(torch.backends.mps.is_available()))"
    answer = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    return [setup for setup, devices in needs.items() if devices > int(answer.stdout)]


def refuse_changed(finished: Sequence[Cell]) -> None:
    """Makes sure that finished cells were run with the settings that they would be run with now.

    Each run has its command in its summary. What the setup's file says is compared with the run's `config.yaml`.

    Raises:
        SettingError: If a setting differs; it names the first one.
    """
    for cell in finished:
        for name, now, before in _changes(cell):
            if not name.startswith(PLACES):
                raise SettingError(
                    f"{name} is {now}, but {cell.finished()} was run with {before}: give the study another name, or remove "
                    "that run."
                )


def _changes(cell: Cell) -> Iterator[tuple[str, Any, Any]]:
    """Each setting that differs: its name, its value now, and the value that the finished run had."""
    now, typed = _options(cell.arguments), shlex.split(cell.summary()["command"])
    in_config = flat(yaml.safe_load(cell.config.read_text()) or {})
    before = _options(typed) if "fit" in typed else {}
    if before and "ckpt_path" not in before:
        for name in sorted({*now, *before}):
            if now.get(name) != before.get(name):
                yield name, now.get(name), before.get(name)
        in_config = {name: value for name, value in in_config.items() if name not in now}
    else:
        # The run was resumed by hand, or is from Python: its command does not tell its settings.
        in_config |= now
    config = flat(yaml.safe_load((Path(str(cell.finished())) / CONFIG).read_text()))
    for name, value in in_config.items():
        if not isinstance(value, list | dict) and not _same(value, config.get(name)):
            yield name, value, config.get(name)


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    """The settings of a command, as text, by name."""
    begin = arguments.index("fit") + 1
    options: dict[str, Any] = {}
    rest = iter(arguments[begin:])
    for option in rest:
        name, given, value = option.partition("=")
        options[name.removeprefix("--")] = value if given else next(rest, "")
    return options


def _same(text: Any, value: Any) -> bool:
    """Whether a setting's text gives a value of a config."""
    return str(yaml.safe_load(text) if isinstance(text, str) else text) == str(value)
