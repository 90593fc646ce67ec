"""How the network matters: accuracy, loss and time of each, and whether a second device gains with its size."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from mnist_lightning.report.columns import values
from mnist_lightning.report.evidence import Noise
from mnist_lightning.report.seeds import METRICS, Estimate, contrasts, logs, mean


@dataclass(frozen=True)
class Network:
    """One network at one batch size: its cells, and its ratios to the network that all are compared with."""

    name: str
    column: str
    reference: bool
    parameters: int
    mflop: float | None
    share: float | None
    n: int
    cells: dict[str, Estimate | None]
    ratios: dict[str, Estimate]

    def real(self, metric: str, comparisons: int) -> bool:
        """Whether it differs from the reference by more than seeds do."""
        return metric in self.ratios and self.ratios[metric].judge(1.0, comparisons) != 0


@dataclass(frozen=True)
class Grid:
    """Networks that ran on one setup at one batch size, the cheapest first."""

    setup: str
    batch_size: int
    networks: list[Network]


def grids(table: pd.DataFrame, noise: Noise) -> Iterator[Grid]:
    """The setups and batch sizes at which several networks ran."""
    runs = {metric: logs(values(table, metric)) for metric in METRICS}
    numbers = {name: values(table, name) for name in ("parameters", "mflop", "share")}
    for (title, size), group in table.assign(title=_titles(table)).groupby(["title", "batch_size"], sort=False):
        columns = dict.fromkeys(group.column)
        if len(columns) < 2:
            continue
        papers = list(dict.fromkeys(group.column[group.papers]))

        def number(name: str, column: str, size: int = size) -> float | None:
            found = numbers[name]
            return float(found.loc[column, size].median()) if (column, size) in found.index else None

        work = {column: number("mflop", column) or number("parameters", column) or 0.0 for column in columns}
        order = sorted(columns, key=work.__getitem__)
        reference = papers[0] if papers else order[0]
        here = group.column.unique().tolist()
        ratios = {
            metric: contrasts(each[each.index.get_level_values("column").isin(here)], noise[metric], reference, size)
            for metric, each in runs.items()
        }
        networks = []
        for column in order:
            networks.append(
                Network(
                    name=group.network[group.column == column].iloc[0] or "the paper's",
                    column=column,
                    reference=column == reference,
                    parameters=int(number("parameters", column) or 0),
                    mflop=number("mflop", column),
                    share=number("share", column),
                    n=group.seed[group.column == column].nunique(),
                    cells={metric: mean(each, noise[metric], column, size) for metric, each in runs.items()},
                    ratios={metric: each[column] for metric, each in ratios.items() if column in each},
                )
            )
        yield Grid(title, int(size), networks)


def _titles(table: pd.DataFrame) -> pd.Series:
    """The columns without the part that tells the network."""
    pairs = zip(table.column, table.network, strict=True)
    return pd.Series([column.removesuffix(f", {network}") for column, network in pairs], table.index)


@dataclass(frozen=True)
class Growth:
    """Whether what a second device gains grows with the network: the exponent of T1 / T2 over MFLOP an image."""

    batch_size: int
    gains: dict[str, float]
    exponent: Estimate


def growths(table: pd.DataFrame) -> Iterator[Growth]:
    """For each batch size at which three networks or more ran on one device and on two."""
    from scipy.stats import linregress

    times, work = logs(values(table, "seconds/fit")), values(table, "mflop")
    places = table.drop_duplicates(["column", "batch_size"])
    for (kind, size), group in places.groupby([places.setup.str[2:], "batch_size"], sort=False):
        columns = {(row.setup, row.column.partition(", ")[2]): row.column for row in group.itertuples()}
        gains, x, y = {}, [], []
        for (setup, rest), one in columns.items():
            two = columns.get((f"2x{kind}", rest))
            if setup != f"1x{kind}" or two is None or (one, size) not in work.index:
                continue
            if not {one, two} <= set(times.index.get_level_values("column")):
                continue
            differences = (times.loc[one] - times.loc[two]).dropna()
            each = differences[differences.index.get_level_values("batch_size") == size].tolist()
            if each:
                gains[rest or "the paper's"] = math.exp(sum(each) / len(each))
                x += [math.log(work.loc[one, size].iloc[0])] * len(each)
                y += each
        if len(set(x)) >= 3 and len(x) > 3:
            fit = linregress(x, y)
            yield Growth(int(size), gains, Estimate(float(fit.slope), float(fit.stderr), len(x) - 2))
