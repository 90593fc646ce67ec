"""The finished runs in folders of logs, and what each measured."""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from mnist_lightning.errors import SettingError, blaming
from mnist_lightning.run_files import CONFIG, SUMMARY
from mnist_lightning.runs.config import FREE, SETUP, flat, read_config
from mnist_lightning.runs.summary import read_summary

# Settings that make no column of the report: they are a run's row, its seed, its setup or its place.
NO_COLUMN = ("seed_everything", "model.seed", "data.seed", "data.batch_size", *SETUP, *FREE)
OURS = "MNISTClassifier"  # the network of runs that do not name theirs
TESTED = 10_000  # test images, by which errors are counted
TARGET = 0.99  # accuracy; the report tells when it is first reached


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its `summary.json`, and its settings by dotted name."""

    summary: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def rate(self) -> float:
        """GFLOP/s in fp32, the mean of before and after the run; NaN if it was not calibrated."""
        found = [each["fp32_gflops"] for each in self.summary.get("calibration", {}).values() if "fp32_gflops" in each]
        return sum(found) / len(found) if found else math.nan

    def measured(self) -> dict[str, float]:
        """Every number of the run, by name."""
        summary, epochs = self.summary, self.summary["by_epoch"]
        found = {**summary["metrics"], "steps": summary["steps"], "parameters": summary["parameters"]}
        found |= {f"median/{name}": value for name, value in summary["median"].items()}
        if "seconds/train_epoch" in epochs and not summary.get("resumed"):
            found["seconds/train"] = sum(epochs["seconds/train_epoch"])
        if (accuracy := summary["metrics"].get("val/accuracy")) is not None:
            found["errors"] = self.errors(accuracy)
        reached = [seconds for seconds, accuracy in self.curve() if accuracy >= TARGET]
        return found | ({"seconds/to_99": reached[0]} if reached else {})

    def errors(self, accuracy: float) -> float:
        """Of 10,000 test images: a count, which a float of 32 bits does not quite give back."""
        images = self.summary.get("test_images", TESTED)
        return round((1 - accuracy) * images) * TESTED / images

    def validated(self) -> list[tuple[int, float, float]]:
        """Epoch, accuracy and loss of each validation."""
        epochs = self.summary["by_epoch"]
        each = zip(*(epochs.get(f"val/{name}", ()) for name in ("accuracy", "loss")), strict=False)
        return [(epoch, *values) for epoch, values in enumerate(each, 1) if None not in values]

    def late(self) -> list[dict[str, float]]:
        """Epoch, errors and loss of the second half of the epochs."""
        late = [each for each in self.validated() if each[0] > self.summary["epochs"] / 2]
        return [{"epoch": epoch, "errors": self.errors(accuracy), "val/loss": loss} for epoch, accuracy, loss in late]

    def curve(self) -> list[tuple[float, float]]:
        """Seconds up to the end of each epoch that was validated, and its accuracy."""
        reached = list(accumulate(self.summary["by_epoch"]["seconds/epoch"]))
        return [(reached[epoch - 1], accuracy) for epoch, accuracy, _ in self.validated()]


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
        reason = [*unreadable, f"There is none ({SUMMARY}): run fit or study first, or ask for --paper."][0]
        raise SettingError(f"logs holds no finished run. {reason}")
    for reason in unreadable:
        print(f"left out  {reason}", file=sys.stderr)
    return runs


def _read(folder: Path) -> Run:
    """A run, if it has all that the report reads, so that one damaged run is left out and the others are reported."""
    summary, config = read_summary(folder), read_config(folder / CONFIG)
    machine, epochs = summary["machine"], summary["by_epoch"].values()
    settings = {name: value for name, value in flat(config).items() if not name.startswith(NO_COLUMN)}
    settings |= {"network": summary.get("network", OURS), "data.source": summary["data"]}
    settings |= {"trainer.precision": machine["precision"], "trainer.max_epochs": summary["epochs"]}
    settings["program"] = summary.get("program", "")  # another one than ours may leave runs of the same form
    settings |= {f"machine.{part}": machine[part] for part in ("threads", "gpu") if machine.get(part)}
    settings |= {name: summary[name] for name in ("convolutions",) if name in summary}  # by whom, on a CPU
    json.dumps(settings)  # a date or a set, which YAML has, is no setting
    if settings["network"] == OURS:
        settings["model.channels"], settings["model.hidden"]
    run = Run(summary, settings)
    int(summary["setup"].partition("x")[0]), summary["neighbours"]["other_cores"] + 0
    counts = [machine["cores"], *(summary[name] for name in ("batch_size", "seed", "epochs"))]
    numbers = [
        *run.measured().values(),
        *(rate for each in summary.get("calibration", {}).values() for rate in each.values()),
    ]
    texts = [summary["data"], settings["network"], *map(str, machine.values())]
    for kind, values in ((int, counts), (int | float, numbers), (str, texts)):
        if wrong := [value for value in values if not isinstance(value, kind)]:
            raise TypeError(f"{wrong[0]!r} is no {kind}")
    if any(len(each) != summary["epochs"] for each in epochs):
        raise ValueError("by_epoch is not of all epochs")
    return run
