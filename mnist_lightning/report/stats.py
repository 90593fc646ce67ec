"""How far runs scatter, and what means and ratios are worth then: least squares of natural logarithms, by statsmodels.

Seconds, errors and losses are positive, and scatter in proportion to their size, so that differences of logarithms are what
counts. A column has its own scatter, pooled over its batch sizes. Two columns are compared seed by seed, since runs of one seed
share their batches and with them a part of what they scatter by.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mnist_lightning.report.columns import PLACE, values

METRICS = ("seconds/fit", "errors", "val/loss")
FEWEST = 0.5  # errors; nothing less has a logarithm that means anything
BOUND = 0.10  # what differs by less, with its whole interval, is equal; fixed before any run
CELL = ["column", "batch_size"]


class Ratio(NamedTuple):
    """A ratio with its 95 % interval, of n numbers or pairs. If the scatter is not known, the interval is from 0 to infinity."""

    ratio: float
    low: float
    high: float
    n: int

    @classmethod
    def of_log(cls, log: float, ends: Sequence[float], n: int) -> "Ratio":
        ratio, low, high = (float(np.exp(each)) for each in (log, *ends))
        return cls(ratio, low, high, n)

    @property
    def verdict(self) -> str:
        """What differs by less than the bound is told as equal, even if it differs."""
        if 1 - BOUND < self.low and self.high < 1 + BOUND:
            return "equal"
        return "different" if self.low > 1 or self.high < 1 else "cannot tell"

    def told(self, form: str = ".2f") -> str:
        text = f"{self.ratio:{form}}"
        return text if np.isinf(self.high) else f"{text} [{self.low:{form}}, {self.high:{form}}]"


class Noise(NamedTuple):
    """Standard deviation of a logarithm, and its degrees of freedom; 0 if it is not known."""

    deviation: float = np.nan
    freedom: float = 0

    def p(self, log: float, variance: float = 2.0) -> float:
        """The p of no difference for a logarithm with so many times the variance of the noise; 1 if that is not known."""
        scaled = abs(log) / max(self.deviation * variance**0.5, 1e-12) if self.freedom else 0.0
        return float(2 * stats.t.sf(scaled, self.freedom)) if self.freedom else 1.0

    def seen(self, variance: float) -> float:
        """The smallest difference, as a share, that such a logarithm shows in four of five cases."""
        quantiles = stats.t.ppf(0.975, self.freedom) + stats.t.ppf(0.8, self.freedom)
        return float(np.expm1(quantiles * self.deviation * variance**0.5))


def measured(table: pd.DataFrame, metric: str) -> pd.Series:
    """The logarithms of a metric by column, batch size and seed; of seconds, at the usual rate of their machine."""
    found = values(table, metric)
    log = np.log(found.clip(lower=FEWEST) if metric == "errors" else found)
    return log - at_usual_rate(table)[1].reindex(log.index, fill_value=0.0) if metric.startswith("seconds/") else log


def at_usual_rate(table: pd.DataFrame) -> tuple[Ratio | None, pd.Series]:
    """How the seconds of equal runs follow the rate that the machine was calibrated at, and by what they are adjusted.

    Returns:
        The power of the rate that the seconds follow, with its interval, or None if it is not known; and the logarithms to
        subtract, 0 unless that interval is below 0.
    """
    rows = table[(table.metric == "seconds/fit") & (table.left_out == "")].dropna(subset=["rate"])
    frame = rows.groupby(PLACE, sort=False).agg(
        y=("value", "median"), x=("rate", "median"), machine=("machine", "first")
    )
    frame[["y", "x"]] = np.log(frame[["y", "x"]].astype(float))
    frame["x"] -= frame.groupby("machine").x.transform("median")
    frame["cell"] = [f"{column} {size}" for column, size, _ in frame.index]
    if len(frame) - frame.cell.nunique() < 10 or frame.x.std() == 0:
        return None, 0 * frame.x
    fit = smf.ols("y ~ C(cell) + x", frame).fit()
    low, high = fit.conf_int().loc["x"]
    power = Ratio(fit.params["x"], low, high, len(frame))
    return power, (power.ratio if power.high < 0 else 0.0) * frame.x


def cells(log: pd.Series) -> pd.DataFrame:
    """The mean of each column at each batch size: `mean`, the ends `low` and `high` of its 95 % interval, NaN if not known, and
    `n`."""
    found = log.groupby(CELL, sort=False).agg(mean="mean", low="mean", high="mean", n="size")
    for column, each in log.groupby("column", sort=False):
        frame = each.rename("y").reset_index()
        fit, known = _of_sizes(frame), len(frame) > frame.batch_size.nunique()
        ends = fit.get_prediction(found.loc[[column]].reset_index()).conf_int() if known else np.nan
        found.loc[[column], ["low", "high"]] = ends
    found[["mean", "low", "high"]] = np.exp(found[["mean", "low", "high"]])
    return found


def scatter(log: pd.Series) -> Noise:
    """How far the runs of a cell scatter, pooled over the cells."""
    free = len(log) - log.groupby(CELL).ngroups
    squares = float(((log - log.groupby(CELL).transform("mean")) ** 2).sum())
    return Noise((squares / free) ** 0.5, free) if free else Noise()


def compare(log: pd.Series, one: str, two: str) -> Ratio | None:
    """Column `two` over column `one`, seed by seed, on average over the batch sizes; None if no seed has both.

    If no batch size has two seeds, the interval is that of the scatter over the batch sizes.
    """
    if not {one, two} <= set(log.index.get_level_values("column")) or (pairs := (log[two] - log[one]).dropna()).empty:
        return None
    fit = _of_sizes(pairs.rename("y").reset_index())
    if not fit.df_resid:
        return over_sizes(pairs)
    return Ratio.of_log(fit.params["Intercept"], fit.conf_int().loc["Intercept"], len(pairs))


def over_sizes(differences: Sequence[float] | pd.Series) -> Ratio:
    """The mean of independent logarithms of ratios, with the interval of Student's t test."""
    each = np.asarray(differences, float)
    ends = stats.ttest_1samp(each, 0.0).confidence_interval() if len(each) > 1 else (-np.inf, np.inf)
    return Ratio.of_log(each.mean(), ends, len(each))


def to_reference(log: pd.Series, reference: str) -> dict[str, tuple[Ratio, float]]:
    """All columns over one of them, with the p of no difference. What all runs of a seed share counts once.

    Args:
        log: Of one batch size.
        reference: The column.
    """
    frame = log.rename("y").reset_index()
    if frame.column.nunique() < 2 or reference not in set(frame.column):
        return {}
    seeds = " + C(seed)" if frame.seed.duplicated().any() and frame.seed.nunique() > 1 else ""
    fit = smf.ols(f"y ~ C(column, Treatment({reference!r})){seeds}", frame).fit()
    found = {}
    for name in fit.params.index[fit.params.index.str.startswith("C(column")]:
        column, known = name.rpartition("[T.")[2][:-1], fit.df_resid > 0
        ends = fit.conf_int().loc[name] if known else (-np.inf, np.inf)
        ratio = Ratio.of_log(fit.params[name], ends, int((frame.column == column).sum()))
        found[column] = ratio, float(fit.pvalues[name]) if known else 1.0
    return found


def late_noise(late: pd.DataFrame) -> dict[str, Noise]:
    """How far errors and loss scatter between seeds in the second half of the epochs, each of which could have been the last.

    Args:
        late: `batch_size`, `epoch`, `errors` and `val/loss` of runs that differ in batch size and seed. The epochs of a run
            are not independent, so that they count as one for the degrees of freedom.
    """
    found = dict.fromkeys(METRICS[1:], Noise())
    for metric in found if len(late) else ():
        log = np.log(late[metric].clip(lower=FEWEST if metric == "errors" else None))
        noise = scatter(log.set_axis(pd.MultiIndex.from_frame(late[["epoch", "batch_size"]], names=CELL)))
        found[metric] = noise._replace(freedom=noise.freedom / late.epoch.nunique())
    return found


def holm(p: Sequence[float]) -> list[float]:
    """The p of several questions, corrected for their number."""
    return [float(each) for each in multipletests(p, method="holm")[1]] if p else []


def _of_sizes(frame: pd.DataFrame) -> Any:
    """A fit to `y` whose intercept is the mean over the batch sizes."""
    return smf.ols("y ~ C(batch_size, Sum)" if frame.batch_size.nunique() > 1 else "y ~ 1", frame).fit()
