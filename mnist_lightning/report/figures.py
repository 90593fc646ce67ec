"""The figures: the paper dashed, ours solid; a colour and a marker a setup, a line style and a fill a precision."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter, StrMethodFormatter

from mnist_lightning import paper
from mnist_lightning.report.columns import values
from mnist_lightning.report.networks import Grid
from mnist_lightning.report.page import PAPER, TABLES
from mnist_lightning.report.two_devices import Second

WIDTH = 8.0  # inches
# Okabe and Ito's colours, which the colour-blind can tell apart; their greys differ, and so do the markers.
COLOURS = {"1xcpu": "#0072B2", "2xcpu": "#D55E00", "1xgpu": "#009E73", "2xgpu": "#CC79A7"}
MARKERS = {"1xcpu": "o", "2xcpu": "s", "1xgpu": "D", "2xgpu": "^"}
OTHER_COLOUR, OTHER_MARKER = "#000000", "v"
PRECISIONS = {"32-true": "-", "bf16-mixed": (0, (1, 1))}  # line styles; products of fewer bits are dotted and hollow


def colour(setup: str) -> str:
    return COLOURS.get(setup, OTHER_COLOUR)


def marker(setup: str) -> str:
    return MARKERS.get(setup, OTHER_MARKER)


def curves(table: pd.DataFrame, number: str) -> Figure:
    """Figures 3 to 5: Table I, II or III over the batch size. Each run of ours is a dot, and lines join their means.

    Args:
        table: Our runs of few networks.
        number: Of the paper's table.
    """
    shown = TABLES[number]
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for setup, each in PAPER[number].items():
        style: dict[str, Any] = {"linestyle": (0, (6, 3)), "marker": marker(str(setup)), "markerfacecolor": "white"}
        axes.plot(each.index, each, color=colour(str(setup)), alpha=0.75, linewidth=1, label=f"paper, {setup}", **style)
    ours = values(table, shown.metric)
    columns = table.drop_duplicates("column").set_index("column")
    for place, (column, row) in enumerate(columns.iterrows()):
        if column not in ours.index:
            continue
        found = ours.loc[column].sort_index()
        # Shifted, so that dots do not hide each other.
        shift = 2 ** (0.07 * (place - (len(columns) - 1) / 2))
        fp32, own = row.precision == "32-true", colour(row.setup)
        axes.scatter(
            found.index.get_level_values(0) * shift,
            found,
            s=22,
            marker=marker(row.setup),
            facecolors=own if fp32 else "white",
            edgecolors=own,
            linewidths=1,
            zorder=3,
        )
        means = found.groupby("batch_size").mean()
        style = {"linestyle": PRECISIONS.get(row.precision, "-."), "linewidth": 2, "color": own}
        axes.plot(means.index * shift, means, **style)
        fill = own if fp32 else "white"
        axes.plot([], [], marker=marker(row.setup), markerfacecolor=fill, label=f"ours, {column}", **style)
    _batch_axis(axes)
    axes.set_ylabel(shown.axis)
    if number == "I":
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    _legend(figure, axes)
    return figure


def second_device(seconds: Sequence[Second]) -> Figure:
    """Seconds of two devices minus those of one over the batch size, in percent of one and as a number; a panel a source."""
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    panels = figure.subplots(1, len(seconds), squeeze=False, sharey=True)[0]
    for axes, each in zip(panels, seconds, strict=True):
        sizes = list(each.more)
        share = [100 * each.more[size] / each.seconds[each.one][size] for size in sizes]
        line = (0, (6, 3)) if each.source == "the paper" else "-"
        axes.plot(sizes, share, color=colour(each.two), marker=marker(each.two), linestyle=line)
        for size, y in zip(sizes, share, strict=True):
            text = f"{each.more[size]:+.1f}".replace("-", "−")
            place = (9, 6) if y > 0 else (0, -15)  # beside a line that falls, and away from the one at zero
            axes.annotate(text, (size, y), xytext=place, textcoords="offset points", ha="center", fontsize=8)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.margins(x=0.1, y=0.15)
        axes.set_title(f"{each.source}: {each.two} − {each.one}, seconds at the points", fontsize=9)
        _batch_axis(axes)
        axes.tick_params(axis="x", labelsize=8)
    panels[0].set_ylabel("two devices minus one, % of one")
    return figure


def networks(grid: Grid, table: pd.DataFrame) -> Figure:
    """Accuracy over seconds: a number a network, in the order of the table, with a dot for each of its runs."""
    rows = table[table.batch_size == grid.batch_size]
    accuracy, seconds = values(rows, "val/accuracy"), values(rows, "seconds/fit")
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for number, network in enumerate(grid.networks, 1):
        if network.column not in seconds.index or network.column not in accuracy.index:
            continue
        runs = pd.DataFrame({"x": seconds.loc[network.column], "y": accuracy.loc[network.column]}).dropna()
        own = "#D55E00" if network.reference else "#0072B2"
        for x, y in runs.itertuples(index=False):
            axes.plot([x, runs.x.mean()], [y, runs.y.mean()], color=own, alpha=0.4, linewidth=0.8)
        axes.scatter(runs.x, runs.y, s=14, color=own, marker="s" if network.reference else "o")
        # Above the dots of the network, whose best run has the number.
        best = (runs.x[runs.y.idxmax()], runs.y.max())
        style: dict[str, Any] = {"fontsize": 11, "weight": "bold", "color": own, "ha": "center"}
        axes.annotate(str(number), best, xytext=(0, 5), textcoords="offset points", **style)
        axes.plot([], [], " ", label=f"{number}: {network.name}")
    axes.set(xlabel="seconds of the whole run", ylabel="test accuracy", xscale="log")
    axes.margins(x=0.06, y=0.1)
    _plain_ticks(axes.xaxis)
    axes.grid(alpha=0.3)
    _legend(figure, axes)
    return figure


def _legend(figure: Figure, axes: Axes, ncols: int = 3) -> None:
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    ncols = max(1, min(ncols, len(labels), 120 // (longest + 5))) if ncols == 3 else ncols
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols, fontsize=8.5, frameon=False)


def _batch_axis(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xticks(paper.BATCH_SIZES)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("global batch size")
    axes.grid(alpha=0.3)


def _plain_ticks(axis: Axis) -> None:
    """Ticks at 1, 2, 5 and their multiples of ten on a logarithmic axis."""
    low, high = axis.get_view_interval()
    ticks = np.outer(10.0 ** np.arange(-1, 6), (1, 2, 5)).ravel()
    axis.set_ticks([tick for tick in ticks if low <= tick <= high])
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_locator(NullLocator())
