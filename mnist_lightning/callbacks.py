"""The wall clock of the experiment, whole epochs, and signals that stop it."""

import math
import signal
import statistics
import threading
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.callbacks.timer import Interval

from mnist_lightning.data import data_module
from mnist_lightning.durability.signals import SIGNALS, stop_on_signals
from mnist_lightning.errors import SettingError
from mnist_lightning.measure.clock import now


class WallClock(Callback):
    """Seconds of wall clock on the slowest process, logged at the end of each epoch.

    `seconds/train_epoch` ends where validation starts. `seconds/val_epoch` is the validation. `seconds/epoch` is the sum
    of the two. `seconds/fit` runs from the first batch asked for to the end of the last epoch; it includes what happens
    between epochs and excludes the start-up. `images_per_second` is the number of training images divided by
    `seconds/train_epoch`. The device is synchronised at these moments only. A resumed run counts on from its checkpoint.
    """

    def __init__(self) -> None:
        self.fit = 0.0
        self.resumed = False
        self.begin = 0.0
        self.epochs: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.begin = now(trainer.strategy.root_device) - self.fit

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.validated: tuple[float, float] | None = None
        self.epoch_begin = now(trainer.strategy.root_device)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.validation_begin = now(trainer.strategy.root_device)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.validated = self.validation_begin, now(trainer.strategy.root_device)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        end = now(trainer.strategy.root_device)
        train_end, val_end = self.validated or (end, end)
        seconds = torch.tensor(
            [train_end - self.epoch_begin, val_end - self.epoch_begin, end - self.begin], device=module.device
        )
        train, epoch, self.fit = trainer.strategy.reduce(seconds, reduce_op="max").tolist()
        # The longest validation would count twice what it waits for the slowest training.
        times = {"seconds/train_epoch": train, "seconds/val_epoch": epoch - train, "seconds/epoch": epoch}
        batches, data = trainer.fit_loop.epoch_loop.batch_progress.current.completed, data_module(trainer)
        times["images_per_second"] = min(batches * data.batch_size, len(data.train_digits)) / train
        self.epochs.append(times)
        for logger in trainer.loggers:
            logger.log_metrics(times, step=trainer.current_epoch + 1)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"seconds/fit": self.fit}, step=len(self.epochs))

    def by_epoch(self) -> dict[str, list[float]]:
        """Each of the times, epoch by epoch."""
        names = self.epochs[0] if self.epochs else {}
        return {name: [epoch[name] for epoch in self.epochs] for name in names}

    def medians(self) -> dict[str, float]:
        """The median over the epochs of each of the times."""
        return {name: statistics.median(values) for name, values in self.by_epoch().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"fit": self.fit, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.fit, self.epochs, self.resumed = state["fit"], list(state["epochs"]), bool(state["epochs"])


class WholeEpochs(Callback):
    """Ends a fit with an epoch, and validates the last one, so that a run's last numbers are those of its last weights.

    `max_time` ends a fit at the end of the epoch in which the time runs out. An epoch that was cut short, or whose loss is
    not finite, ends it with an error before its checkpoint is written, and the run has no summary.
    """

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Timer):
                callback._interval = Interval.epoch  # it is the step unless a user has chosen

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.validated_every = trainer.check_val_every_n_epoch
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        trainer.check_val_every_n_epoch = self.validated_every
        epoch = trainer.current_epoch + 1
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            raise SettingError(f"Epoch {epoch} was cut short by a callback: let it stop at the end of an epoch.")
        found = dict(trainer.callback_metrics)
        if metrics := getattr(module, "train_metrics", None):  # Lightning has those of the epoch before
            found = {"train/loss": metrics["loss"].compute()} | {n: found[n] for n in found if n != "train/loss"}
        for name, loss in found.items():
            if name.endswith("loss") and not math.isfinite(loss):
                raise SettingError(f"{name} of epoch {epoch} is {loss:.4g}: give a smaller model.learning_rate.")

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.fit_loop.epoch_progress.current.ready == 0:
            raise SettingError("Nothing was trained: trainer.max_epochs, max_time or limit_train_batches is too small.")


class StopSignals(Callback):
    """Lets SIGINT and SIGTERM end a fit in an orderly way, and restores the handlers at the end of the fit.

    Lightning sets a handler for SIGTERM at the start of each stage. That handler waits for the other processes, which
    may never answer. In another thread than the main one nothing is done, since Python sets handlers only there.
    """

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if threading.current_thread() is threading.main_thread():
            self.before = {signum: signal.getsignal(signum) for signum in SIGNALS}
            # With several processes Lightning asks all of them at each step whether one got SIGTERM, and waits for the
            # answer. It is always no, since the handler that would set the flag is replaced here.
            vars(trainer.fit_loop.epoch_loop)["_broadcast_sigterm_tensor"] = lambda: None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.before:
            stop_on_signals()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # they were held back while the processes started

    on_validation_start = on_test_start = on_predict_start = on_train_start  # type: ignore[assignment]

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, module, "")
