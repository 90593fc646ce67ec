"""Reads a checkpoint as data, and makes sure that it holds what a command needs of it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mnist_lightning.durability.checkpoint_file import ends_an_epoch
from mnist_lightning.errors import SettingError
from mnist_lightning.runs.shapes import Number, misfits

OF_WEIGHTS = {
    "state_dict": {"*": torch.Tensor},
    "epoch": Number(above=-1, whole=True),
    "hyper_parameters": {"seed": Number(above=-1, whole=True)},
}
OF_TRAINING = {
    "callbacks": {
        "RunRecord": {
            "setup": str,
            "precision": str,
            "config?": dict,
            "callbacks?": [str],
            "metrics": {"*": float},
            "validations": {"*": {"*": Number()}},
        },
        "WallClock": {"fit": Number(), "epochs": [{"*": Number()}]},
        "WarmUp?": {"seconds": Number()},
    },
    "datamodule_hyper_parameters": {"batch_size": Number(above=0, whole=True)},
    "loops": dict,
    "global_step": Number(above=-1, whole=True),
    "pytorch-lightning_version": re.compile(r"\d+(\.\w+)*"),
}
OPTIMIZERS = [{"state": {"*": dict}, "param_groups": [dict]}]


def read_checkpoint(path: str, resume: bool) -> dict[str, Any]:
    """Loads a checkpoint as data: nothing in it is executed.

    Raises:
        SettingError: If the file is missing or is no checkpoint of this project that would serve.
    """
    if not Path(path).is_file():
        raise SettingError(f"ckpt_path is {path}, which is no file: name one such as <run>/checkpoints/last.ckpt.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch tells garbage in many ways
        raise SettingError(
            f"ckpt_path is {path}, which cannot be read as a checkpoint: name one that fit wrote."
        ) from error
    if problem := next(misfits(checkpoint, OF_WEIGHTS), None):
        raise SettingError(f"ckpt_path is {path}, a checkpoint of something else ({problem}): name one that fit wrote.")
    if resume:
        if problem := next(misfits(checkpoint, OF_TRAINING), None):
            raise SettingError(
                f"ckpt_path is {path}, which holds weights alone, or not all the rest ({problem}): name one that training can "
                "go on from."
            )
        states, recorded = _sizes(checkpoint.get("optimizer_states")), record_in(checkpoint).get("optimizer_states")
        if not states or states != (recorded or states):
            raise SettingError(f"ckpt_path is {path}, whose optimizer_states are not whole: name one as fit wrote it.")
        if not ends_an_epoch(checkpoint):
            raise SettingError(f"ckpt_path is {path}, of the middle of an epoch: name one of the end of an epoch.")
    return checkpoint


def record_in(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What `RunRecord` has put into a checkpoint."""
    return checkpoint["callbacks"]["RunRecord"]


def _sizes(states: Any) -> list[int]:
    """For how many parameters each optimiser has a state; empty if the states are none."""
    if next(misfits(states, OPTIMIZERS), None):
        return []
    return [sum(map(bool, state["state"].values())) for state in states]
