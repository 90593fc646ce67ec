"""Means over seeds, how far seeds alone scatter a metric, and which differences exceed that."""

import math

import pandas as pd
from scipy.special import stdtrit


def cells(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean, standard deviation and count over the seeds of each cell, by column and batch size, in the table's order."""
    rows = table[table.metric == metric]
    return rows.groupby(["column", "batch_size"], sort=False).value.agg(["mean", "std", "var", "count"])


def scatter(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Standard `deviation` of one run between seeds and its degrees of `freedom`, by batch size.

    A few seeds tell the deviation of one cell badly. Cells of the same batch size are pooled: setups and precisions
    compute the same function, and what is left is the seed.
    """
    repeated = cells(table, metric).query("count > 1").assign(freedom=lambda cell: cell["count"] - 1)
    pooled = (
        repeated.assign(squares=repeated["var"] * repeated.freedom).groupby("batch_size")[["squares", "freedom"]].sum()
    )
    return pooled.assign(deviation=(pooled.squares / pooled.freedom) ** 0.5).drop(columns="squares")


def half_width(known: pd.DataFrame, batch_size: int, *counts: int) -> float:
    """Half the width of the 95 % interval of a mean of n seeds, or of the difference of two such means.

    Returns:
        It, or NaN if the deviation at this batch size is not known.
    """
    if batch_size not in known.index:
        return math.nan
    quantile = float(stdtrit(known.freedom[batch_size], 0.975))
    return quantile * known.deviation[batch_size] * math.sqrt(sum(1 / n for n in counts))


def differences(table: pd.DataFrame, first: str, second: str, metric: str) -> pd.DataFrame:
    """Second column minus first at each batch size that both have.

    Returns:
        By batch size, the `mean`, the `half_width` of its 95 % interval or NaN, and whether that excludes zero, `real`.
    """
    known, found = scatter(table, metric), cells(table, metric)
    both = found.loc[first].join(found.loc[second], how="inner", lsuffix="_1", rsuffix="_2").sort_index()
    widths = [half_width(known, size, *both.loc[size, ["count_1", "count_2"]]) for size in both.index]
    result = pd.DataFrame({"mean": both.mean_2 - both.mean_1, "half_width": widths}, index=both.index)
    return result.assign(real=result["mean"].abs() > result.half_width)
