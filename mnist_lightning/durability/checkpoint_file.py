"""Checkpoints that are either complete or absent."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mnist_lightning.run_files import LAST, write_whole


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file beside its place, renames it, and then points `last.ckpt` to it.

    `last.ckpt` is the newest checkpoint that training can go on from; others, which a user's callbacks may write, never
    take its place. Lightning writes to the system's temporary folder, which may be on another disk, and removes
    `last.ckpt` before it makes the new one; a kill between the two steps leaves no `last.ckpt`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        """Saves a checkpoint. If it cannot be written, the checkpoints before it are as they were."""
        content, file = io.BytesIO(), Path(path)
        torch.save(checkpoint, content)
        write_whole(file, content.getbuffer())
        if file.parent.name == LAST.parent.name and file.name != LAST.name and ends_an_epoch(checkpoint):
            link = file.with_name(f".{LAST.name}.new")
            link.unlink(missing_ok=True)
            link.symlink_to(file.name)
            os.replace(link, file.with_name(LAST.name))


def ends_an_epoch(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was written at the end of an epoch with all that training goes on from, not weights alone."""
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    try:
        epoch, batch = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
        return batch["is_last_batch"] and epoch["ready"] == epoch["started"] == epoch["processed"]
    except (KeyError, TypeError):
        return False
