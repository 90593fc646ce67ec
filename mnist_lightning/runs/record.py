"""A run's folder: its name, its record and its summary."""

import contextlib
import json
import os
import shlex
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lightning.callbacks import WallClock
from mnist_lightning.durability.locks import alone_in, hold
from mnist_lightning.errors import SettingError
from mnist_lightning.measure.machine import describe_machine
from mnist_lightning.runs.layout import SUMMARY

VALIDATION = ("val/loss", "val/accuracy")
LOGGER = {
    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
    # The name is filled in from what runs; see place_loggers.
    "init_args": {"save_dir": "logs", "name": None, "default_hp_metric": False},
}
KEEPERS = ("TensorBoardLogger", "CSVLogger")  # loggers whose runs are folders: save_dir, name, version
NAME_ELSEWHERE = {"WandbLogger": "name", "MLFlowLogger": "run_name"}  # the setting that a run's name is
LIGHTNINGS_NAME = "lightning_logs"  # what Lightning's loggers are called unless told otherwise


def run_of_checkpoint(checkpoint: str | None) -> Path | None:
    """The folder of the run that wrote a checkpoint, if it lies in one."""
    if checkpoint is None:
        return None
    # Not resolved: Lightning compares the checkpoint's folder with the saved one as text.
    run = Path(checkpoint).parent.parent
    return run if (run / "config.yaml").is_file() else None


def place_loggers(settings: Namespace, run: Path | None, name: str, purge_step: int | None) -> None:
    """Gives the loggers of a Trainer's settings their folder: that of a run to go on in, or a new version of a name.

    Where none of them keeps folders of versions, as Weights & Biases and MLflow do not, TensorBoard's does it beside them.

    Args:
        settings: The Trainer's; changed in place.
        run: The folder of the run to go on in.
        name: As `run_name` gives it; the user's own name for a logger wins.
        purge_step: The first epoch that a resumed run writes again.

    Raises:
        SettingError: If the folder cannot be written to, or a logger cannot go on in it.
    """
    loggers = settings.logger if isinstance(settings.logger, list) else [settings.logger]
    if not all(isinstance(logger, Namespace) for logger in loggers):
        return
    keepers = [logger for logger in loggers if _kind(logger) in KEEPERS] or [_tensorboard()]
    others = [logger for logger in loggers if _kind(logger) not in KEEPERS]
    # Lightning writes checkpoints and the config to the first one's folder.
    settings.logger = [*keepers, *others] if len(loggers) > 1 or others else keepers[0]
    for logger in others:
        title = NAME_ELSEWHERE.get(_kind(logger))
        if title and logger.init_args.get(title) in (None, LIGHTNINGS_NAME):
            logger.init_args[title] = name
    for logger in keepers:
        place = logger.init_args
        if run is None:
            place.name = name if place.get("name") in (None, LIGHTNINGS_NAME) else place.name
        elif _kind(logger) == "CSVLogger":
            raise SettingError(
                "trainer.logger CSVLogger would overwrite the run's metrics.csv: name another logger."
            )
        else:
            place.save_dir, place.name, place.version = str(run.parent), "", run.name
            place.purge_step = purge_step
        refuse_unwritable(Path(place.save_dir) / place.name, "trainer.logger.init_args.save_dir")


def _kind(logger: Namespace) -> str:
    return logger.class_path.rpartition(".")[2]


def _tensorboard() -> Namespace:
    settings = Namespace(**LOGGER["init_args"])
    return Namespace(class_path=LOGGER["class_path"], init_args=settings)


def run_folder(trainer: Trainer) -> Path | None:
    """The folder that a Trainer's run is written to, if any; unlike `Trainer.log_dir` one process alone may ask."""
    folders = [logger.log_dir for logger in trainer.loggers if getattr(logger, "log_dir", None)]
    return Path(folders[0]) if folders and not trainer.fast_dev_run else None


def reserve_run_folder(trainer: Trainer) -> list[Path]:
    """Makes the folder of a new run, which no other run gets, started at the same moment or not.

    Args:
        trainer: Its loggers choose the next version.

    Returns:
        What was made: the run's folder and those above it. Nothing if no logger has a folder.

    Raises:
        SettingError: If the folder that the user named is there already.
    """
    roots = [logger.root_dir for logger in trainer.loggers if getattr(logger, "root_dir", None)]
    if not roots or trainer.fast_dev_run:
        return []
    root = Path(roots[0])
    above = [path for path in (root, *root.parents) if not path.exists()]
    while True:
        with contextlib.suppress(FileNotFoundError):  # another run failed, and took the empty folders with it
            root.mkdir(parents=True, exist_ok=True)
            with alone_in(root):
                # A version is chosen when it is first asked for, and all loggers are to choose the same.
                folders = [
                    Path(logger.log_dir) for logger in trainer.loggers if getattr(logger, "root_dir", None)
                ]
                folders[0].mkdir()
                hold(folders[0])
                return [folders[0], *above]


def drop_run_folder(made: list[Path]) -> None:
    """Removes the folder of a run, and those above it that were made for it and are empty."""
    shutil.rmtree(made[0], ignore_errors=True)
    with contextlib.suppress(OSError):  # another run has come into them
        for folder in made[1:]:
            folder.rmdir()


class RunRecord(Callback):
    """Writes what ran into the run's hyperparameters and its checkpoints, and makes the summary of it.

    Args:
        setup: Name of the setup, such as `1xcpu`.
        load: The machine's load average before the run.
    """

    def __init__(self, setup: str, load: float) -> None:
        self.setup_name, self.load = setup, load
        self.record: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        self.validations: dict[int, dict[str, float]] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self.trainer = trainer

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        data = trainer.datamodule
        self.record = {
            "setup": self.setup_name,
            "batch_size": data.batch_size,
            "seed": data.seed,
            "data": data.found,
            "data_fingerprint": data.fingerprint,
            "train_images": len(data.train_digits),
            "test_images": len(data.test_digits),
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "machine": describe_machine(trainer.strategy.root_device, str(trainer.precision), self.load),
        }
        for logger in trainer.loggers:
            logger.log_hyperparams(self.record)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        run = run_folder(trainer)
        if run is not None and trainer.is_global_zero:
            (run / SUMMARY).unlink(missing_ok=True)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            now = self._last_metrics()
            self.validations[trainer.current_epoch] = {name: now[name] for name in now if name in VALIDATION}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must be, and the metrics that it starts from; called on all processes."""
        return {
            "setup": self.setup_name,
            "precision": str(self.trainer.precision),
            "metrics": self._last_metrics(),
            "validations": self.validations,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.metrics, self.validations = state["metrics"], dict(state["validations"])

    def summary(
        self, clock: WallClock, warm_up: float, neighbours: dict[str, float], step_seconds: dict[str, float]
    ) -> dict[str, Any]:
        """The finished run as one dictionary: the record, the command, the last metrics and the times.

        Args:
            clock: Its times by epoch.
            warm_up: Seconds before the clock started.
            neighbours: Cores that others kept busy.
            step_seconds: Where a step's time went.
        """
        trainer, metrics = self.trainer, self._last_metrics()
        # None where an epoch had no validation.
        validated = {
            name: [self.validations.get(epoch, {}).get(name) for epoch in range(trainer.current_epoch)]
            for name in VALIDATION
        }
        return {
            **self.record,
            "neighbours": neighbours,
            "command": command_line(),
            "resumed": clock.resumed,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "metrics": {**metrics, "seconds/fit": clock.fit, "seconds/warm_up": warm_up},
            "median": median_times(clock),
            "by_epoch": _by_epoch(clock) | validated,
            "step_seconds": step_seconds,
        }

    def _last_metrics(self) -> dict[str, float]:
        now = {name: float(value) for name, value in self.trainer.callback_metrics.items() if name != "step"}
        return {**self.metrics, **now}


def command_line() -> str:
    """What the user typed, as it may be typed again."""
    return shlex.join(["python", "-m", "mnist_lightning", *sys.argv[1:]])


def median_times(clock: WallClock) -> dict[str, float]:
    """The median of each of the clock's times over the epochs."""
    return {name: statistics.median(values) for name, values in _by_epoch(clock).items()}


def _by_epoch(clock: WallClock) -> dict[str, list[float]]:
    names = clock.epochs[0] if clock.epochs else {}
    return {name: [epoch[name] for epoch in clock.epochs] for name in names}


def write_summary(run: Path, summary: dict[str, Any]) -> None:
    """Writes `summary.json` whole or not at all: that it is there is what finished means."""
    part = run / f".{SUMMARY}"
    part.write_text(json.dumps(summary, indent=2) + "\n")
    os.replace(part, run / SUMMARY)


def read_summary(run: Path) -> dict[str, Any] | None:
    """The summary of a run, if it has finished."""
    path = run / SUMMARY
    return json.loads(path.read_text()) if path.exists() else None


def closing_table(summary: dict[str, Any], run: Path | None) -> str:
    """The paper's three lines, and what to do with the run."""
    metrics = summary["metrics"]
    loss, accuracy = (metrics.get(f"val/{name}") for name in ("loss", "accuracy"))
    sample = "" if summary["data"] == "mnist" else "  (sample data: not comparable with the paper)"
    cell = f"{summary['setup']}, batch size {summary['batch_size']}, seed {summary['seed']}"
    lines = [
        "",
        f"  {cell}, {summary['epochs']} epoch{'s' * (summary['epochs'] != 1)}{sample}",
        f"  Training time  {metrics['seconds/fit']:10.2f} s  (and {metrics['seconds/warm_up']:.2f} s of warming up before)",
        f"  Test loss      {'—' if loss is None else format(loss, '.5f'):>10}",
        f"  Test accuracy  {'—' if accuracy is None else format(accuracy, '.4f'):>10}",
    ]
    if run is not None:
        lines += ["", f"  run    {run}"]
        if any(run.glob("events.out.tfevents.*")):
            lines += [f"  look   tensorboard --logdir {shlex.quote(str(run))}"]
        lines += [
            f"  rerun  python -m mnist_lightning fit --config {shlex.quote(str(run / 'config.yaml'))}",
        ]
    return "\n".join(lines)


def refuse_unwritable(folder: Path, setting: str) -> None:
    """Makes sure that a folder, or the nearest one above it that is there, can be written to; makes none.

    Raises:
        SettingError: If it cannot.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise SettingError(
            f"{setting} is {folder}, but nothing can be written to {there} ({error.strerror}): name another folder."
        ) from error
