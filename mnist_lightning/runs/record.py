"""What ran and what came of it. docs/timing.md lists what happens before the summary is written."""

import os
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lightning.callbacks import WallClock
from mnist_lightning.data import data_module, evaluated_images
from mnist_lightning.measure.calibration import Calibration
from mnist_lightning.measure.machine import describe_machine
from mnist_lightning.measure.neighbours import Neighbours
from mnist_lightning.run_files import SUMMARY, command_line
from mnist_lightning.runs.folder import run_folder
from mnist_lightning.runs.loggers import setup_name
from mnist_lightning.runs.summary import closing_table, read_summary, write_summary
from mnist_lightning.speed.warm_up import WarmUp

VALIDATION = ("val/loss", "val/accuracy")


class RunRecord(Callback):
    """Logs what runs at the start of a fit; writes `summary.json` and prints the closing table at its end."""

    def __init__(self, clock: WallClock, warm_up: WarmUp, calibration: Calibration, neighbours: Neighbours) -> None:
        self.clock, self.warm_up, self.calibration, self.neighbours = clock, warm_up, calibration, neighbours
        self.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        self.record: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        self.validations: dict[int, dict[str, float]] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self.trainer = trainer

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        data = data_module(trainer)
        self.record = {
            "setup": setup_name(trainer),
            "batch_size": data.batch_size,
            "seed": data.seed,
            "network": type(module).__name__,
            "convolutions": "step.cpp" if getattr(module, "fused", False) else "PyTorch",  # several times slower
            "data": data.name,
            "data_fingerprint": data.fingerprint,
            "train_images": len(data.train_digits),
            "test_images": len(data.test_digits),
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "machine": describe_machine(trainer.strategy.root_device, str(trainer.precision), self.load),
            "calibration": {"before": self.calibration.before},
        }
        for logger in trainer.loggers:
            logger.log_hyperparams(self.record)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            now = self._last_metrics()
            self.validations[trainer.current_epoch] = {name: now[name] for name in now if name in VALIDATION}

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        run = run_folder(trainer)
        # A finished run that was resumed and had nothing left to do keeps its summary.
        summary = read_summary(run) if run is not None and (run / SUMMARY).exists() else None
        if summary is None or summary["epochs"] != len(self.clock.epochs):
            summary = self.summary()
            if run is not None:
                for logger in trainer.loggers:
                    logger.save()  # before the summary, since a run that has one is complete
                write_summary(run, summary)
        print(closing_table(summary, run), flush=True)

    def state_dict(self) -> dict[str, Any]:
        """The metrics that a resumed run starts from. Lightning calls it on all processes."""
        return {"metrics": self._last_metrics(), "validations": self.validations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.metrics, self.validations = state["metrics"], dict(state["validations"])

    def summary(self) -> dict[str, Any]:
        """The run as one dictionary: the record, the command, the last metrics and the times."""
        trainer, epochs = self.trainer, len(self.clock.epochs)
        # None where an epoch had no validation.
        validated = {
            name: [self.validations.get(epoch, {}).get(name) for epoch in range(epochs)] for name in VALIDATION
        }
        last = {name: value for name, value in self._last_metrics().items() if name not in VALIDATION}
        seconds = {"seconds/fit": self.clock.fit, "seconds/warm_up": self.warm_up.seconds}
        return {
            **self.record,
            "validated_images": evaluated_images(trainer, "validate"),
            "calibration": {"before": self.calibration.before, "after": self.calibration.after},
            "neighbours": self.neighbours.cores,
            "command": command_line(),
            "resumed": self.clock.resumed,
            "epochs": epochs,
            "steps": trainer.global_step,
            "metrics": {**last, **self.validations.get(epochs - 1, {}), **seconds},
            "median": self.clock.medians(),
            "by_epoch": self.clock.by_epoch() | validated,
        }

    def _last_metrics(self) -> dict[str, float]:
        return self.metrics | {name: float(value) for name, value in self.trainer.callback_metrics.items()}
