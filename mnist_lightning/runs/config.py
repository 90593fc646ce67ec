"""A run's settings: how its `config.yaml` is read and made, and which of them shape the run. Needs no torch to read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mnist_lightning.errors import SettingError, blaming

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

# Where a run is, how long it is, how it is watched and shown. All other settings shape its numbers.
FREE = (
    *("config", "ckpt_path", "predictions", "checkpoint", "step_parts", "data.data_dir", "data.images"),
    *("trainer.logger", "trainer.default_root_dir", "trainer.log_every_n_steps", "trainer.profiler", "trainer.enable_"),
    *("trainer.max_epochs", "trainer.min_epochs", "trainer.max_steps", "trainer.min_steps", "trainer.max_time"),
    *("trainer.detect_anomaly", "trainer.num_sanity_val_steps", "trainer.inference_mode", "trainer.fast_dev_run"),
    *("trainer.limit_test_batches", "trainer.limit_predict_batches", "trainer.model_registry"),
)
SETUP = ("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy")
# Callbacks of Lightning that change no number of an epoch.
WATCHING = (
    *("ModelCheckpoint", "Timer", "EarlyStopping", "LearningRateMonitor", "DeviceStatsMonitor", "ThroughputMonitor"),
    *("ModelSummary", "RichModelSummary", "TQDMProgressBar", "RichProgressBar", "BasePredictionWriter"),
)
# What a config of an earlier version means by None.
OF_NONE = {"trainer.precision": "32-true", "trainer.limit_train_batches": 1.0, "trainer.limit_val_batches": 1.0}
# Settings that can be read from a Trainer.
OF_THE_TRAINER = (
    *("max_epochs", "num_nodes", "limit_train_batches", "limit_val_batches", "check_val_every_n_epoch"),
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
)


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a YAML file."""
    with blaming(str(path)):
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def flat(config: Mapping[str, Any], depth: int = 100, prefix: str = "") -> dict[str, Any]:
    """A config's settings by dotted name, down to a depth of names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        nested = isinstance(value, dict) and value and depth > 1
        found |= flat(value, depth - 1, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


def settings_of(trainer: "Trainer", module: "LightningModule", given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run, as what they came to: what `auto` has found, and what the objects were made with.

    Those `given` on the command line are among them; there are none if a Python program starts the run.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    kind = trainer.strategy.root_device.type
    found = {name: getattr(trainer, name) for name in OF_THE_TRAINER}
    found = {name: getattr(value, "value", value) for name, value in found.items()}  # YAML knows no enumerations
    found |= {"accelerator": "gpu" if kind == "cuda" else kind, "devices": trainer.world_size // trainer.num_nodes}
    if not given:  # a rerun without them would be another run: it must at least look for them
        found["callbacks"] = [path for path in map(_path, trainer.callbacks) if _shapes(path)] or None  # type: ignore[attr-defined]
    own: dict[str, Any] = {
        "seed_everything": data.seed,
        "network": given.get("network") or type(module).__name__,
        "data_module": given.get("data_module") or type(data).__name__,
        "trainer": {**found, "precision": str(trainer.precision)},
        "model": plain(module.hparams),
        # A rerun must see what this run sees, not what `auto` finds on another day.
        "data": plain(data.hparams) | ({"source": data.found} if data.found in ("mnist", "sample") else {}),
    }
    groups = {name: {**given.get(name, {}), **value} for name, value in own.items() if isinstance(value, dict)}
    return {**given, **own, **groups}


def plain(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters as YAML keeps them, without the seed, which `seed_everything` sets."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in hyperparameters.items()
        if name != "seed" and not name.startswith("_")
    }


def refuse_changes(now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """Makes sure that what goes on with a run has the settings `then` of the run, but those that are free."""
    named = flat(now, depth=2)
    for name, value in flat(then, depth=2).items():
        if name.startswith(FREE) or name not in named:
            continue
        value = OF_NONE.get(name) if value is None else value
        ours, theirs = (_acting(each) if name == "trainer.callbacks" else each for each in (named[name], value))
        if json.dumps(ours, default=str) != json.dumps(theirs, default=str):  # 1 is one batch, and 1.0 all batches
            raise SettingError(
                f"{name} is {ours}, but the run was trained with {theirs}: leave it out, or train anew without ckpt_path."
            )


def _path(callback: object) -> str:
    return f"{type(callback).__module__}.{type(callback).__qualname__}"


def _shapes(path: str) -> bool:
    """Whether a callback may change a run, as those do that end it earlier."""
    harmless = set(WATCHING) - {"EarlyStopping", "Timer"}
    return not path.startswith("mnist_lightning.") and path.rpartition(".")[2] not in harmless


def _acting(callbacks: Any) -> list[Any]:
    """The callbacks of a config that may change what is trained."""
    given = callbacks if isinstance(callbacks, list) else [] if callbacks is None else [callbacks]
    paths = [each.get("class_path", "") if isinstance(each, dict) else str(each) for each in given]
    return [each for each, path in zip(given, paths, strict=True) if path.rpartition(".")[2] not in WATCHING]
