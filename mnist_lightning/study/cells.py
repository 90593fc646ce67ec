"""The cells of a study: what each runs, where its run is, and whether it has finished."""

import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mnist_lightning.errors import caused_by
from mnist_lightning.parsing.config_file import flat, read_settings, text_of
from mnist_lightning.runs.layout import SUMMARY, run_name
from mnist_lightning.runs.program import command
from mnist_lightning.runs.summary import read_summary

SETTINGS = "settings.json"  # in a cell's folder


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
        repeat: How many equal cells come before it. They are versions of one run: the same numbers, other times.
        step_parts: Whether its run also records where the time of a step goes.
    """

    config: Path
    batch_size: int
    seed: int
    axes: tuple[tuple[str, Any], ...]
    fit: tuple[tuple[str, Any], ...]
    study: Path
    repeat: int = 0
    step_parts: bool = False

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
        options = [part for name, value in settings.items() for part in (f"--{name}", _typed(value))]
        return ["fit", "--config", str(self.config), *options]

    @property
    def command(self) -> str:
        """What a user would type."""
        return command(*self.arguments)

    @property
    def label(self) -> str:
        return f"{self.config.stem}, batch size {self.batch_size}, seed {self.seed}{self.axes_text}"

    @property
    def axes_text(self) -> str:
        return "".join(f", {name} {_plain(value)}" for name, value in self.axes)

    def runs(self) -> list[Path]:
        """The folders of the finished runs of it and of equal cells, the first to end first."""
        runs = [path.parent for path in self.folder.glob(f"version_*/{SUMMARY}")]
        return sorted(runs, key=lambda run: (run / SUMMARY).stat().st_mtime)

    def finished(self) -> Path | None:
        """The folder of its finished run."""
        runs = self.runs()
        return runs[self.repeat] if len(runs) > self.repeat else None

    def finished_run(self) -> Path:
        """As `finished`, for a cell that has finished."""
        run = self.finished()
        assert run is not None
        return run

    def summary(self) -> dict[str, Any]:
        """The summary of its finished run.

        Raises:
            SettingError: If the file is none.
        """
        return read_summary(self.finished_run())

    def settings(self) -> dict[str, Any]:
        """All settings that the cell's command gives, by dotted name: those of the setup's file, and the options."""
        return {**flat(read_settings(self.config)), **parse_options(self.arguments)}

    def record(self) -> None:
        """Writes the settings beside the run, so that a later study can see whether they have changed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / SETTINGS).write_text(json.dumps(self.settings(), indent=2) + "\n")

    def recorded(self) -> dict[str, Any] | None:
        """The settings that `record` wrote, if it did.

        Raises:
            SettingError: If the file holds something else.
        """
        path = self.folder / SETTINGS
        if not path.exists():
            return None
        with caused_by(lambda error: f"{path} holds no settings of a cell ({error}): remove it."):
            settings = json.loads(text_of(path))
            if not isinstance(settings, dict):
                raise TypeError(f"it holds a {type(settings).__name__}")
        return settings

    def disturbed(self) -> int:
        """How many of its runs, and of those of equal cells, were replaced."""
        return len(list(self.folder.glob("disturbed_*")))

    def interrupted(self) -> list[Path]:
        """The folders of its runs that did not finish."""
        return sorted(run for run in self.folder.glob("version_*") if not (run / SUMMARY).exists())


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
    of the machine does not look like an effect of the batch size; the same `shuffle` gives the same order. The runs of the
    first seed record the parts of their steps.
    """
    further = [[(name, value) for value in values] for name, values in axes.items()]
    for seed in seeds:
        cells = [
            Cell(config, batch_size, seed, tuple(values), tuple(fit.items()), study, step_parts=seed == seeds[0])
            for batch_size, config, *values in itertools.product(batch_sizes, setups, *further)
        ]
        order = [number for number in range(len(cells)) for _ in range(repeats)]
        random.Random(f"{shuffle} {seed}").shuffle(order)
        for place, number in enumerate(order):
            yield replace(cells[number], repeat=order[:place].count(number))


def parse_options(command: Sequence[str]) -> dict[str, Any]:
    """The settings that follow `fit` in a command, by dotted name."""
    options: dict[str, Any] = {}
    rest = iter(command[command.index("fit") + 1 :])
    for option in rest:
        name, given, value = option.partition("=")
        options |= flat({name.removeprefix("--"): yaml.safe_load(value if given else next(rest, ""))})
    return options


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _plain(value: Any) -> str:
    """A value as it may stand in the name of a folder."""
    if isinstance(value, list | tuple):
        return "-".join(map(_plain, value))
    return _typed(value).replace("/", "_")
