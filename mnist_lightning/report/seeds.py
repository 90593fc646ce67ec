"""How far seeds alone scatter a metric, and which differences exceed that."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from mnist_lightning.report.runs import Column


@dataclass(frozen=True)
class Scatter:
    """Standard deviation of one run of a metric between seeds, by batch size, and its degrees of freedom.

    A few seeds tell the deviation of one cell badly. Cells of the same batch size are pooled: setups and precisions
    compute the same function, and what is left is the seed.
    """

    deviation: Mapping[int, float]
    freedom: Mapping[int, int]


@dataclass(frozen=True)
class Difference:
    """Mean of the second minus mean of the first, with half the width of its 95 % interval; None if unknown."""

    batch_size: int
    mean: float
    half_width: float | None

    @property
    def is_real(self) -> bool | None:
        """Whether the interval excludes zero."""
        return None if self.half_width is None else abs(self.mean) > self.half_width


def scatter(columns: Sequence[Column], metric: str) -> Scatter:
    """Pools the variance between seeds over the columns, each batch size by itself."""
    deviation, freedom = {}, {}
    for batch_size in sorted({size for column in columns for size in column.batch_sizes}):
        cells = [list(column.values(batch_size, metric).values()) for column in columns]
        cells = [cell for cell in cells if len(cell) > 1]
        degrees = sum(len(cell) - 1 for cell in cells)
        if degrees:
            squares = sum(statistics.variance(cell) * (len(cell) - 1) for cell in cells)
            deviation[batch_size], freedom[batch_size] = math.sqrt(squares / degrees), degrees
    return Scatter(deviation, freedom)


def half_width(known: Scatter, batch_size: int, *counts: int) -> float | None:
    """Half the width of the 95 % interval of a mean of n seeds, or of the difference of two such means."""
    if batch_size not in known.deviation or min(counts) < 1:
        return None
    quantile = float(stdtrit(known.freedom[batch_size], 0.975))
    return quantile * known.deviation[batch_size] * math.sqrt(sum(1 / n for n in counts))


def differences(first: Column, second: Column, metric: str, known: Scatter) -> list[Difference]:
    """Second minus first at each batch size that both have."""
    found = []
    for batch_size in sorted({*first.batch_sizes} & {*second.batch_sizes}):
        ours = [list(column.values(batch_size, metric).values()) for column in (first, second)]
        if all(ours):
            mean = statistics.fmean(ours[1]) - statistics.fmean(ours[0])
            found.append(Difference(batch_size, mean, half_width(known, batch_size, *map(len, ours))))
    return found
