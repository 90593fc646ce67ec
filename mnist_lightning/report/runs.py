"""The finished runs in folders of logs, and what each measured."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist_lightning.errors import SettingError, blaming
from mnist_lightning.measure.disturbance import rate
from mnist_lightning.run_files import CONFIG, SUMMARY
from mnist_lightning.runs.config import FREE, SETUP, flat, read_config
from mnist_lightning.runs.summary import read_summary

# Settings that make no column of the report: they are a run's row, its seed, its setup or its place.
NO_COLUMN = ("seed_everything", "model.seed", "data.seed", "data.batch_size", *SETUP, *FREE)
MACHINE = ("threads", "gpu")  # of a setup; the rest of the machine is compared by its rate, too
OURS = "MNISTClassifier"  # the network of runs that do not name theirs
TESTED = 10_000  # test images, by which errors are counted
TARGET = 0.99  # accuracy; the report tells when it is first reached


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its folder, its `summary.json` and its settings by dotted name."""

    folder: Path
    summary: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def network(self) -> str:
        """The class of the network."""
        return self.settings["network"]

    @property
    def name(self) -> str:
        summary = self.summary
        return f"{summary['setup']} at batch size {summary['batch_size']}, seed {summary['seed']}"

    def measured(self) -> dict[str, float]:
        """Every number of the run, by name."""
        summary = self.summary
        values = {**summary["metrics"], "steps": summary["steps"]}
        values |= {f"median/{name}": value for name, value in summary["median"].items()}
        values["images"] = summary["epochs"] * summary["train_images"]
        values |= self._parts_of_fit()
        if (median := summary["median"].get("seconds/epoch")) and not summary.get("resumed"):
            # The seconds of a run of one epoch, in epochs.
            start = summary["metrics"].get("seconds/warm_up", 0.0)
            values["first_epoch"] = (start + summary["by_epoch"]["seconds/epoch"][0]) / median
        if (accuracy := summary["metrics"].get("val/accuracy")) is not None:
            images = summary.get("test_images", TESTED)
            # A count, which a float of 32 bits does not quite give back.
            values["errors"] = round((1 - accuracy) * images) * TESTED / images
        work, gave = mflop(self.settings) if self.network == OURS else None, rate(summary, "before")
        if work:
            values["mflop"] = work
        if work and gave:
            values["share"] = work * summary["median"]["images_per_second"] / (1000 * gave)
        values["parameters"] = summary["parameters"]
        if (reached := self.seconds_to(TARGET)) is not None:
            values["seconds/to_99"] = reached
        return values

    def _parts_of_fit(self) -> dict[str, float]:
        """The fit's seconds of training, of validation, and of what lies between epochs, mostly checkpoints."""
        epochs = self.summary["by_epoch"]
        if "seconds/train_epoch" not in epochs or self.summary.get("resumed"):
            return {}
        train, validation = (sum(epochs[f"seconds/{name}_epoch"]) for name in ("train", "val"))
        rest = self.summary["metrics"]["seconds/fit"] - train - validation
        return {"seconds/train": train, "seconds/validation": validation, "seconds/between": max(rest, 0.0)}

    def seconds_to(self, accuracy: float) -> float | None:
        """Seconds of the epochs up to the first whose validation reaches an accuracy; None if none does."""
        reached = 0.0
        epochs = self.summary["by_epoch"]
        for seconds, validated in zip(epochs["seconds/epoch"], epochs["val/accuracy"], strict=True):
            reached += seconds
            if validated is not None and validated >= accuracy:
                return reached
        return None


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """The finished runs in and under folders, in the order of the folders and then of their paths, since a copy of a run
    keeps no times. What cannot be read is named and left out.

    Raises:
        SettingError: If a folder is not there, or holds no finished run that can be read.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise SettingError(f"logs names {folder}, which is no folder: name one that fit or study wrote to.")
        finished = list(folder.rglob(f"version_*/{SUMMARY}"))
        if folder.absolute().name.startswith("version_"):  # a run's own
            finished += folder.glob(SUMMARY)
        for path in sorted(finished):
            found.setdefault(path.resolve(), path)  # a folder may be named twice
    runs, unreadable = [], []
    for path in found.values():
        try:
            with blaming(str(path)):
                runs.append(_read(path.parent))
        except (SettingError, OSError) as error:
            unreadable.append(str(error))
    if not runs:
        reason = (
            unreadable[0] if unreadable else f"There is none ({SUMMARY}): run fit or study first, or ask for --paper."
        )
        raise SettingError(f"logs holds no finished run. {reason}")
    for reason in unreadable:
        print(f"left out  {reason}", file=sys.stderr)
    return runs


def mflop(settings: Mapping[str, Any]) -> float | None:
    """Millions of additions and multiplications that a training image costs, forward and backward, by the settings of
    `MNISTClassifier`; None if they are not given. What is cheap beside the products is not counted."""
    try:
        first, second = settings["model.channels"]
        kernel, pool, hidden = (int(settings[f"model.{name}"]) for name in ("kernel_size", "pool_size", "hidden"))
    except (KeyError, TypeError, ValueError):
        return None
    sides = [28 - kernel + 1, 28 - 2 * (kernel - 1)]
    conv1 = sides[0] ** 2 * kernel**2 * first
    rest = sides[1] ** 2 * kernel**2 * first * second + (sides[1] // pool) ** 2 * second * hidden + hidden * 10
    # Two operations a product and sum; backward computes the gradients of the weights and of the inputs, but not of the
    # images.
    return 2 * (2 * conv1 + 3 * rest) / 1e6


def _read(folder: Path) -> Run:
    summary, config = read_summary(folder), read_config(folder / CONFIG)
    settings = {name: value for name, value in flat(config).items() if not name.startswith(NO_COLUMN)}
    settings["network"] = summary.get("network", OURS)
    settings["trainer.precision"] = summary["machine"]["precision"]
    settings["trainer.max_epochs"] = summary["epochs"]
    settings["data.source"] = summary["data"]
    for part in MACHINE:
        if summary["machine"].get(part):
            settings[f"machine.{part}"] = summary["machine"][part]
    run = Run(folder, summary, settings)
    _check(run)
    return run


def _check(run: Run) -> None:
    """Makes sure of all that the report reads, so that one damaged run is left out and the others are reported."""
    summary, machine = run.summary, run.summary["machine"]
    int(summary["setup"].partition("x")[0])
    counts = {"cores": machine["cores"], **{name: summary[name] for name in ("batch_size", "seed", "epochs")}}
    numbers = [run.measured(), summary.get("neighbours", {}), *summary.get("calibration", {}).values()]
    texts = {"data": summary["data"], "network": run.network}
    kinds = [(int, counts), *((int | float, each) for each in numbers), (str, texts), (str | int | float, machine)]
    for kind, values in kinds:
        if wrong := [name for name, value in values.items() if not isinstance(value, kind)]:
            raise TypeError(f"{wrong[0]} is {values[wrong[0]]!r}")
    if any(len(each) != summary["epochs"] for each in summary["by_epoch"].values()):
        raise ValueError("by_epoch is not of all epochs")
    json.dumps(run.settings)  # a date or a set, which YAML has, is no setting
    if run.network == OURS:
        one, two = run.settings["model.dropout"]
        if mflop(run.settings) is None or not 0 <= one + two < 2:
            raise TypeError("model has no settings of the network")
