"""The finished runs in folders of logs, and the columns and cells they make."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mnist_lightning.errors import SettingError
from mnist_lightning.parsing.config_file import flat
from mnist_lightning.runs.layout import SUMMARY

# Settings of a run that make no column: they are its row, its seed, its setup or its place.
NO_COLUMN = (
    "seed_everything",
    "model.seed",
    "data.seed",
    "data.batch_size",
    "data.data_dir",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.logger",
    "trainer.enable_progress_bar",
    "ckpt_path",
    "config",
    "predictions",
    "checkpoint",
)

MACHINE = ("processor", "cores", "threads", "gpu")  # what makes times another machine's
OF_A_SETUP = ("machine.threads", "machine.gpu")  # of these, what one machine has differently by setup


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its folder, its `summary.json` and its settings by dotted name."""

    folder: Path
    summary: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def batch_size(self) -> int:
        return self.summary["batch_size"]

    @property
    def seed(self) -> int:
        return self.summary["seed"]

    def metric(self, name: str) -> float | None:
        return self.summary["metrics"].get(name)

    @property
    def epochs(self) -> int:
        return self.summary["epochs"]

    @property
    def steps(self) -> int:
        return self.summary["steps"]

    def seconds_to(self, accuracy: float) -> float | None:
        """Seconds of the epochs up to the first whose validation reaches an accuracy; None if none does."""
        reached = 0.0
        epochs = self.summary["by_epoch"]
        for seconds, validated in zip(epochs["seconds/epoch"], epochs["val/accuracy"], strict=True):
            reached += seconds
            if validated is not None and validated >= accuracy:
                return reached
        return None


@dataclass(frozen=True, eq=False)
class Column:
    """Runs that differ in batch size and seed alone; the label is their setup and what sets them apart."""

    label: str
    setup: str
    runs: tuple[Run, ...]

    @property
    def batch_sizes(self) -> list[int]:
        return sorted({run.batch_size for run in self.runs})

    def cell(self, batch_size: int) -> list[Run]:
        """The runs of one batch size, by seed."""
        return sorted((run for run in self.runs if run.batch_size == batch_size), key=lambda run: run.seed)

    def values(self, batch_size: int, metric: str) -> dict[int, float]:
        """A metric's values by seed."""
        found = {run.seed: run.metric(metric) for run in self.cell(batch_size)}
        return {seed: value for seed, value in found.items() if value is not None}

    def mean(self, batch_size: int, metric: str) -> float | None:
        """A metric's mean over the seeds; None where there is no run."""
        values = self.values(batch_size, metric).values()
        return statistics.fmean(values) if values else None


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """The finished runs in and under folders; of equal runs with one seed the newest.

    Raises:
        SettingError: If a folder is not there or none holds a finished run.
    """
    runs: dict[tuple[str, int, str], Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise SettingError(
                f"logs names {folder}, which is no folder: name one that fit or study wrote to."
            )
        finished = list(folder.rglob(f"version_*/{SUMMARY}"))
        if folder.absolute().name.startswith("version_"):  # a run's own
            finished += folder.glob(SUMMARY)
        for path in sorted(finished, key=lambda path: path.stat().st_mtime):
            run = _read(path)
            runs[_identity(run)] = run
    if not runs:
        raise SettingError(
            f"logs holds no finished run ({SUMMARY}): run fit or study first, or ask for --paper."
        )
    return list(runs.values())


def columns(runs: Iterable[Run]) -> list[Column]:
    """The runs by setup and by whatever settings differ among them, in the paper's order of setups."""
    runs = list(runs)
    names = sorted({name for run in runs for name in run.settings})
    differing = [name for name in names if _differs(name, runs)]
    by_label = defaultdict(list)
    for run in runs:
        by_label[_label(run, differing), run.summary["setup"]].append(run)
    return [
        Column(label, setup, tuple(each))
        for (label, setup), each in sorted(
            by_label.items(), key=lambda item: (setup_order(item[0][1]), item[0][0])
        )
    ]


def _differs(name: str, runs: Iterable[Run]) -> bool:
    values = defaultdict(set)
    for run in runs:
        # What follows from the setup, as that a CPU is no GPU, sets no two of them apart.
        values[run.summary["setup"] if name in OF_A_SETUP else None].add(_text(run.settings.get(name)))
    return any(len(each) > 1 for each in values.values())


def setup_order(setup: str) -> tuple[bool, int]:
    """Sorts as the paper's columns: the processor first, then one device before two."""
    devices, _, kind = setup.partition("x")
    return kind != "cpu", int(devices)


def _read(path: Path) -> Run:
    try:
        summary = json.loads(path.read_text())
        config = yaml.load((path.parent / "config.yaml").read_text(), Loader=_LOADER)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingError(f"logs holds {path.parent}, which cannot be read ({error}): remove it.") from error
    settings = {name: value for name, value in flat(config).items() if not name.startswith(NO_COLUMN)}
    settings["trainer.precision"] = summary["machine"]["precision"]
    settings["trainer.max_epochs"] = summary["epochs"]
    settings["data.source"] = summary["data"]
    for part in MACHINE:
        if summary["machine"].get(part):
            settings[f"machine.{part}"] = summary["machine"][part]
    return Run(path.parent, summary, settings)


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _identity(run: Run) -> tuple[str, int, str]:
    settings = sorted((name, _text(value)) for name, value in run.settings.items())
    return run.summary["setup"], run.batch_size, f"{run.seed} {settings}"


def _text(value: Any) -> str:
    return json.dumps(value)


SHORT = {"32-true": "fp32", "bf16-mixed": "bf16", "64-true": "fp64", "16-mixed": "fp16"}


def _label(run: Run, differing: Iterable[str]) -> str:
    parts = [run.summary["setup"]]
    for name in differing:
        value = run.settings.get(name)
        if value is None and name in OF_A_SETUP:
            continue
        short = SHORT.get(value) if name == "trainer.precision" else None
        parts.append(short or f"{name.rpartition('.')[2]} {_text(value)}")
    return ", ".join(parts)
