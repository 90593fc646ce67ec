"""How far seeds scatter a metric, and what means and ratios are worth then.

Seconds, errors and losses are all positive, and scatter in proportion to their size. All statistics are those of their
natural logarithms: differences are ratios, and no interval of an accuracy passes 1.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

METRICS = ("seconds/fit", "errors", "val/loss")
FEWEST = 0.5  # errors; nothing less has a logarithm that means anything


@dataclass(frozen=True)
class Estimate:
    """A natural logarithm with its standard error and the degrees of freedom of that error."""

    log: float
    error: float
    freedom: float

    @property
    def ratio(self) -> float:
        return math.exp(self.log)

    def half(self, comparisons: int = 1) -> float:
        """Half the width of the 95 % interval; if it is one of several comparisons, of Bonferroni's."""
        if self.error == 0:
            return 0.0
        known = self.freedom > 0 and not math.isnan(self.error)
        return float(stdtrit(self.freedom, 1 - 0.025 / comparisons)) * self.error if known else math.inf

    def interval(self, comparisons: int = 1) -> tuple[float, float]:
        """The ratios that the data allow."""
        half = self.half(comparisons)
        return (0.0, math.inf) if math.isinf(half) else (math.exp(self.log - half), math.exp(self.log + half))

    def judge(self, claimed: float = 1.0, comparisons: int = 1) -> int:
        """1 if the ratio is above what is claimed, -1 if it is below, 0 if the interval has both."""
        over = self.log - math.log(claimed)
        return 0 if abs(over) <= self.half(comparisons) else int(math.copysign(1, over))

    def seen(self) -> float:
        """The smallest difference, as a share, that such data show in four of five cases."""
        if self.error == 0:
            return 0.0
        more = self.error * float(stdtrit(self.freedom, 0.8)) if self.freedom > 0 else math.inf
        return math.exp(self.half() + more) - 1 if not math.isinf(self.half() + more) else math.inf


@dataclass(frozen=True)
class Spread:
    """Standard deviation of one logarithm: pooled over all cells, unless `p`, the probability of cells as unequal as these by
    chance, is below 5 %; then by batch size."""

    deviation: float
    freedom: int
    p: float | None
    by_size: Mapping[int, tuple[float, int]]

    @property
    def pooled(self) -> bool:
        return self.p is None or self.p >= 0.05

    def at(self, size: int) -> tuple[float, int]:
        """Deviation and degrees of freedom at a batch size."""
        return (self.deviation, self.freedom) if self.pooled else self.by_size.get(size, (self.deviation, self.freedom))


UNKNOWN = Spread(math.nan, 0, None, {})


def logs(values: pd.Series) -> pd.Series:
    return np.log(values.clip(lower=FEWEST)) if values.name == "errors" else np.log(values)


def spread(values: pd.Series) -> Spread:
    """How far logarithms scatter within their cells.

    Args:
        values: By column, batch size and seed, or by batch size and seed.
    """
    from scipy.stats import bartlett, levene  # most of a second

    cells = [name for name in values.index.names if name != "seed"]
    size = cells.index("batch_size")
    groups = {name: each.to_numpy() for name, each in values.groupby(cells, sort=False) if len(each) > 1}
    if not groups:
        return UNKNOWN
    sizes: dict[int, tuple[float, int]] = {}
    for name, each in groups.items():
        key = name[size] if isinstance(name, tuple) else name
        squares, freedom = sizes.get(key, (0.0, 0))
        sizes[key] = squares + float(each.var() * len(each)), freedom + len(each) - 1
    by_size = {key: (math.sqrt(squares / freedom), freedom) for key, (squares, freedom) in sizes.items()}
    freedom = sum(count for _, count in sizes.values())
    deviation = math.sqrt(sum(squares for squares, _ in sizes.values()) / freedom)
    varied = [each for each in groups.values() if each.var() > 0]
    p = None
    if len(groups) > 1 and varied:
        # Bartlett's test has no answer where a cell does not scatter at all.
        test = bartlett if len(varied) == len(groups) else levene
        p = float(test(*groups.values()).pvalue)
    return Spread(deviation, freedom, None if p is None or math.isnan(p) else p, by_size)


def mean(values: pd.Series, known: Spread, column: str, size: int) -> Estimate | None:
    """The mean over the seeds of one cell; None if nothing ran. For a time it is the geometric mean."""
    if (column, size) not in values.index:
        return None
    cell = values.loc[column, size]
    deviation, freedom = known.at(size)
    return Estimate(float(cell.mean()), deviation / math.sqrt(len(cell)), freedom)


def paired(values: pd.Series, known: Spread, one: str, two: str) -> dict[int, Estimate]:
    """Two columns compared seed by seed: `two` over `one` at each batch size, over the seeds that both have.

    The deviation of the differences is pooled like any other. Where no cell has two common seeds it is that of two
    independent runs.
    """
    columns = values.index.get_level_values("column").unique()
    if one not in columns or two not in columns:
        return {}
    differences = (values.loc[two] - values.loc[one]).dropna().sort_index()
    own = spread(differences) if len(differences) else UNKNOWN
    found = {}
    for size, each in differences.groupby(level="batch_size"):
        deviation, freedom = own.at(size) if own.freedom else known.at(size)
        deviation *= 1 if own.freedom else math.sqrt(2)
        found[int(size)] = Estimate(float(each.mean()), deviation / math.sqrt(len(each)), freedom)
    return found


def contrasts(values: pd.Series, known: Spread, reference: str, size: int) -> dict[str, Estimate]:
    """All columns over one of them at one batch size, seed by seed; the deviation of the differences is pooled over the columns."""
    rows = values[values.index.get_level_values("batch_size") == size].unstack("column")
    if reference not in rows:
        return {}
    differences = rows.drop(columns=reference).sub(rows[reference], axis=0).stack().dropna()
    differences = differences.reorder_levels(["column", "batch_size", "seed"])
    own = spread(differences) if len(differences) else UNKNOWN
    deviation, freedom = own.at(size) if own.freedom else (known.at(size)[0] * math.sqrt(2), known.at(size)[1])
    return {
        column: Estimate(float(each.mean()), deviation / math.sqrt(len(each)), freedom)
        for column, each in differences.groupby("column")
    }


def average(estimates: Iterable[Estimate]) -> Estimate:
    """The mean of independent logarithms. Their errors are of one pooled deviation, or the fewest degrees of freedom count."""
    each = list(estimates)
    error = math.sqrt(sum(one.error**2 for one in each)) / len(each)
    return Estimate(sum(one.log for one in each) / len(each), error, min(one.freedom for one in each))
