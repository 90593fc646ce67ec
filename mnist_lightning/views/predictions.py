"""Writes what `predict` leaves: a CSV file, and for the user's own pictures a sheet that shows the predictions."""

import csv
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mnist_lightning.data import data_module
from mnist_lightning.errors import SettingError
from mnist_lightning.runs.folder import refuse_unwritable
from mnist_lightning.views.spreadsheet import harmless

ENLARGED = 3  # times, on the sheet
COLUMNS = 8  # of the sheet
CELL = (120, 128)  # pixels, a picture and its two lines
TEXT = 12  # pixels


class PredictionWriter(BasePredictionWriter):
    """Writes the predictions of all devices as one CSV file: index, label, prediction, probability.

    For the user's own pictures (`data.images`) the columns are file, prediction and probability; a name that a spreadsheet
    would run as a formula has an apostrophe before it. A PNG file of the same
    name then shows each picture as the network saw it, with its name, prediction and probability.

    Args:
        path: The file that `predict` writes; one that is there is replaced.
    """

    def __init__(self, path: str = "predictions.csv") -> None:
        super().__init__(write_interval="epoch")
        self.path = Path(path)

    @property
    def sheet(self) -> Path:
        return self.path.with_suffix(".png")

    def write_on_epoch_end(
        self, trainer: Trainer, module: LightningModule, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        columns = [torch.cat(column).tolist() for column in zip(*predictions, strict=True)]
        rows = list(zip(*columns, strict=True))
        if trainer.world_size > 1:
            shares: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(shares, rows)
            rows = [row for share in shares for row in share]
        if not trainer.is_global_zero:
            return
        own = data_module(trainer).own
        header = ["index", "label"] if own is None else ["file"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*header, "prediction", "probability"])
        for index, label, digit, probability in sorted(rows):
            which = [index, label] if own is None else [harmless(own.names[index])]
            writer.writerow([*which, digit, f"{probability:.6f}"])
        _replace(self.path, text.getvalue().encode())
        if own is not None:
            taken_for = [f"{digit} ({probability:.1%})" for _, _, digit, probability in sorted(rows)]
            png = io.BytesIO()
            contact_sheet(own.images, own.names, taken_for).save(png, "PNG")
            _replace(self.sheet, png.getvalue())

    def on_predict_end(self, trainer: Trainer, module: LightningModule) -> None:
        super().on_predict_end(trainer, module)
        if not trainer.is_global_zero:
            return
        own = data_module(trainer).own
        for name, reason in (own.skipped if own else {}).items():
            print(f"skipped      {name}: {reason}", file=sys.stderr)
        print(f"predictions  {self.path}")
        if own:
            print(f"sheet        {self.sheet}", flush=True)


def refuse_bad_place(path: Path, images: str | None) -> None:
    """Makes sure that the predictions and the sheet can be written; writes nothing.

    Args:
        path: The file.
        images: Folder of one's own pictures, if they are what is predicted.

    Raises:
        SettingError: If it is a folder or a file of something else, cannot be written, or lies where the sheet would be one of the pictures.
    """
    if path.is_dir():
        raise SettingError(f"predictions.path is {path}, a folder: name a file.")
    if images is not None and path.suffix == ".png":
        raise SettingError(f"predictions.path is {path}, which the sheet is called: name a .csv file.")
    if images is not None and path.parent.resolve() == Path(images).resolve():
        raise SettingError(
            f"predictions.path is {path}, and its sheet would be one of the pictures of data.images {images}: name a "
            "file in another folder."
        )
    if path.exists() and not _holds_predictions(path):
        raise SettingError(f"predictions.path is {path}, which is there and holds no predictions: name another file.")
    refuse_unwritable(path.parent, "predictions.path")


def _holds_predictions(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline(100).rstrip().endswith(b",prediction,probability")


def contact_sheet(images: Tensor, names: Sequence[str], taken_for: Sequence[str]) -> Image.Image:
    """Shows pictures in rows, each with two lines under it.

    Args:
        images: uint8 [n, 28, 28].
        names: n; one that is too long is cut.
        taken_for: n.
    """
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    sheet = Image.new("L", (columns * CELL[0], rows * CELL[1]), 255)
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    side = images.shape[1] * ENLARGED
    for number, (image, name, answer) in enumerate(zip(images, names, taken_for, strict=True)):
        x, y = number % columns * CELL[0], number // columns * CELL[1]
        digit = Image.fromarray(image.numpy()).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(digit, (x + (CELL[0] - side) // 2, y + 6))
        for line, text in enumerate((answer, _fitted(name, font))):
            middle = x + CELL[0] / 2, y + side + 8 + line * (TEXT + 3)
            canvas.text(middle, text, fill=0, font=font, anchor="ma")
    return sheet


def _fitted(name: str, font: Any) -> str:
    if font.getlength(name) <= CELL[0] - 6:
        return name
    while font.getlength(f"{name}…") > CELL[0] - 6:
        name = name[:-1]
    return f"{name}…"


def _replace(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(content)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
