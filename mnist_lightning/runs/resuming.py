"""What a checkpoint fixes of the command that goes on from it."""

import pickle
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningModule

from mnist_lightning.data import MNISTDataModule
from mnist_lightning.errors import SettingError

DATA = MNISTDataModule.__qualname__  # where Lightning keeps the data module's state


def read_checkpoint(path: str, resume: bool) -> dict[str, Any]:
    """Loads a checkpoint as data: nothing in it is executed.

    Args:
        path: The file.
        resume: Whether training goes on from it, which needs more than its weights.

    Raises:
        SettingError: If the file is missing or is no checkpoint of this project that would serve.
    """
    if not Path(path).is_file():
        raise SettingError(
            f"ckpt_path is {path}, which is no file: name one such as <run>/checkpoints/last.ckpt."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise SettingError(
            f"ckpt_path is {path}, which cannot be read as a checkpoint: name one that fit wrote."
        ) from error
    if not _has(checkpoint, "state_dict", "epoch") or not _has(
        checkpoint.get("hyper_parameters"), "seed", "rho"
    ):
        raise SettingError(f"ckpt_path is {path}, a checkpoint of something else: name one that fit wrote.")
    if resume:
        if not (
            _has(checkpoint.get("callbacks"), "RunRecord", "WallClock")
            and _has(checkpoint.get("datamodule_hyper_parameters"), "batch_size")
            and _has(checkpoint, DATA, "loops")
        ):
            raise SettingError(
                f"ckpt_path is {path}, which holds weights alone: name one that training can go on from."
            )
        if not checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
            raise SettingError(
                f"ckpt_path is {path}, of the middle of an epoch: name one of the end of an epoch."
            )
    return checkpoint


def _has(part: Any, *names: str) -> bool:
    return isinstance(part, dict) and all(name in part for name in names)


def adopt_settings(checkpoint: dict[str, Any], typed: Namespace, config: Namespace, resume: bool) -> None:
    """Takes the settings that shaped the checkpoint into the config.

    Those of the model hold for every command; the global batch size and the seed for a resumed fit.

    Args:
        checkpoint: As `read_checkpoint` gives it.
        typed: The settings that the user gave, on the command line or in a file, and no defaults.
        config: The command's whole config; changed in place.
        resume: Whether the command goes on training.

    Raises:
        SettingError: If the user gave one that contradicts the checkpoint.
    """
    model = {k: v for k, v in checkpoint["hyper_parameters"].items() if not k.startswith("_")}
    seed = model.pop("seed")
    trained = {f"model.{name}": value for name, value in model.items()}
    if resume:
        done, wanted = checkpoint["epoch"] + 1, config["trainer.max_epochs"]
        if wanted is not None and -1 < wanted < done:
            raise SettingError(
                f"trainer.max_epochs is {wanted}, but the checkpoint has trained {done} epochs: give that many or more."
            )
        trained["data.batch_size"] = checkpoint["datamodule_hyper_parameters"]["batch_size"]
        trained["seed_everything"] = seed
        config["model.seed"] = config["data.seed"] = seed
    for name, value in trained.items():
        given = typed.get(name)
        if given is not None and _as_saved(given) != _as_saved(value):
            raise SettingError(
                f"{name} is {given}, but the checkpoint was trained with {value}: "
                "leave the setting out, or train anew without ckpt_path."
            )
        config[name] = value


def refuse_other_network(checkpoint: dict[str, Any], model: LightningModule) -> None:
    """Makes sure that the checkpoint's weights fit the model.

    Raises:
        SettingError: If they do not.
    """
    saved = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
    ours = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if saved != ours:
        raise SettingError("ckpt_path names a checkpoint of another network: name one that fit wrote.")


def refuse_other_setup(checkpoint: dict[str, Any], setup: str, precision: str) -> None:
    """Makes sure that a run goes on as it began: a time that spans two setups is that of neither.

    Raises:
        SettingError: If it would not.
    """
    begun = checkpoint["callbacks"]["RunRecord"]
    for names, now, then in (
        ("trainer.accelerator and trainer.devices give", setup, begun["setup"]),
        ("trainer.precision gives", precision, begun["precision"]),
    ):
        if now != then:
            raise SettingError(
                f"{names} {now}, but the checkpoint's run began as {then}: ask for {then}, "
                "or train anew without ckpt_path."
            )


def trained_on(checkpoint: dict[str, Any]) -> str | None:
    """Which data a checkpoint was trained on, `mnist` or `sample`; one of weights alone does not tell."""
    return checkpoint.get(DATA, {}).get("found")


def refuse_other_data(checkpoint: dict[str, Any], data: MNISTDataModule) -> None:
    """Makes sure that prepared data are those of the checkpoint.

    Raises:
        SettingError: If they are not.
    """
    trained = trained_on(checkpoint)
    if data.found != trained:
        raise SettingError(
            f"data.source {data.source} gives {data.found}, but the checkpoint was trained on {trained}: "
            f"ask for {trained}, or train anew without ckpt_path."
        )


def _as_saved(value: Any) -> Any:
    """A value as YAML keeps it, where a tuple is a list."""
    return list(value) if isinstance(value, tuple) else value
