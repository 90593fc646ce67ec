"""What the report knows of the runs: their columns, their table, and which stand beside the paper's."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import pandas as pd

from mnist_lightning import paper
from mnist_lightning.report.claims import Source, ours, published
from mnist_lightning.report.columns import Column, columns, left_out, tidy
from mnist_lightning.report.runs import Run
from mnist_lightning.report.stats import CELL, METRICS, Noise, late_noise, measured, scatter


class Table(NamedTuple):
    """One of the paper's tables: our metric, the one that its statistics are of, its title, axis and formats."""

    metric: str
    logged: str
    title: str
    axis: str
    ours: str
    theirs: str


TABLES = {
    "I": Table("seconds/fit", "seconds/fit", "Seconds", "seconds of the whole run", ".1f", ".2f"),
    "II": Table("val/accuracy", "errors", "Accuracy", "test accuracy", ".4f", ".4f"),
    "III": Table("val/loss", "val/loss", "Loss", "test loss", ".5f", ".5f"),
}
PAPER = {
    number: pd.DataFrame(table, index=list(paper.BATCH_SIZES))
    for number, table in zip(TABLES, (paper.SECONDS, paper.ACCURACY, paper.LOSS), strict=True)
}
NOUNS = {"seconds/fit": "seconds", "errors": "errors", "val/loss": "loss"}


class Page:
    """The runs of a report; without any it is of the paper alone."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.column_of = columns(runs)
        self.columns: list[Column] = list(dict.fromkeys(self.column_of.values()))
        self.alike = [column for column in self.columns if not column.unlike]
        self.table = tidy(runs)
        self.log = {metric: measured(self.table, metric) for metric in METRICS}
        # How many seeds each cell has, whether their times are used or not.
        self.ran = self.table.groupby(CELL, sort=False).seed.nunique()
        self.usual = self.ran.groupby("column").max()
        self.left_out = left_out(runs)
        first = [run for run, column in self.column_of.items() if column in self.alike[:1]]
        late = [{"batch_size": run.summary["batch_size"], **each} for run in first for each in run.late()]
        self.late = late_noise(pd.DataFrame(late))
        self.sources = [published(self.late), *self._of_gpus()]

    def of_columns(self, log: pd.Series, names: Collection[str]) -> pd.Series:
        """The part of a series that is of some columns."""
        return log[log.index.get_level_values("column").isin(list(names))]

    def scatter(self, *names: str) -> dict[str, Noise]:
        """How far one run of some columns scatters, by metric."""
        return {metric: scatter(self.of_columns(log, names)) for metric, log in self.log.items()}

    def _of_gpus(self) -> list[Source]:
        """Our tables, if GPUs ran: the first column of each setup, which is in fp32 if there is one."""
        setups = {column.setup: column.name for column in reversed(self.alike)}
        own = {name: self.of_columns(log, setups.values()) for name, log in self.log.items()}
        gpus = any(setup.endswith("gpu") for setup in setups)
        return [ours(own, setups, self.scatter(*setups.values()))] if gpus else []
