"""How far runs scatter, and what means and ratios are worth then: least squares of natural logarithms, by statsmodels.

Seconds, errors and losses scatter in proportion to their size, so that differences of logarithms are what counts. A column has
its own scatter, pooled over its batch sizes. Columns are compared seed by seed, since runs of one seed share their batches and
with them a part of what they scatter by; those of another program do not.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy import stats

from mnist_lightning.report.columns import PLACE, values

METRICS = TIME, ERRORS, LOSS = "seconds/fit", "errors", "val/loss"
FEWEST = 0.5  # errors; nothing less has a logarithm that means anything
BOUND = 0.10  # what differs by less, with its whole interval, is equal; fixed before any run
CELL = ["column", "batch_size"]


class Ratio(NamedTuple):
    """A ratio with its 95 % interval, which is from 0 to infinity if the scatter is not known, and the p of no difference."""

    ratio: float
    low: float = 0.0
    high: float = np.inf
    p: float = 1.0

    @property
    def verdict(self) -> str:
        """What differs by less than the bound is told as equal, even if it differs."""
        if 1 - BOUND < self.low and self.high < 1 + BOUND:
            return "equal"
        return "different" if self.low > 1 or self.high < 1 else "cannot tell"

    def __str__(self) -> str:
        return f"{self.ratio:.2f}" + (f" [{self.low:.2f}, {self.high:.2f}]" if np.isfinite(self.high) else "")


class Noise(NamedTuple):
    """Standard deviation of a logarithm, and its degrees of freedom; 0 if it is not known."""

    deviation: float = np.nan
    freedom: float = 0

    def p(self, log: float, variance: float = 2.0) -> float:
        """The p of no difference for a logarithm with so many times the variance of the noise; 1 if that is not known."""
        scaled = abs(log) / max(self.deviation * variance**0.5, 1e-12)
        return float(2 * stats.t.sf(scaled, self.freedom)) if self.freedom else 1.0

    def seen(self, variance: float) -> float:
        """The smallest difference, as a share, that such a logarithm shows in four of five cases."""
        quantiles = stats.t.ppf(0.975, self.freedom) + stats.t.ppf(0.8, self.freedom)
        return float(np.expm1(quantiles * self.deviation * variance**0.5))


def measured(table: pd.DataFrame, metric: str) -> pd.Series:
    """The logarithms of a metric by column, batch size and seed; of seconds, at the usual rate of their machine."""
    found = values(table, metric)
    log = np.log(found.clip(lower=FEWEST) if metric == ERRORS else found)
    return log - at_usual_rate(table)[1].reindex(log.index, fill_value=0.0) if metric.startswith("seconds/") else log


def at_usual_rate(table: pd.DataFrame) -> tuple[str, pd.Series]:
    """How the seconds of equal runs follow the rate that the machine was calibrated at: the power with its interval, empty if it
    is not known; and the logarithms to subtract from seconds for that, 0 unless the interval is below 0."""
    rows = table[(table.metric == TIME) & (table.left_out == "")].dropna(subset=["rate"])
    names = {name: (name, "first") for name in ("machine", "setup")}
    frame = rows.groupby(PLACE, sort=False).agg(y=("value", "median"), x=("rate", "median"), **names)
    frame[["y", "x"]] = np.log(frame[["y", "x"]].astype(float))
    frame["x"] -= frame.groupby(["machine", "setup"]).x.transform("median")  # two GPUs have twice the rate of one
    frame["cell"] = [f"{column} {size}" for column, size, _ in frame.index]
    if len(frame) - frame.cell.nunique() < 10 or frame.x.std() == 0:
        return "", 0 * frame.x
    fit = smf.ols("y ~ C(cell) + x", frame).fit()
    low, high = fit.conf_int().loc["x"]
    return str(Ratio(fit.params["x"], low, high)), (fit.params["x"] if high < 0 else 0.0) * frame.x


def scatter(log: pd.Series) -> Noise:
    """How far the runs of a cell scatter, pooled over the cells."""
    free = len(log) - log.groupby(CELL).ngroups
    squares = float(((log - log.groupby(CELL).transform("mean")) ** 2).sum())
    return Noise((squares / free) ** 0.5, free) if free else Noise()


def cells(log: pd.Series) -> pd.DataFrame:
    """The mean of each column at each batch size, its `n`, and the ends of its 95 % interval, NaN if they are not known."""
    found = log.groupby(CELL, sort=False).agg(mean="mean", n="size")
    noise = {column: scatter(each) for column, each in log.groupby("column")}
    half = [stats.t.ppf(0.975, noise[each].freedom or np.nan) * noise[each].deviation for each, _ in found.index]
    found["low"], found["high"] = (found["mean"] + sign * np.array(half) / found.n**0.5 for sign in (-1, 1))
    found[["mean", "low", "high"]] = np.exp(found[["mean", "low", "high"]])
    return found


def ratios(log: pd.Series, reference: str, others: Collection[str]) -> dict[str, Ratio]:
    """Columns over another one, seed by seed, on average over the batch sizes. One that shares no seed with any is missing.

    If no batch size has two seeds, the interval is that of the scatter over the batch sizes.
    """
    frame = log.rename("y").reset_index()
    frame["pair"] = frame.batch_size.astype(str) + " " + frame.seed.astype(str)
    frame = frame[frame.column.isin([reference, *others])]
    frame = frame[frame.groupby("pair").column.transform("size") > 1]
    if reference not in set(frame.column):
        return {}
    columns = sorted(set(frame.column) - {reference})
    frame = frame.assign(**{f"x{place}": (frame.column == each).astype(float) for place, each in enumerate(columns)})
    terms = [f"x{place}" for place in range(len(columns))]
    if 1 < frame.batch_size.nunique() < frame.pair.nunique():
        terms += [f"{term}:C(batch_size, Sum)" for term in terms]
    fit = smf.ols(f"y ~ 0 + C(pair) + {' + '.join(terms)}", frame).fit()
    ends, found = fit.conf_int() if fit.df_resid else None, {}
    for place, column in enumerate(columns):
        known = [] if ends is None else [*np.exp(ends.loc[f"x{place}"]), fit.pvalues[f"x{place}"]]
        found[column] = Ratio(*map(float, [np.exp(fit.params[f"x{place}"]), *known]))
    return found


def unrelated(one: pd.Series, other: pd.Series) -> Ratio | None:
    """A column over one whose seeds are other ones, on average over the batch sizes, by Welch's t test; None without a shared size.

    Runs of one seed share the order of their images at all batch sizes, and scatter together: its mean counts once. Where a
    column has one seed, as the paper has, the scatter of the ratios over the batch sizes counts."""
    gap = (one.groupby("batch_size").mean() - other.groupby("batch_size").mean()).dropna()
    if gap.empty:
        return None
    logs = (log[log.index.isin(gap.index, level="batch_size")] for log in (one, other))
    seeds = [(log - log.groupby("batch_size").transform("mean")).groupby("seed").mean() for log in logs]
    samples = *(each for each in seeds if len(each) > 1), gap, pd.Series([0.0, 0.0])
    first, second = (each - each.mean() for each in samples[:2])
    test = stats.ttest_ind(first + gap.mean(), second, equal_var=False)
    ends = np.exp(test.confidence_interval())
    return Ratio(*map(float, [np.exp(gap.mean()), *([*ends, test.pvalue] if np.isfinite(ends).all() else ())]))


def late_noise(late: pd.DataFrame) -> dict[str, Noise]:
    """How far errors and loss scatter between seeds in the second half of the epochs, each of which could have been the last: of
    a table of `batch_size`, `epoch`, `errors` and `val/loss`. The epochs of a run are not independent: they count once."""
    found = dict.fromkeys(METRICS[1:], Noise())
    for metric in found if len(late) else ():
        log = np.log(late[metric].clip(lower=FEWEST if metric == ERRORS else None))
        noise = scatter(log.set_axis(pd.MultiIndex.from_frame(late[["epoch", "batch_size"]], names=CELL)))
        found[metric] = noise._replace(freedom=noise.freedom / late.epoch.nunique())
    return found


def fit_line(steps: Sequence[float], seconds: Sequence[float]) -> Any:
    """A fit of seconds = Intercept + slope * steps, whose `scale` is the variance of the relative errors. All batch sizes train the
    same images, so that the intercept is what the images cost and the slope what a step costs whatever it holds."""
    frame = pd.DataFrame({"seconds": seconds, "steps": steps}, dtype=float)
    return smf.wls("seconds ~ steps", frame, weights=frame.seconds**-2.0).fit()
