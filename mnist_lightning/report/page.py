"""What the report knows of the runs, and what it compares: columns, one device with two, and networks."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise, product
from operator import ne
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from mnist_lightning import paper
from mnist_lightning.report import stats
from mnist_lightning.report.claims import Source
from mnist_lightning.report.columns import Column, columns, tidy, values
from mnist_lightning.report.runs import TESTED, Run
from mnist_lightning.report.stats import CELL, ERRORS, LOSS, METRICS, TIME, Noise, Ratio


class Table(NamedTuple):
    """One of the paper's tables: its metric, title, figure, the formats of ours and of its cells, and what is shown of a metric."""

    metric: str
    title: str
    figure: str
    ours: str
    theirs: str
    shown: Callable[[pd.Series], pd.Series] = lambda values: values


TABLES = {
    "I": Table(TIME, "Seconds", "figure-3-time", ".1f", ".2f"),
    "II": Table(ERRORS, "Accuracy", "figure-4-accuracy", ".4f", ".4f", lambda errors: 1 - errors / TESTED),
    "III": Table(LOSS, "Loss", "figure-5-loss", ".5f", ".5f"),
}
PAPER = {
    number: pd.DataFrame(table, index=list(paper.BATCH_SIZES))
    for number, table in zip(TABLES, (paper.SECONDS, paper.ACCURACY, paper.LOSS), strict=True)
}
PAPERS_LINES = {f"paper, {setup}": stats.fit_line(paper.STEPS, seconds) for setup, seconds in paper.SECONDS.items()}
NOUNS = {TIME: "seconds", ERRORS: "errors", LOSS: "loss"}
Ratios = dict[str, Ratio]  # by metric


class Page:
    """The runs of a report; without any it is of the paper alone."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.column_of = columns(runs) if runs else {}
        self.columns: list[Column] = list(dict.fromkeys(self.column_of.values()))
        self.alike = [column for column in self.columns if not column.unlike]
        self.table = tidy(self.column_of)
        self.log = {metric: stats.measured(self.table, metric) for metric in METRICS} if runs else {}
        self.ran = self.table.groupby(CELL, sort=False).seed.nunique() if runs else pd.Series()  # how many seeds
        each = [(run, column, epoch) for run, column in self.column_of.items() for epoch in run.epochs]
        rows = [{"column": c.name, "batch_size": run.summary["batch_size"], **epoch} for run, c, epoch in each]
        self.epochs = pd.DataFrame(rows, columns=[*CELL, "epoch", "seconds", "errors", "val/loss"])
        first = self.epochs[self.epochs.column.isin([column.name for column in self.alike[:1]])]
        self.late = stats.late_noise(first[first.epoch > paper.EPOCHS / 2])
        # The first column of each setup, which is in fp32 if there is one.
        setups = {column.setup: column.name for column in reversed(self.alike)}
        self.sources = [published(self.late), *([self._ours(setups)] if any("gpu" in each for each in setups) else [])]

    def of(self, metric: str, names: Collection[str]) -> pd.Series:
        """The logarithms of some columns."""
        return self.log[metric][self.log[metric].index.isin(names, level="column")]

    def scatter(self, *names: str) -> dict[str, Noise]:
        """How far one run of some columns scatters, by metric."""
        return {metric: stats.scatter(self.of(metric, names)) for metric in self.log}

    def _ours(self, setups: Mapping[str, str]) -> Source:
        """Our tables of the paper's setups, by the column of each."""
        tables, noise = {}, self.scatter(*setups.values())
        for metric in METRICS:
            cells = self.of(metric, setups.values()).groupby(["batch_size", "column"]).agg(["mean", "size"])
            table = cells["mean"].unstack().reindex(columns=[setups.get(setup) for setup in paper.SETUPS])
            tables[metric] = table.set_axis(list(paper.SETUPS), axis=1)
            noise[metric] = noise[metric]._replace(deviation=noise[metric].deviation / cells["size"].min() ** 0.5)
        return Source("ours", tables, noise)


def published(late: Mapping[str, Noise]) -> Source:
    """The paper's tables. Its times scatter as they do around the lines that they follow, and its accuracy and loss as our late
    epochs do: each of its cells is one run at the end of one epoch."""
    tables = {TIME: np.log(PAPER["I"]), ERRORS: np.log(TESTED * (1 - PAPER["II"])), LOSS: np.log(PAPER["III"])}
    squares, freedom = zip(*((line.scale, line.df_resid) for line in PAPERS_LINES.values()), strict=True)
    return Source("the paper's tables", tables, {TIME: Noise(float(np.mean(squares)) ** 0.5, sum(freedom)), **late})


def beside(page: Page) -> dict[tuple[str, str], Ratios]:
    """The ratios of two columns, by name: each of ours over the paper's setups, and over the one before that differs least."""
    found = defaultdict[tuple[str, str], Ratios](dict)
    for column, setup, metric in product(page.alike, paper.SETUPS, METRICS[1:]):
        papers = pd.concat({0: page.sources[0].tables[metric][setup]}, names=["seed", "batch_size"])
        if ratio := stats.unrelated(page.of(metric, [column.name]), papers):
            found[column.name, f"paper, {setup}"][metric] = ratio
    for place, column in enumerate(page.alike[1:], 1):
        other = min(reversed(page.alike[:place]), key=lambda each: sum(map(ne, each[1:], column[1:])))
        for metric in METRICS:
            if column.program == other.program or metric == TIME:  # runs of one seed share the hour in any case
                ratio = stats.ratios(page.log[metric], other.name, [column.name]).get(column.name)
            else:
                ratio = stats.unrelated(page.of(metric, [column.name]), page.of(metric, [other.name]))
            if ratio:
                found[column.name, other.name][metric] = ratio
    return dict(found)


def lines(page: Page) -> dict[str, Any]:
    """What steps and images cost, by column: the paper's whole runs, and ours without validation."""
    found = dict(PAPERS_LINES)
    means = [values(page.table, name).groupby(CELL).mean() for name in ("seconds/train", "steps")] if page.alike else []
    for column in page.alike:
        seconds, steps = (mean[mean.index.isin([column.name], level="column")] for mean in means)
        if len(seconds) > 2:
            found[column.name] = stats.fit_line(list(steps[seconds.index]), list(seconds))
    return found


def brackets(page: Page) -> dict[tuple[str, str], str]:
    """Between which batch sizes the faster of one device and two changes: the paper's, and columns that differ in nothing else."""
    own = np.exp(page.log[TIME]).groupby(CELL).mean().unstack(0) if page.log else pd.DataFrame()
    seconds, pairs = PAPER["I"].add_prefix("paper, ").join(own, how="outer"), [("paper, 1xgpu", "paper, 2xgpu")]
    for a, b in product(page.alike, page.alike):
        same = (a.setup[1:], *a[2:]) == (b.setup[1:], *b[2:]) and (a.setup[0], b.setup[0]) == ("1", "2")
        pairs += [(a.name, b.name)] * (same and {a.name, b.name} <= set(own))
    found = {}
    for one, two in pairs:
        more = (seconds[two] - seconds[one]).dropna()
        changes = [f"between {low} and {high}" for low, high in pairwise(more.index) if more[low] * more[high] < 0]
        found[one, two] = " and ".join(changes) or "nowhere"
    return found


class Network(NamedTuple):
    """A network on a setup at a batch size: its ratios to the reference, and which of them go beyond noise."""

    name: str
    title: str
    batch_size: int
    parameters: int
    n: int
    column: str
    ratios: Ratios
    real: list[str]


def networks(page: Page) -> list[Network]:
    """Each network over the paper's, or over the first one, wherever there are several that differ in nothing else."""
    parameters, found = values(page.table, "parameters").groupby(CELL).first(), []
    for (title, size), group in page.table.drop_duplicates(CELL).groupby(["title", "batch_size"], sort=False):
        names = dict(zip(group.column, group.network, strict=True))
        reference = min(names, key=lambda column: len(names[column]))
        rows = {metric: log[log.index.isin([size], level="batch_size")] for metric, log in page.log.items()}
        compared = {metric: stats.ratios(log, reference, names) for metric, log in rows.items()}
        for column in sorted(names, key=lambda column: parameters[column, size]) if len(names) > 1 else ():
            own = {metric: each[column] for metric, each in compared.items() if column in each}
            told = names[column] or "the paper's", title, int(size), int(parameters[column, size])
            found.append(Network(*told, int(page.ran[column, size]), column, own, []))
    ps = [ratio.p for each in found for ratio in each.ratios.values()]
    sure = iter(multipletests(ps, method="holm")[0] if ps else ())
    return [each._replace(real=[metric for metric in each.ratios if next(sure)]) for each in found]
