"""The wall clock of the experiment, the signals that stop it and the file of predictions."""

import csv
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from mnist_lightning.data import Batch
from mnist_lightning.stopping import stop_on_signals


class WallClock(Callback):
    """Seconds of wall clock, the slowest process's, logged by epoch.

    `seconds/train_epoch` ends where validation starts, `seconds/val_epoch` is the validation, `seconds/epoch` the
    two together; `seconds/fit` runs from the first batch asked for to the end of the last epoch, what lies between
    the epochs included, start-up and sanity check excluded; `images_per_second` are training images over
    `seconds/train_epoch`. The device is synchronised at these moments and at no other. A resumed run counts on from
    its checkpoint.
    """

    def __init__(self) -> None:
        self.fit = 0.0
        self.begin: float | None = None
        self.epochs: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.begin = self._now(trainer) - self.fit

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.images = 0
        self.validated: tuple[float, float] | None = None
        self.epoch_begin = self._now(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.images += batch.size

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.validation_begin = self._now(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.validated = self.validation_begin, self._now(trainer)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        end = self._now(trainer)
        train_end, val_end = self.validated or (end, end)
        seconds = torch.tensor(
            [train_end - self.epoch_begin, val_end - self.epoch_begin, end - self.begin], device=module.device
        )
        train, epoch, self.fit = trainer.strategy.reduce(seconds, reduce_op="max").tolist()
        # Not the longest validation: it waits for the slowest training, which would count twice.
        times = {"seconds/train_epoch": train, "seconds/val_epoch": epoch - train, "seconds/epoch": epoch}
        times["images_per_second"] = self.images / train
        self.epochs.append(times)
        for logger in trainer.loggers:
            logger.log_metrics(times, step=trainer.current_epoch + 1)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"seconds/fit": self.fit}, step=len(self.epochs))

    def state_dict(self) -> dict[str, Any]:
        return {"fit": self.fit, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.fit, self.epochs = state["fit"], list(state["epochs"])

    @staticmethod
    def _now(trainer: Trainer) -> float:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize(trainer.strategy.root_device)
        return perf_counter()


class StopSignals(Callback):
    """Takes SIGTERM back from Lightning, whose handler waits for the other processes, which may never come."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        stop_on_signals()

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        stop_on_signals()

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        stop_on_signals()

    def on_predict_start(self, trainer: Trainer, module: LightningModule) -> None:
        stop_on_signals()


class PredictionWriter(BasePredictionWriter):
    """Writes the predictions of all devices as one CSV file: index, label, prediction, probability.

    Args:
        path: The file that `predict` writes; one that is there is replaced.
    """

    def __init__(self, path: str = "predictions.csv") -> None:
        super().__init__(write_interval="epoch")
        self.path = Path(path)

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        columns = [torch.cat(column).tolist() for column in zip(*predictions, strict=True)]
        rows = list(zip(*columns, strict=True))
        if trainer.world_size > 1:
            shares: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(shares, rows)
            rows = [row for share in shares for row in share]
        if not trainer.is_global_zero:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w",
            newline="",
            encoding="utf-8",
            dir=self.path.parent,
            prefix=f".{self.path.name}-",
            delete=False,
        ) as file:
            writer = csv.writer(file)
            writer.writerow(["index", "label", "prediction", "probability"])
            for index, label, digit, probability in sorted(rows):
                writer.writerow([index, label, digit, f"{probability:.6f}"])
        os.chmod(file.name, 0o644)
        os.replace(file.name, self.path)
