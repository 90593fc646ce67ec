"""What a run is: which of its settings shape its numbers. Needs no torch, since study and report ask it, too."""

import json
from collections.abc import Mapping
from typing import Any

from mnist_lightning.parsing.config_file import flat

# Where a run is and how it is shown. All other settings shape its numbers, its length, or the setup that it is timed on.
NOT_THE_RUN = (
    *("config", "ckpt_path", "predictions", "checkpoint", "data.data_dir", "data.images", "step_parts"),
    *("trainer.logger", "trainer.default_root_dir", "trainer.enable_checkpointing", "trainer.enable_model_summary"),
    *("trainer.enable_progress_bar", "trainer.log_every_n_steps", "trainer.profiler"),
)
SETUP = ("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy")
LENGTH = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
# A checkpoint knows these more exactly than the config that asked for them.
KNOWN_BY_ITSELF = ("seed_everything", "model", "data.batch_size", "data.source", "trainer.precision")
# What Lightning makes of a setting that is not given.
UNSET = {"trainer.limit_train_batches": 1.0, "trainer.limit_val_batches": 1.0, "trainer.deterministic": False}
OUR_LOGGERS = ("TensorBoardLogger", "CSVLogger")


def kept_by_a_resumed_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a config, by dotted name, that a run must keep when it goes on.

    The setup, the precision, the network, the data and the seed are not among them; the checkpoint says what they were.
    """
    others = (*NOT_THE_RUN, *SETUP, *LENGTH, *KNOWN_BY_ITSELF)
    return {name: value for name, value in flat(config).items() if not name.startswith(others)}


def same_value(name: str, one: Any, other: Any) -> bool:
    """Whether two values of a setting mean the same."""
    one, other = (UNSET.get(name) if value is None else value for value in (one, other))
    if name.startswith("trainer.limit_") and one == 1:
        return json.dumps(one) == json.dumps(other)  # 1 is one batch, 1.0 is all batches
    return one == other


def code_in(config: Mapping[str, Any]) -> list[str]:
    """The settings of a run's config that name classes, which parsing would import; our loggers are not among them."""
    settings = dict(config.get("trainer") or {})
    loggers = settings.pop("logger", None)
    given = loggers if isinstance(loggers, list) else [loggers]
    others = [logger for logger in given if not _is_ours(logger)]
    named = [
        f"trainer.{name}" for name, value in settings.items() if name != "default_root_dir" and _may_name_code(value)
    ]
    return [*(["trainer.logger"] if others else []), *named]


def _is_ours(logger: Any) -> bool:
    if isinstance(logger, Mapping):
        logger = str(logger.get("class_path")).rpartition(".")[2]
    return logger in (None, True, False, *OUR_LOGGERS)


def _may_name_code(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_may_name_code, value))
    return isinstance(value, Mapping) or (isinstance(value, str) and "." in value)
