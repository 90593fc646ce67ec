"""What a fit shows while it trains: a bar in a terminal, lines in a file."""

import sys
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar


class Bar(TQDMProgressBar):
    """Lightning's bar with the loss of the last batch, drawn seldom, so that steps stay fast."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=20)
        self.outputs: Mapping[str, Any] = {}

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, *place: Any) -> None:
        self.outputs = outputs or {}
        super().on_train_batch_end(trainer, module, outputs, *place)

    def get_metrics(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        shown = super().get_metrics(trainer, module)
        loss = {"loss": f"{float(self.outputs['loss']):.4f}"} if "loss" in self.outputs else {}
        return loss | {name: shown[name] for name in shown if name != "v_num"}


class EpochLines(Callback):
    """A line on standard error for each epoch, when its checkpoint is there, so that whoever reads it may stop the run.

    It takes the place of the bar where there is no terminal, and a bar would fill a file.
    """

    shows, ended = False, ""

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        bar = trainer.progress_bar_callback
        if isinstance(bar, TQDMProgressBar) and not (sys.stdout is not None and sys.stdout.isatty()):
            self.shows = trainer.is_global_zero
            bar.disable()

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.ended and self.shows:
            print(self.ended, file=sys.stderr, flush=True)
        self.ended = ""

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        accuracy = trainer.callback_metrics.get("val/accuracy")
        told = "" if accuracy is None else f": val accuracy {accuracy:.4f}"
        self.ended = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{told}"

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.on_train_epoch_start(trainer, module)
