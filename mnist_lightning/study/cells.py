"""The cells of a study: what each runs, where its run is, and whether it has finished."""

import itertools
import json
import random
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mnist_lightning.errors import SettingError
from mnist_lightning.run_files import CONFIG, SUMMARY, run_name
from mnist_lightning.runs.config import FREE, SETUP, flat, read_config
from mnist_lightning.runs.summary import read_summary

OBJECTS = ("trainer.callbacks", "trainer.plugins")  # a config has more of them than the user gives


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of a study.

    Args:
        config: The setup's file, whose name is the setup's, such as `configs/1xcpu.yaml`.
        batch_size: Global batch size.
        seed: Seed of the experiment.
        axes: The values of the study's further axes, by the setting's name.
        fit: Settings that all cells share, by name.
        study: The study's folder.
        repeat: How many equal cells come before it: the same numbers, other times.
    """

    config: Path
    batch_size: int
    seed: int
    axes: tuple[tuple[str, Any], ...]
    fit: tuple[tuple[str, Any], ...]
    study: Path
    repeat: int = 0

    @property
    def logs(self) -> Path:
        """The folder of logs that `fit` is given."""
        return self.study.joinpath(*(f"{name}={_plain(value)}" for name, value in self.axes))

    @property
    def folder(self) -> Path:
        """Where the versions of its run are."""
        return self.logs / run_name(self.config.stem, self.batch_size, self.seed)

    @property
    def arguments(self) -> list[str]:
        """What follows `python -m mnist_lightning`."""
        settings = {
            "data.source": "mnist",  # never the sample unasked
            **dict(self.fit),
            **dict(self.axes),
            "data.batch_size": self.batch_size,
            "seed_everything": self.seed,
            "trainer.logger.init_args.save_dir": str(self.logs),
        }
        typed = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in settings.items()]
        return ["fit", "--config", str(self.config), *itertools.chain(*((f"--{name}", value) for name, value in typed))]

    @property
    def label(self) -> str:
        axes = "".join(f", {name} {_plain(value)}" for name, value in self.axes)
        return f"{self.config.stem}, batch size {self.batch_size}, seed {self.seed}{axes}"

    def finished(self) -> Path | None:
        """The folder of its finished run; those of equal cells are counted in the order in which they ended."""
        runs = sorted(self.folder.glob(f"version_*/{SUMMARY}"), key=lambda path: path.stat().st_mtime)
        return runs[self.repeat].parent if len(runs) > self.repeat else None

    def summary(self) -> dict[str, Any]:
        """The summary of its finished run; empty if it has none."""
        return {} if (run := self.finished()) is None else read_summary(run)

    def disturbed(self) -> list[Path]:
        """Runs of it and of equal cells that were replaced."""
        return list(self.folder.glob("disturbed_*"))

    def interrupted(self) -> list[Path]:
        """The folders of its runs that did not finish."""
        return sorted(run for run in self.folder.glob("version_*") if not (run / SUMMARY).exists())

    def refuse_changed(self) -> None:
        """Makes sure that a finished run has the settings that the cell would be run with now."""
        if (run := self.finished()) is None:
            return
        then = flat(read_config(run / CONFIG))
        now = {**flat(read_config(self.config)), **_options(self.arguments)}
        given = _options(shlex.split(self.summary().get("command", "")))
        # Of a setting that is not given any more, the command of the run tells; its default is in the config.
        gone = given.keys() - now.keys() if "ckpt_path" not in given else set()
        for name in sorted({*now, *gone}):
            free = name.startswith((*FREE, *SETUP, *OBJECTS)) and name != "trainer.max_epochs"
            if free or (name not in then and name in now):
                continue
            if name in gone or not _same(now[name], then[name]):
                raise SettingError(
                    f"{name} is {now.get(name, 'not given')}, but {run} was run with {then.get(name)}: give the study "
                    "another name, or remove that run."
                )


def grid(
    study: Path,
    setups: Sequence[Path],
    batch_sizes: Sequence[int],
    seeds: Sequence[int],
    axes: Mapping[str, Sequence[Any]],
    fit: Mapping[str, Any],
    shuffle: int = 0,
    repeats: int = 1,
) -> Iterator[Cell]:
    """All cells in the order in which they run.

    Seeds are outermost, so that an interrupted study has complete grids. The cells of a seed are shuffled, so that a drift
    of the machine does not look like an effect of the batch size; the same `shuffle` gives the same order.
    """
    further = [[(name, value) for value in values] for name, values in axes.items()]
    for seed in seeds:
        cells = [
            Cell(config, batch_size, seed, tuple(values), tuple(fit.items()), study)
            for batch_size, config, *values in itertools.product(batch_sizes, setups, *further)
        ]
        order = [number for number in range(len(cells)) for _ in range(repeats)]
        random.Random(f"{shuffle} {seed}").shuffle(order)
        for place, number in enumerate(order):
            yield replace(cells[number], repeat=order[:place].count(number))


def _options(command: Sequence[str]) -> dict[str, Any]:
    """The settings among the options of a `fit`, by dotted name."""
    found: dict[str, Any] = {}
    rest = iter(command[command.index("fit") + 1 :] if "fit" in command else [])
    for option in rest:
        name, given, value = option.partition("=")
        found |= flat({name.removeprefix("--"): yaml.safe_load(value if given else next(rest, ""))})
    return found


def _same(one: Any, other: Any) -> bool:
    """Whether a value is that of a run's config: YAML takes `1e-3` for a text, and a precision of 32 is called 32-true."""
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return str(other) in (str(one), f"{one}-true", f"{one}-mixed")


def _plain(value: Any) -> str:
    """A value as it may stand in the name of a folder."""
    if isinstance(value, list | tuple):
        return "-".join(map(_plain, value))
    return (value if isinstance(value, str) else json.dumps(value)).replace("/", "_")
