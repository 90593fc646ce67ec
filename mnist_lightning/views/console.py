"""What a command shows in a terminal or a file, and messages that it does not show."""

import logging
import sys
import warnings
from collections.abc import Mapping

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar

from mnist_lightning.data import data_module, evaluated_images

# Of Lightning: advertising, what the closing table says, and what the settings say.
NO_NEWS = (
    *("Tip:", "GPU available:", "TPU available:", "HPU available:", "that has Tensor Cores", "Seed set to"),
    *("No CUDA runtime is found", "stopped: `max_epochs="),
)
DECIDED_HERE = (
    ".*LeafSpec.*",  # a deprecation between Lightning and torch
    ".*does not have many workers.*",  # batches are slices of memory
    ".*is smaller than the logging interval.*",  # metrics are logged by epoch
    ".*exists and is not empty.*",  # a resumed run goes on in its own folder
    ".*Couldn't infer the batch indices.*",  # a batch carries them
    ".*The dirpath has changed.*",  # a run's folder may be moved
)


def silence_noise() -> None:
    """Silences these messages of Lightning and no others. Messages about the user's settings are shown."""
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.seed",
        "torch.utils.cpp_extension",
    ):
        logging.getLogger(name).addFilter(_is_news)
    for message in DECIDED_HERE:
        warnings.filterwarnings("ignore", message)


def _is_news(record: logging.LogRecord) -> bool:
    return not any(text in record.getMessage() for text in NO_NEWS)


def progress() -> Callback:
    """Lightning's bar in a terminal, and elsewhere a line an epoch. The bar is drawn seldom, so that steps stay fast."""
    # The bar is written on standard output, and the lines on standard error.
    return TQDMProgressBar(refresh_rate=20) if sys.stdout is not None and sys.stdout.isatty() else EpochLines()


class EpochLines(ProgressBar):
    """A line on standard error for each epoch, when its checkpoint is there, so that whoever reads it may stop the run."""

    shows, ended = True, ""

    def disable(self) -> None:
        """Lightning calls it on all processes but the first."""
        self.shows = False

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


def evaluation_table(metrics: Mapping[str, float], trainer: Trainer, stage: str) -> str:
    """Which images were evaluated, whether they were logged, and each metric on a line of its own."""
    data = data_module(trainer)
    seen, total = evaluated_images(trainer, stage), len(data.test_digits)
    part = "" if seen == total else f" of {total}"
    lines = [f"{'data':<14}{data.found}, {seen} images{part}{'' if trainer.loggers else ': not logged'}"]
    lines += [f"{name:<14}{value:.5f}" for name, value in metrics.items() if name != "step"]
    return "\n".join(lines)
