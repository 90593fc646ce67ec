"""What the paper's tables, or our runs, say of two setups: ratios with their intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from mnist_lightning import paper
from mnist_lightning.report.columns import values
from mnist_lightning.report.runs import TESTED
from mnist_lightning.report.seeds import METRICS, UNKNOWN, Estimate, Spread, logs, mean, paired, spread

JUDGED = (*METRICS, "first_epoch")
Noise = Mapping[str, Spread]  # of one run, by metric
CERTAIN = {metric: Spread(0.0, 1, None, {}) for metric in METRICS}  # as if each number were exact


@dataclass(frozen=True)
class Evidence:
    """Tables of one source: logarithms by metric, a row a batch size, a column a setup; NaN where nothing ran.

    Args:
        tables: The means.
        noise: Of one run.
        runs: Ours by metric, as logarithms by column, batch size and seed; empty for the paper, whose cells are one run each.
        columns: The column of each setup.
        growth: How what a second device gains grows with the network, as exponents.
    """

    tables: Mapping[str, pd.DataFrame]
    noise: Noise
    runs: Mapping[str, pd.Series] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    growth: Sequence[Estimate] = ()

    def has(self, metric: str, *setups: str) -> bool:
        return len(self.table(metric, *setups)) > 0

    def table(self, metric: str, *setups: str) -> pd.DataFrame:
        """The rows in which all these setups have a value; by default all setups that there are."""
        table = self.tables[metric]
        return table.reindex(columns=list(setups) or list(table.columns)).dropna().sort_index()

    def ratios(self, metric: str, one: str, two: str) -> dict[int, Estimate]:
        """`two` over `one` by batch size: ours seed by seed, the paper's of one run each."""
        if self.runs:
            if not {one, two} <= self.columns.keys():
                return {}
            return paired(self.runs[metric], self.noise[metric], self.columns[one], self.columns[two])
        if metric not in self.tables:
            return {}
        return {
            int(size): self._single(metric, int(size), row[two] - row[one])
            for size, row in self.table(metric, one, two).iterrows()
        }

    def steps(self, metric: str, setup: str) -> dict[int, Estimate]:
        """What doubling the batch size to this one gives: the ratio to the value of half the size."""
        column = self.table(metric, setup)[setup]
        found = {}
        for size in column.index:
            if size // 2 in column.index:
                counts = [self._count(metric, setup, each) for each in (size, size // 2)]
                deviation, freedom = self.noise[metric].at(int(size))
                error = deviation * math.sqrt(sum(1 / count for count in counts))
                found[int(size)] = Estimate(float(column[size] - column[size // 2]), error, freedom)
        return found

    def accuracies(self, one: str, two: str) -> dict[int, Estimate]:
        """The accuracy of `two` over that of `one`, from their errors."""
        found, table = {}, self.table("errors", one, two)
        for size, each in self.ratios("errors", one, two).items():
            wrong = [math.exp(table[setup][size]) / TESTED for setup in (one, two)]
            # A share of p wrong, changed by the factor 1 + e, changes the accuracy 1 - p by the factor 1 - e p / (1 - p).
            odds = wrong[1] / (1 - wrong[1])
            found[size] = Estimate(math.log((1 - wrong[1]) / (1 - wrong[0])), each.error * odds, each.freedom)
        return found

    def _single(self, metric: str, size: int, difference: float) -> Estimate:
        deviation, freedom = self.noise[metric].at(size)
        return Estimate(float(difference), deviation * math.sqrt(2), freedom)

    def _count(self, metric: str, setup: str, size: int) -> int:
        return len(self.runs[metric].loc[self.columns[setup], size]) if self.runs else 1


def published(noise: Noise = CERTAIN) -> Evidence:
    """The paper's tables, with the noise of one run that ours show."""
    errors = {setup: [TESTED * (1 - value) for value in column] for setup, column in paper.ACCURACY.items()}
    tables = dict(zip(METRICS, (paper.SECONDS, errors, paper.LOSS), strict=True))
    frames = {
        name: logs(pd.DataFrame(table, index=list(paper.BATCH_SIZES)).stack()).unstack()
        for name, table in tables.items()
    }
    return Evidence({name: frame[list(paper.SETUPS)] for name, frame in frames.items()}, noise)


def noise(table: pd.DataFrame) -> Noise:
    """How far one run of ours scatters."""
    found = {}
    for metric in JUDGED:
        each = logs(values(table, metric))
        found[metric] = spread(each) if len(each) else UNKNOWN
    return found


def ours(table: pd.DataFrame, known: Noise, growth: Sequence[Estimate] = ()) -> Evidence:
    """Our runs of one variant: one column a setup."""
    runs = {metric: logs(values(table, metric)) for metric in JUDGED}
    columns = dict(zip(table.setup, table.column, strict=True))
    setups = {column: setup for setup, column in columns.items()}
    tables = {}
    for metric, each in runs.items():
        means = each.groupby(["batch_size", "column"], sort=False).mean().unstack() if len(each) else pd.DataFrame()
        tables[metric] = means.rename(columns=setups).reindex(columns=list(columns)).sort_index()
    return Evidence(tables, known, runs, columns, growth)


def cell(evidence: Evidence, metric: str, setup: str, size: int) -> Estimate | None:
    """The mean of one of our cells."""
    return mean(evidence.runs[metric], evidence.noise[metric], evidence.columns[setup], size)
