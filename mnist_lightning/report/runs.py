"""The finished runs in folders of logs, and what each measured."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any

from mnist_lightning.errors import SettingError, blaming
from mnist_lightning.run_files import CONFIG, SUMMARY
from mnist_lightning.runs.config import FREE, SETUP, flat, read_config
from mnist_lightning.runs.summary import read_summary

# Settings that make no column of the report: they are a run's row, its seed, its setup or its place.
NO_COLUMN = ("seed_everything", "model.seed", "data.seed", "data.batch_size", *SETUP, *FREE)
OURS = "MNISTClassifier"  # the network of runs that do not name theirs
TESTED = 10_000  # test images, by which errors are counted


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run: its `summary.json`, its settings by dotted name, and every number of the whole run by name."""

    summary: Mapping[str, Any]
    settings: Mapping[str, Any]
    measured: Mapping[str, float]
    epochs: Sequence[Mapping[str, float]]  # each that was validated: its number, the seconds to its end, errors, loss
    rate: float  # GFLOP/s in fp32, the mean of before and after the run; NaN if it was not calibrated


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
        for path in sorted(folder.rglob(SUMMARY)):
            if path.absolute().parent.name.startswith("version_"):
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
    machine = summary["machine"]
    settings = {name: value for name, value in flat(config).items() if not name.startswith(NO_COLUMN)}
    settings |= {"network": summary.get("network", OURS), "data.source": summary["data"]}
    settings |= {"trainer.precision": machine["precision"], "trainer.max_epochs": summary["epochs"]}
    settings["program"] = summary.get("program", "")  # another one than ours may leave runs of the same form
    known = {"convolutions": summary.get("convolutions"), **machine}
    settings |= {name: known[name] for name in ("code", "torch", "threads", "gpu", "convolutions") if known.get(name)}
    json.dumps(settings)  # a date or a set, which YAML has, is no setting
    if settings["network"] == OURS:
        settings["model.channels"], settings["model.hidden"]
    int(summary["setup"].partition("x")[0]), machine["processor"] + "", summary["neighbours"]["other_cores"] + 0
    if wrong := [name for name in ("batch_size", "seed", "epochs") if not isinstance(summary[name], int)]:
        raise TypeError(f"{wrong[0]} is no number")
    if any(len(each) != summary["epochs"] for each in summary["by_epoch"].values()):
        raise ValueError("by_epoch is not of all epochs")
    rates = [each["fp32_gflops"] for each in summary.get("calibration", {}).values() if "fp32_gflops" in each]
    return Run(summary, settings, _measured(summary), _epochs(summary), fmean(rates) if rates else math.nan)


def _measured(summary: Mapping[str, Any]) -> dict[str, float]:
    found = {**summary["metrics"], "steps": summary["steps"], "parameters": summary["parameters"]}
    found |= {f"median/{name}": value for name, value in summary["median"].items()}
    found["seconds/train"] = sum(summary["by_epoch"].get("seconds/train_epoch", ()))
    if "val/accuracy" in found:
        found["errors"] = _errors(summary, found["val/accuracy"])
    return {name: value + 0.0 for name, value in found.items()}


def _epochs(summary: Mapping[str, Any]) -> list[dict[str, float]]:
    found = summary["by_epoch"]
    seconds = accumulate(found["seconds/epoch"])
    each = zip(seconds, found.get("val/accuracy", ()), found.get("val/loss", ()), strict=False)
    return [
        {"epoch": epoch, "seconds": reached, "errors": _errors(summary, accuracy), "val/loss": loss + 0.0}
        for epoch, (reached, accuracy, loss) in enumerate(each, 1)
        if None not in (accuracy, loss)
    ]


def _errors(summary: Mapping[str, Any], accuracy: float) -> float:
    """Of 10,000 test images: a count, which a float of 32 bits does not quite give back."""
    images = summary.get("test_images", TESTED)
    return round((1 - accuracy) * images) * TESTED / images
