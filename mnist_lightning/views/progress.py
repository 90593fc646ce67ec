"""Shows the progress of a whole fit: a bar in a terminal, elsewhere a line for each epoch."""

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from mnist_lightning.speed.empty_hooks import leave_steps_alone


class FitProgress(ProgressBar):
    """One bar over all epochs, with the epoch, the last validation accuracy and the time left.

    It counts in Python and draws at most twice a second, so that a step costs less than a microsecond. If standard error
    is not a terminal, it prints a line for each epoch instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True
        self.bar: tqdm | None = None
        self.accuracy = "—"
        self.ended = ""

    def enable(self) -> None:
        self.enabled = True

    def disable(self) -> None:
        """Lightning calls it on all processes but the first."""
        self.enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        if self.enabled:
            tqdm.write(" ".join(map(str, args)), file=sys.stderr)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.enabled and sys.stderr.isatty():
            batches, epochs = trainer.num_training_batches, trainer.max_epochs or 0
            self.bar = tqdm(
                total=batches * epochs if epochs > 0 else None,
                initial=batches * trainer.current_epoch,
                mininterval=0.5,
                dynamic_ncols=True,
                unit="step",
            )

        if self.bar is None:
            leave_steps_alone(self, FitProgress)

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._say_ended()
        self.accuracy = "—"
        if self.bar is not None:
            self.bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", refresh=False)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is not None:
            self.bar.update()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if "val/accuracy" in trainer.callback_metrics:
            self.accuracy = f"{trainer.callback_metrics['val/accuracy']:.4f}"

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str(f"val accuracy {self.accuracy}")
        elif self.enabled:
            self.ended = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: val accuracy {self.accuracy}"

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._say_ended()
        self._close()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _say_ended(self) -> None:
        """Tells the end of an epoch when its checkpoint is there, so that whoever reads it may stop the run."""
        if self.ended:
            print(self.ended, file=sys.stderr, flush=True)
        self.ended = ""

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
