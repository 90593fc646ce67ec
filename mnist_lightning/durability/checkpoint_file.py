"""Checkpoints that are either complete or absent."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mnist_lightning.errors import SettingError
from mnist_lightning.runs.layout import LAST


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file beside its place, renames it, and then points `last.ckpt` to it.

    `last.ckpt` is the newest checkpoint that training can go on from; others, which a user's callbacks may write, never
    take its place. Lightning writes to the system's temporary folder, which may be on another disk, and removes `last.ckpt` before it
    makes the new one; a kill between the two steps leaves no `last.ckpt`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        """Saves a checkpoint.

        Raises:
            SettingError: If it cannot be written; the checkpoints before it are as they were.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        file = Path(path)
        part = file.with_name(f".{file.name}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content.getbuffer())
            os.replace(part, file)
            if file.parent.name == LAST.parent.name and file.name != LAST.name and ends_an_epoch(checkpoint):
                _point(file.with_name(LAST.name), file)
        except OSError as error:
            _remove(part)
            raise SettingError(
                f"The checkpoint {file} cannot be written ({error.strerror}): see to the disk and the folder."
            ) from error


def ends_an_epoch(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was written at the end of an epoch with all that training goes on from, not weights alone."""
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    try:
        epoch, batch = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
        return batch["is_last_batch"] and epoch["ready"] == epoch["started"] == epoch["processed"]
    except (KeyError, TypeError):
        return False


def _point(link: Path, file: Path) -> None:
    new = link.with_name(f".{link.name}.new")
    _remove(new)
    try:
        new.symlink_to(file.name)
    except (OSError, NotImplementedError):  # some file systems have no links
        new.write_bytes(file.read_bytes())
    os.replace(new, link)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the disk cannot be written to
        pass
