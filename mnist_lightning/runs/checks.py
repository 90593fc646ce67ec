"""All checks of a command of the Trainer, which the command line and Python pass before anything is written."""

import zipfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.strategies import DDPStrategy

from mnist_lightning.data import data_module
from mnist_lightning.durability.checkpoint_file import ends_an_epoch
from mnist_lightning.errors import SettingError, blaming
from mnist_lightning.run_files import CONFIG, run_of_checkpoint
from mnist_lightning.runs.config import plain, read_config, refuse_changes, settings_of

# Of the Trainer: the one value that keeps the promises, and why.
UNSUPPORTED = {
    "overfit_batches": (0.0, "it would deal other images"),
    "val_check_interval": (1.0, "an epoch's time ends with its validation: use check_val_every_n_epoch"),
    "max_steps": (-1, "a run is made of whole epochs: use max_epochs, or limit_train_batches"),
    "barebones": (False, "it leaves out the checkpoints and the times"),
}


def check_fit(trainer: Trainer, module: LightningModule, given: Mapping[str, Any], used: bool) -> None:
    """Makes sure that a fit keeps what this project promises, and goes on with the run that its checkpoint is of.

    The settings `given` are those of the command line; the Trainer and its callbacks are `used` if they have trained.
    """
    data = data_module(trainer)
    settings = settings_of(trainer, module, given)
    for name, (only, why) in UNSUPPORTED.items():
        if getattr(trainer, name, only) not in (only, None):
            raise SettingError(f"trainer.{name} is {getattr(trainer, name)}: {why}.")
    for name in ("accumulate_grad_batches", "check_val_every_n_epoch"):
        if getattr(trainer, name) < 1:
            raise SettingError(f"trainer.{name} is {getattr(trainer, name)}: give a positive number.")
    settle_processes(trainer)
    if data.batch_size % trainer.world_size:
        raise SettingError(f"data.batch_size {data.batch_size} is no multiple of {trainer.world_size} trainer.devices.")
    if module.hparams.get("seed", data.seed) != data.seed:
        raise SettingError(f"The model has seed {module.hparams['seed']} and the data {data.seed}: give both the same.")
    for name, ours in (("network", module), ("data_module", data)):
        if settings[name] != type(ours).__name__:
            raise SettingError(f"{name} is {settings[name]}, but this program has {type(ours).__name__}.")
    if used or (trainer.ckpt_path is None and getattr(module, "was_fitted", False)):
        raise SettingError("The Trainer or the model was trained before: make new ones, with new callbacks.")
    if trainer.ckpt_path is not None:
        check_resumed(trainer, module, given)


def refuse_finders(trainer: Trainer) -> None:
    """Makes sure that no callback tries settings once the run has begun: its batches would count as the run's."""
    if any(isinstance(callback, BatchSizeFinder | LearningRateFinder) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise SettingError("trainer.callbacks has a finder: call Lightning's Tuner from Python, before the fit.")


def check_resumed(trainer: Trainer, module: LightningModule, given: Mapping[str, Any]) -> None:
    """Makes sure that a run goes on from the Trainer's checkpoint with the images, settings and network that it has."""
    data = data_module(trainer)
    checkpoint, run = read_checkpoint(str(trainer.ckpt_path), resume=True), run_of_checkpoint(trainer.ckpt_path)
    trained = images_of(checkpoint)
    if trained.get("fingerprint") != data.fingerprint:
        raise SettingError(f"data.source {data.name} has other images than the checkpoint's {trained.get('found')}.")
    # The config is what the user may edit; what the checkpoint was made with it knows better.
    then = read_config(run / CONFIG) if run else {}
    then["model"] = {**then.get("model", {}), **plain(checkpoint.get("hyper_parameters", {}))}
    of_data = checkpoint["datamodule_hyper_parameters"]
    then["data"] = {**then.get("data", {}), "batch_size": of_data["batch_size"]}
    refuse_changes(settings_of(trainer, module, given), {**then, "seed_everything": of_data["seed"]})
    refuse_other_network(trainer, module, checkpoint)


def settle_processes(trainer: Trainer) -> None:
    """Makes sure that processes are no copies of this one, and that none waits for another for more than five minutes."""
    if getattr(trainer.strategy, "_start_method", "popen") != "popen":
        raise SettingError("trainer.strategy makes copies of this process, with its locks and threads: use ddp.")
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._timeout = timedelta(minutes=5)  # of each wait; by default half an hour


def refuse_other_network(trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Makes sure that a checkpoint's weights fit a module."""
    saved = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
    if saved != {name: tensor.shape for name, tensor in module.state_dict().items()}:
        raise SettingError(f"ckpt_path is {trainer.ckpt_path}, a checkpoint of another network than model gives.")


def images_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The name and the fingerprint of a checkpoint's images, which Lightning keeps under the class of the data module."""
    return next((each for each in checkpoint.values() if isinstance(each, dict) and "fingerprint" in each), {})


def read_checkpoint(path: str, resume: bool) -> dict[str, Any]:
    """Loads a checkpoint as data, in which nothing is executed, for an evaluation or for training that goes on."""
    if not Path(path).is_file():
        raise SettingError(f"ckpt_path is {path}, which is no file: name one such as <run>/checkpoints/last.ckpt.")
    with blaming(f"ckpt_path {path}"):
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():  # torch checks no CRC
                raise ValueError(f"{damaged} in it is damaged")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if "seed" not in checkpoint["datamodule_hyper_parameters"] or not checkpoint["state_dict"]:
            raise ValueError("not a checkpoint of this project")
        if resume and not (ends_an_epoch(checkpoint) and "RunRecord" in checkpoint["callbacks"]):
            raise ValueError("not of the end of an epoch, or of weights alone")
    return checkpoint
