"""Messages that the console does not show."""

import logging
import os
import threading
import warnings

ADVERTISING = ("Tip:",)
SAID_BETTER = (
    "GPU available:",
    "TPU available:",
    "HPU available:",
    "that has Tensor Cores",  # what they may do is said by --tf32 and trainer.precision
    "Seed set to",
    "No CUDA runtime is found",  # torch's compiler, where a CUDA toolkit is and no GPU
    "stopped: `max_epochs=",
)  # by the closing table
DECIDED_HERE = (
    ".*LeafSpec.*",  # a deprecation between Lightning and torch
    ".*does not have many workers.*",  # batches are slices of memory
    ".*is smaller than the logging interval.*",  # metrics are logged by epoch
    "Checkpoint directory .* exists and is not empty.*",  # a resumed run goes on in its own folder
    ".*Couldn't infer the batch indices.*",  # a batch carries them
    ".*The dirpath has changed.*",  # a run's folder may be moved
)


def silence_lost_connections() -> None:
    """Keeps torch from printing a page of C++ frames for a connection that has ended, which the heartbeat tells in a sentence.

    Call it before torch is imported. `TORCH_CPP_LOG_LEVEL=WARNING` in the environment shows them.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


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
    threading.excepthook = _tell_unless_it_is_told


def _tell_unless_it_is_told(args: threading.ExceptHookArgs) -> None:
    """Ignores an error of TensorBoard's writing thread, since it is raised again when the next metric is logged."""
    if not (isinstance(args.exc_value, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
        threading.__excepthook__(args)


def _is_news(record: logging.LogRecord) -> bool:
    return not any(text in record.getMessage() for text in ADVERTISING + SAID_BETTER)
