"""Writes what `predict` leaves: a CSV file, and for the user's own pictures a sheet that shows the predictions."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from matplotlib.figure import Figure
from torch import Tensor

from mnist_lightning.data import data_module
from mnist_lightning.errors import SettingError
from mnist_lightning.run_files import write_whole
from mnist_lightning.views.pictures import mosaic

if TYPE_CHECKING:
    import pandas as pd

MOST = 400  # pictures on the sheet: more would take minutes to draw
HEADER = b",prediction,probability"  # how the first line of a file of predictions ends


class PredictionWriter(BasePredictionWriter):
    """Writes the predictions of all devices as one CSV file: index, label, prediction, probability.

    For the user's own pictures (`data.images`) it names the file, and a PNG file shows the first 400 as the network saw them.

    Args:
        path: The file that `predict` writes; one that is there is replaced.
    """

    def __init__(self, path: str = "predictions.csv") -> None:
        super().__init__(write_interval="epoch")
        self.path = Path(path)

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Makes sure that nothing but older predictions would be written over."""
        if stage != "predict":
            return
        images = data_module(trainer).images
        if images is not None and self.path.parent.resolve() == Path(images).resolve():
            raise SettingError(
                f"predictions.path is {self.path}, whose sheet would be one of data.images: name another."
            )
        first = self.path.open("rb").readline(100).rstrip() if self.path.is_file() else HEADER
        if self.path.suffix != ".csv" or not first.endswith(HEADER):
            raise SettingError(
                f"predictions.path is {self.path}: name a .csv file that is not there, or of predictions."
            )

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
        import pandas as pd  # late, since no other command needs it

        table = pd.DataFrame(sorted(rows), columns=["index", "label", "prediction", "probability"])
        if own is not None:
            table["file"] = [own.names[index] for index in table["index"]]
            table = table[["file", "prediction", "probability"]]
            png = io.BytesIO()
            sheet(own.images[:MOST], table[:MOST]).savefig(png, bbox_inches="tight")
            write_whole(self.path.with_suffix(".png"), png.getvalue())
        write_whole(self.path, table.to_csv(index=False, float_format="%.6f").encode())
        for name, reason in (own.skipped if own else {}).items():
            print(f"skipped      {name}: {reason}", file=sys.stderr)
        print(f"predictions  {self.path}")
        if own:
            print(f"sheet        {self.path.with_suffix('.png')}", flush=True)


def sheet(images: Tensor, table: "pd.DataFrame") -> Figure:
    """Shows pictures, uint8 [n, 28, 28], in rows, each under its `file`, `prediction` and `probability` in the table."""
    names = [name if len(name) <= 18 else f"{name[:17]}…" for name in table.file]
    told = zip(names, table.prediction, table.probability, strict=True)
    return mosaic(images, [f"{digit} ({share:.1%})\n{name}" for name, digit, share in told], "gray", (0, 255))
