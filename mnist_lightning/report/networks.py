"""How the network matters: accuracy, loss and time of each, and whether a second device gains with its size."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from mnist_lightning.report.columns import of_columns, values
from mnist_lightning.report.evidence import Noise
from mnist_lightning.report.seeds import METRICS, Estimate, contrasts, logs, mean, spread

PAPERS = "the paper's"  # network


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
        ratios = {
            metric: contrasts(of_columns(each, columns), noise[metric], reference, size)
            for metric, each in runs.items()
        }
        networks = []
        for column in order:
            networks.append(
                Network(
                    name=group.network[group.column == column].iloc[0] or PAPERS,
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
    """Whether what a second device, or a larger batch, gains grows with the network.

    Args:
        variant: What else the runs have in common, such as a precision.
        second: Whether the gain is that of a second device.
        what: What is gained from, in words.
        gains: Seconds without it over seconds with it, by network, the cheapest first.
        exponent: The gain grows as MFLOP an image to the power of its logarithm.
    """

    variant: str
    second: bool
    what: str
    gains: dict[str, Estimate]
    exponent: Estimate

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.gains)


def growths(table: pd.DataFrame) -> Iterator[Growth]:
    """For all setups and batch sizes at which three networks or more ran with it and without it."""
    variants = _titles(table).map(lambda title: title.partition(", ")[2])
    places = table.assign(variant=variants).drop_duplicates(["column", "batch_size"])
    for variant, same in places.groupby("variant", sort=False):
        cells = {(row.setup, row.batch_size, row.network): (row.column, row.batch_size) for row in same.itertuples()}
        setups, sizes = same.setup.unique(), sorted(same.batch_size.unique())
        for one in (setup for setup in setups if setup.startswith("1x") and f"2x{setup[2:]}" in setups):
            two = f"2x{one[2:]}"
            for size in sizes:
                pairs = _both(cells, (one, size), (two, size))
                yield from _growth(table, variant, True, f"`{two}` instead of `{one}` at batch size {size}", pairs)
        for setup in setups:
            for small, large in pairwise(size for size in sizes if len(_both(cells, (setup, size), (setup, size))) > 2):
                pairs = _both(cells, (setup, small), (setup, large))
                yield from _growth(table, variant, False, f"batch size {large} instead of {small} on `{setup}`", pairs)


Cell = tuple[str, int]  # a column, or a setup, and a batch size


def _both(cells: Mapping[tuple[str, int, str], Cell], one: Cell, two: Cell) -> dict[str, tuple[Cell, Cell]]:
    """The cells of the networks that ran in both ways."""
    return {
        name: (column, cells[*two, name])
        for (setup, size, name), column in cells.items()
        if (setup, size) == one and (*two, name) in cells
    }


def _growth(
    table: pd.DataFrame, variant: str, second: bool, what: str, pairs: Mapping[str, tuple[Cell, Cell]]
) -> Iterator[Growth]:
    from scipy.stats import linregress

    times, work = logs(values(table, "seconds/fit")), values(table, "mflop")
    timed, differences, costs = set(times.index.droplevel("seed")), {}, {}
    for name, (one, two) in pairs.items():
        each = times.loc[one].sub(times.loc[two]).dropna() if {one, two} <= timed else pd.Series()
        if len(each) and one in work.index:
            differences[name], costs[name] = each, math.log(work.loc[one].iloc[0])
    if len(set(costs.values())) < 3 or sum(map(len, differences.values())) < 4:
        return
    order = sorted(costs, key=costs.__getitem__)
    y = pd.concat([differences[name] for name in order], keys=order, names=["batch_size"])
    fit = linregress([costs[name] for name in y.index.get_level_values(0)], y)
    scatter = spread(y)  # pooled over the networks
    gains = {
        name: Estimate(
            float(differences[name].mean()), scatter.deviation / math.sqrt(len(differences[name])), scatter.freedom
        )
        for name in order
    }
    names = {name or PAPERS: each for name, each in gains.items()}
    yield Growth(variant, second, what, names, Estimate(float(fit.slope), float(fit.stderr), len(y) - 2))
