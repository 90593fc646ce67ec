"""What a study checks before its first cell."""

import contextlib
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
from mnist_lightning.runs.identity import NOT_THE_RUN
from mnist_lightning.runs.layout import CONFIG
from mnist_lightning.study.cells import Cell, parse_options


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

    The study has recorded them beside the run. For other runs their command and `config.yaml` tell.

    Raises:
        SettingError: If a setting differs; it names the first one.
    """
    for cell in finished:
        for name, now, before in _changes(cell):
            if not name.startswith(NOT_THE_RUN):
                raise SettingError(
                    f"{name} is {now}, but {cell.finished_run()} was run with {before}: give the study another name, or remove "
                    "that run."
                )


def _changes(cell: Cell) -> Iterator[tuple[str, Any, Any]]:
    """Each setting that differs: its name, its value now, and the value that the finished run had."""
    now, command = cell.settings(), shlex.split(cell.summary()["command"])
    config = flat(yaml.safe_load((cell.finished_run() / CONFIG).read_text()))
    by_hand = "fit" not in command or "ckpt_path" in parse_options(command)
    if (before := cell.recorded()) is None:
        # The run is from a command of `--dry_run`, or of an earlier version: what it was given is in its command.
        typed = {} if by_hand else parse_options(command)
        before = {name: config.get(name) for name in {*now, *typed}}
        now = {name: now.get(name) for name in before}
    elif by_hand:
        before = {**before, **{name: config.get(name) for name in before if name in config}}
    for name in sorted({*now, *before}):
        if not _same(now.get(name), before.get(name)):
            yield name, now.get(name), before.get(name)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal as settings: YAML takes `1e-3` for a text, and a list of classes is expanded."""
    if isinstance(one, list) and isinstance(other, list):
        return any(isinstance(each, dict) for each in other) or one == other
    with contextlib.suppress(TypeError, ValueError):
        return float(one) == float(other)
    return str(one) == str(other)
