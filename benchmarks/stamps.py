"""A callback that times the steps of a Trainer as the other programs of this folder time theirs."""

import json
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from measure import LEAST_SECONDS, Clock


class Stamps(Callback):
    """Ends the fit after the epoch in which the timed steps have taken long enough.

    Args:
        batch_size: Of the steps.
        skip: Steps of the first epoch that are not timed.
        path: Where the line is written at the end, if anywhere.
    """

    def __init__(self, batch_size: int, skip: int = 0, path: str | None = None) -> None:
        self.batch_size, self.skip, self.path = batch_size, skip, path
        self.clock = Clock()

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.clock.start_epoch()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, index: int) -> None:
        self.clock.step()
        if trainer.global_step == self.skip:
            self.clock = Clock()
            self.clock.start_epoch()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        # All processes must agree.
        trainer.should_stop = trainer.strategy.broadcast(self.clock.seconds >= LEAST_SECONDS)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.path and trainer.is_global_zero:
            Path(self.path).write_text(json.dumps(self.clock.line(self.batch_size)))
