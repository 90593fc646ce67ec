"""A run is made of whole epochs, each of which has learned something."""

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.callbacks.timer import Interval

from mnist_lightning.data import data_module
from mnist_lightning.errors import SettingError
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.runs.layout import SUMMARY, run_of_checkpoint


class DivergedError(SettingError):
    """The loss of an epoch is not finite."""


class WholeEpochs(Callback):
    """Ends a fit with an epoch, and validates the last one, so that a run's last numbers are those of its last weights.

    `max_time` ends a fit at the end of the epoch in which the time runs out. The last epoch of `max_epochs` or `max_steps`
    is validated even if `check_val_every_n_epoch` leaves it out; `seconds/val_epoch` counts that validation as any other.

    An epoch that was cut short, or whose loss is not finite, ends the fit with an error before its checkpoint is written.
    The checkpoint of the epoch before is kept, and the run has no summary.
    """

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self.trained = False
        for timer in _timers(trainer):
            timer._interval = Interval.epoch  # it is the step unless a user has chosen
        if trainer.max_steps > 0:
            _count_in_epochs(trainer)

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        run = run_of_checkpoint(trainer.ckpt_path)
        finished = run is not None and (run / SUMMARY).exists()
        for timer in _timers(trainer) if finished else []:
            left, before = timer.time_remaining(), timer.time_elapsed()
            if left is not None and left <= 0:
                raise SettingError(
                    f"The time that trainer.max_time or a Timer gives is over, since the {before:.1f} seconds that the checkpoint "
                    "has trained count: give more."
                )

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.trained, self.validated_every = True, trainer.check_val_every_n_epoch
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_epoch_end(self, trainer: Trainer, module: MNISTClassifier) -> None:
        trainer.check_val_every_n_epoch = self.validated_every
        epoch = trainer.current_epoch + 1
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            raise SettingError(
                f"Epoch {epoch} was cut short at step {trainer.global_step}, by a callback that stops in mid-epoch: let it "
                "stop at the end of an epoch."
            )
        losses = {"train/loss": module.train_metrics["loss"].compute()}
        losses |= {name: value for name, value in trainer.callback_metrics.items() if name == "val/loss"}
        for name, loss in losses.items():
            if not math.isfinite(loss):
                rate = trainer.optimizers[0].param_groups[0]["lr"]
                raise DivergedError(
                    f"{name} of epoch {epoch} is {loss:.4g} with a learning rate of {rate:.4g}: give a smaller one."
                )

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.trained:
            # Lightning has counted one epoch too few if a checkpoint's run was told to stop before it went on.
            progress: Any = trainer.fit_loop.epoch_progress.current
            progress.completed = progress.processed
        if trainer.current_epoch == 0:
            raise SettingError(
                "Nothing was trained, since trainer.max_time or a callback told the fit to stop before its first epoch: give it "
                "more time."
            )


def _timers(trainer: Trainer) -> list[Timer]:
    return [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]


def _count_in_epochs(trainer: Trainer) -> None:
    """Turns `max_steps` into epochs, since Lightning resumes a fit in mid-epoch if it counts steps.

    Raises:
        SettingError: If `max_steps` does not end with an epoch.
    """
    batches, limit = len(data_module(trainer).train_dataloader()), trainer.limit_train_batches
    trained = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    steps = max(1, math.ceil(trained / trainer.accumulate_grad_batches))  # there is a step after the last batch, too
    epochs, rest = divmod(trainer.max_steps, steps)
    if rest:
        raise SettingError(
            f"trainer.max_steps is {trainer.max_steps}, but an epoch has {steps} steps, and a run is made of whole epochs: "
            "give a multiple, or make the epoch shorter with trainer.limit_train_batches."
        )
    most = trainer.max_epochs
    trainer.fit_loop.max_epochs = epochs if most in (None, -1) else min(epochs, most)
    trainer.fit_loop.epoch_loop.max_steps = -1
