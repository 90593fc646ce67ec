"""What the command line knows from its config, for a fit that a Python program starts: checks, loggers and the config."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Checkpoint,
    LearningRateFinder,
    ProgressBar,
    StochasticWeightAveraging,
    Timer,
)
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from mnist_lightning.data import data_module
from mnist_lightning.errors import SettingError
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.parsing.config_file import flat
from mnist_lightning.runs.checkpoints import read_checkpoint
from mnist_lightning.runs.layout import first_new_epoch, run_name, run_of_checkpoint
from mnist_lightning.runs.resuming import refuse_contradictions, refuse_other_network
from mnist_lightning.runs.setups import refuse_unsupported_trainer, setup_name

FITTED = "was_fitted"  # attribute of a model that has been trained
# Callbacks of Lightning with which a run would be none that its config and its checkpoints tell.
OTHER_SETTING = "which trains with another setting than the run is named for and records: leave it out"
UNFIT = {
    BatchSizeFinder: OTHER_SETTING,
    LearningRateFinder: OTHER_SETTING,
    StochasticWeightAveraging: "whose weights come when the last epoch has been validated and saved: use WeightAveraging",
}
# Settings that can be read from a Trainer, for the config of a run that a Python program starts.
SETTINGS_OF_THE_TRAINER = (
    "max_epochs",
    "max_steps",
    "num_nodes",
    "limit_train_batches",
    "limit_val_batches",
    "check_val_every_n_epoch",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
)


def refuse_bad_start(trainer: Trainer, module: LightningModule, used: bool) -> None:
    """Makes sure that a fit can have a folder of its own, or can go on in that of its checkpoint.

    Args:
        trainer: It has its data module.
        module: What is trained.
        used: Whether the callbacks have been part of another fit.

    Raises:
        SettingError: If it cannot.
    """
    if used:
        raise SettingError("A Trainer makes one run: make another one, with new callbacks from experiment.callbacks().")
    if trainer.loggers:
        raise SettingError(
            "The Trainer has loggers of its own: make it with logger=False, and give the loggers to experiment.callbacks."
        )
    if getattr(module, "_compiler_ctx", None) is not None:
        raise SettingError(
            "The model is one of torch.compile, which would compile within the clock: make it with compile=True instead."
        )
    refuse_unsupported_trainer(trainer)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for kind, why in UNFIT.items():
            if isinstance(callback, kind):
                raise SettingError(f"trainer.callbacks has a {type(callback).__name__}, {why}.")
    refuse_unknown_monitors(trainer, module)
    if trainer.ckpt_path is None and getattr(module, FITTED, False):
        raise SettingError("The model was trained before and would start from those weights: make a new one.")
    data = data_module(trainer)
    seed = module.hparams.get("seed", data.seed)
    if seed != data.seed:
        raise SettingError(f"The model has seed {seed} and the data module {data.seed}: give both the same.")
    if trainer.ckpt_path is not None:
        checkpoint = read_checkpoint(str(trainer.ckpt_path), resume=True)
        given = flat(settings_of(trainer, module))
        del given["trainer.deterministic"]  # torch does not say whether it was asked to warn alone
        refuse_contradictions(checkpoint, given, resume=True)
        refuse_other_network(checkpoint, module)
        refuse_other_callbacks(checkpoint, trainer)


def refuse_unknown_monitors(trainer: Trainer, module: LightningModule) -> None:
    """Makes sure that what callbacks such as EarlyStopping watch is logged. A network of one's own may log anything.

    Raises:
        SettingError: If nothing logs it; Lightning would tell after an epoch, and lose it.
    """
    if type(module) is not MNISTClassifier:
        return
    logged = [str(name) for metrics in (module.train_metrics, module.val_metrics) for name, _ in metrics.items()]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if (watched := getattr(callback, "monitor", None)) not in (None, *logged):
            raise SettingError(
                f"trainer.callbacks has {type(callback).__name__} with monitor {watched}, which nothing logs: name one of "
                f"{', '.join(logged)}."
            )


def callbacks_of_the_user(trainer: Trainer) -> list[str]:
    """The classes of a Trainer's callbacks that may change what is trained: not ours, and none that only shows, saves or
    counts the time."""
    shows = (ProgressBar, Checkpoint, Timer)
    given: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    names = [f"{type(each).__module__}.{type(each).__qualname__}" for each in given if not isinstance(each, shows)]
    return sorted(name for name in names if not name.startswith("mnist_lightning."))


def refuse_other_callbacks(checkpoint: Mapping[str, Any], trainer: Trainer) -> None:
    """Makes sure that a run goes on with the callbacks that it began with.

    Raises:
        SettingError: If it does not. A checkpoint of an earlier version does not say which they were.
    """
    now = callbacks_of_the_user(trainer)
    then = checkpoint["callbacks"]["RunRecord"].get("callbacks", now)
    if now != then:
        raise SettingError(
            f"trainer.callbacks are {', '.join(now) or 'none'}, but the checkpoint was trained with "
            f"{', '.join(then) or 'none'}: give the same, or train anew without ckpt_path."
        )


def default_loggers(trainer: Trainer) -> list[Logger]:
    """The logger of a run that a Python program starts, in the folder of the run that it goes on with, if any."""
    run = run_of_checkpoint(trainer.ckpt_path)
    if run is None:
        data = data_module(trainer)
        name = run_name(setup_name(trainer), data.batch_size, data.seed)
        return [TensorBoardLogger("logs", name=name, default_hp_metric=False)]
    epoch = torch.load(str(trainer.ckpt_path), weights_only=True, mmap=True)["epoch"]
    return [
        TensorBoardLogger(
            run.parent, name="", version=run.name, default_hp_metric=False, purge_step=first_new_epoch(epoch)
        )
    ]


def settings_of(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """The settings of a run that a Python program starts, in the form of the command line's `config.yaml`."""
    data = data_module(trainer)
    kind = trainer.strategy.root_device.type
    settings = {name: getattr(trainer, name) for name in SETTINGS_OF_THE_TRAINER}
    settings = {name: getattr(value, "value", value) for name, value in settings.items()}  # YAML knows no enumerations
    settings |= {
        "accelerator": "gpu" if kind == "cuda" else kind,
        "devices": trainer.world_size // trainer.num_nodes,
        "precision": str(trainer.precision),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    return {
        "seed_everything": data.seed,
        "network": type(module).__name__,
        "trainer": settings,
        "model": _plain(module.hparams),
        # A rerun must see what this run sees, not what `auto` finds on another day.
        "data": {**_plain(data.hparams), "source": data.found},
    }


def _plain(hyperparameters: Any) -> dict[str, Any]:
    """Hyperparameters as YAML keeps them, without the seed, which `seed_everything` sets."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in hyperparameters.items()
        if name != "seed" and not name.startswith("_")
    }
