"""The finished runs in folders of logs, and one tidy table of what they measured."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mnist_lightning.errors import SettingError
from mnist_lightning.parsing.config_file import flat
from mnist_lightning.runs.identity import NOT_THE_RUN, SETUP
from mnist_lightning.runs.layout import CONFIG, SUMMARY

# Settings that make no column of the report: they are a run's row, its seed, its setup or its place.
NO_COLUMN = ("seed_everything", "model.seed", "data.seed", "data.batch_size", *SETUP, *NOT_THE_RUN)
MACHINE = ("processor", "cores", "threads", "gpu")  # if one of these differs, the times are those of another machine
OF_A_SETUP = ("machine.threads", "machine.gpu")  # two setups on one machine may differ in these
SHORT = {"32-true": "fp32", "bf16-mixed": "bf16", "64-true": "fp64", "16-mixed": "fp16"}
PLACE = ["column", "setup", "precision", "batch_size", "seed", "metric"]
OURS = "MNISTClassifier"  # the network of runs that do not name theirs
TARGET = 0.99  # accuracy; the report tells when it is first reached

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
        values |= {f"step/{part}": value for part, value in summary.get("step_seconds", {}).items()}
        values["images"] = summary["epochs"] * summary["train_images"]
        if (reached := self.seconds_to(TARGET)) is not None:
            values["seconds/to_99"] = reached
        return values

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
    """The finished runs in and under folders; of equal runs with one seed the newest.

    Raises:
        SettingError: If a folder is not there, a run cannot be read, or there is no finished run.
    """
    runs: dict[str, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise SettingError(f"logs names {folder}, which is no folder: name one that fit or study wrote to.")
        finished = list(folder.rglob(f"version_*/{SUMMARY}"))
        if folder.absolute().name.startswith("version_"):  # a run's own
            finished += folder.glob(SUMMARY)
        for path in sorted(finished, key=lambda path: path.stat().st_mtime):
            run = _read(path)
            identity = [run.summary["setup"], run.summary["batch_size"], run.summary["seed"], run.settings]
            runs[json.dumps(identity, sort_keys=True)] = run
    if not runs:
        raise SettingError(f"logs holds no finished run ({SUMMARY}): run fit or study first, or ask for --paper.")
    return list(runs.values())


def tidy(runs: Iterable[Run]) -> pd.DataFrame:
    """One row a run and metric, in the paper's order of setups; `column` is as `labelled` gives it."""
    rows = [
        {
            "column": label,
            "setup": run.summary["setup"],
            "precision": run.summary["machine"]["precision"],
            "batch_size": run.summary["batch_size"],
            "seed": run.summary["seed"],
            "metric": metric,
            "value": float(value),
            "commit": run.summary["machine"].get("commit", ""),
        }
        for label, run in labelled(runs)
        for metric, value in run.measured().items()
    ]
    table = pd.DataFrame(rows, columns=[*PLACE, "value", "commit"])
    return table.sort_values(PLACE[1:], key=_order, kind="stable").sort_values(
        ["setup", "column"], key=_order, kind="stable"
    )


def labelled(runs: Iterable[Run]) -> list[tuple[str, Run]]:
    """The runs with the report's column that each is in: its setup, and those of its settings that differ among them."""
    runs = list(runs)
    names = sorted({name for run in runs for name in run.settings})
    differing = [name for name in names if _differs(name, runs)]
    return [(_label(run, differing), run) for run in runs]


def setup_order(setup: str) -> tuple[bool, int]:
    """Sorts as the paper's columns: the processor first, then one device before two."""
    devices, _, kind = setup.partition("x")
    return kind != "cpu", int(devices)


def _order(values: pd.Series) -> pd.Series:
    return values.map(setup_order) if values.name == "setup" else values


def _differs(name: str, runs: Iterable[Run]) -> bool:
    values = defaultdict(set)
    for run in runs:
        # Values that follow from the setup or from the network are compared only within one setup or network.
        of = run.summary["setup"] if name in OF_A_SETUP else run.network if name.startswith("model.") else None
        values[of].add(json.dumps(run.settings.get(name)))
    return any(len(each) > 1 for each in values.values())


def _label(run: Run, differing: Iterable[str]) -> str:
    parts = [run.summary["setup"]]
    for name in differing:
        value = run.settings.get(name)
        if value is None and (name in OF_A_SETUP or name.startswith("model.")):
            continue
        short = {"trainer.precision": SHORT.get(str(value)), "network": value}.get(name)
        parts.append(short or f"{name.rpartition('.')[2]} {json.dumps(value)}")
    return ", ".join(parts)


def _read(path: Path) -> Run:
    try:
        summary = json.loads(path.read_text())
        config = yaml.load(path.with_name(CONFIG).read_text(), Loader=_LOADER)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingError(f"logs holds {path.parent}, which cannot be read ({error}): remove it.") from error
    settings = {name: value for name, value in flat(config).items() if not name.startswith(NO_COLUMN)}
    settings["network"] = summary.get("network", OURS)
    settings["trainer.precision"] = summary["machine"]["precision"]
    settings["trainer.max_epochs"] = summary["epochs"]
    settings["data.source"] = summary["data"]
    for part in MACHINE:
        if summary["machine"].get(part):
            settings[f"machine.{part}"] = summary["machine"][part]
    return Run(path.parent, summary, settings)
