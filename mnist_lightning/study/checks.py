"""What a study checks before its first cell."""

import contextlib
import json
import math
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from mnist_lightning.errors import SettingError
from mnist_lightning.parsing.config_file import flat, read_settings
from mnist_lightning.runs.identity import NOT_THE_RUN
from mnist_lightning.runs.layout import CONFIG
from mnist_lightning.runs.program import PROGRAM
from mnist_lightning.study.cells import Cell, parse_options

MOST_CELLS = 100_000  # a minute each are two months


def refuse_bad_arguments(
    name: str,
    setups: list[Path],
    batch_sizes: Sequence[int],
    seeds: Sequence[int],
    axes: dict[str, list[Any]],
    fit: dict[str, Any],
    repeats: int,
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
        read_settings(config, "setups names ")
    if twice := next((stem for stem, count in Counter(path.stem for path in setups).items() if count > 1), None):
        raise SettingError(f"setups names two files of {twice}, whose runs would be in one folder: name one of them.")
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
    cells = math.prod(map(len, (setups, batch_sizes, seeds, *axes.values()))) * repeats
    if cells > MOST_CELLS:
        raise SettingError(f"The grid has {cells:,} cells, more than {MOST_CELLS:,}: name fewer values.")


def rehearse(cells: Sequence[Cell], missing: Collection[str]) -> None:
    """Makes sure that `fit` accepts the cells' settings, and would train each cell's setup in the cell's folder.

    Cells that differ in the seed or the batch size alone are asked about once.

    Args:
        cells: Of the study.
        missing: Setups that need more GPUs than there are; their settings are tried on the processor.

    Raises:
        SettingError: If a cell would not.
    """
    by_size = sorted(cells, key=lambda cell: cell.batch_size, reverse=True)  # of each, the smallest remains
    asked = list({(cell.config, cell.axes_text): cell for cell in by_size}.values())
    if not asked:
        return
    there = [[] if cell.config.stem not in missing else ["--trainer.accelerator=cpu"] for cell in asked]
    lines = [json.dumps([*cell.arguments, *also]) for cell, also in zip(asked, there, strict=True)]
    answers = _answers("\n".join(lines), len(asked))
    devices: dict[Path, int] = {}
    for cell, answer in zip(asked, answers, strict=True):
        setup, name = str(answer.get("setup")), cell.config.stem
        if "error" in answer:
            raise SettingError(f"The cell {cell.label} cannot run. {answer['error']}")
        if setup != name and (name not in missing or setup.partition("x")[0] != name.partition("x")[0]):
            raise SettingError(
                f"setups names {cell.config}, which trains {setup}: call the file so, or change its settings."
            )
        found = answer["folder"]
        if found is None or (name not in missing and Path(found) != cell.folder):
            raise SettingError(
                f"The cell {cell.label} would write to {found or 'a folder of its own'}, but the study looks for it in {cell.folder}: "
                "leave trainer.logger out of fit, axes and the setups."
            )
        devices[cell.config] = int(setup.partition("x")[0])
    for cell in cells:
        if cell.batch_size % devices[cell.config]:
            raise SettingError(
                f"batch_sizes has {cell.batch_size}, which cannot be shared by the {devices[cell.config]} devices of "
                f"{cell.config.stem}: leave one of the two out."
            )


def _answers(lines: str, count: int) -> list[dict[str, Any]]:
    command = [sys.executable, *PROGRAM[1:], "rehearse"]
    asked = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    answers = [line for line in asked.stdout.splitlines() if line.startswith("{")]
    if asked.returncode or len(answers) != count:
        said = (asked.stderr.splitlines() or ["it said nothing"])[-1]
        raise SettingError(f"{PROGRAM[-1]} cannot be asked about the cells ({said}): see that fit works with it.")
    return [json.loads(line) for line in answers]


def without_hardware(setups: list[Path]) -> list[str]:
    """The setups that need more GPUs than there are."""
    needs = {}
    for config in setups:
        trainer = read_settings(config).get("trainer", {})
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
    config = flat(read_settings(cell.finished_run() / CONFIG))
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
