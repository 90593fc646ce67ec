"""What a command shows in a terminal or a file, and messages that it does not show."""

import logging
import warnings
from collections.abc import Mapping

from lightning.pytorch import Trainer

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


def evaluation_table(metrics: Mapping[str, float], trainer: Trainer, stage: str) -> str:
    """Which images were evaluated, whether they were logged, and each metric on a line of its own."""
    data = data_module(trainer)
    seen, total = evaluated_images(trainer, stage), len(data.test_digits)
    part = "" if seen == total else f" of {total}"
    lines = [f"{'data':<14}{data.name}, {seen} images{part}{'' if trainer.loggers else ': not logged'}"]
    lines += [f"{name:<14}{value:.5f}" for name, value in metrics.items()]
    return "\n".join(lines)
