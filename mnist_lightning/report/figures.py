"""The figures: the paper dashed and hollow, ours solid; a colour and a marker a setup, a line style a precision."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from mnist_lightning import paper
from mnist_lightning.report.page import NOUNS, PAPER, TABLES, Network, Page
from mnist_lightning.report.stats import CELL, METRICS

WIDTH = 8.0  # inches
# Okabe and Ito's colours, which the colour-blind can tell apart; their greys differ, and so do the markers.
STYLES = {"1xcpu": ("#0072B2", "o"), "2xcpu": ("#D55E00", "s"), "1xgpu": ("#009E73", "D"), "2xgpu": ("#CC79A7", "^")}
LINES: dict[str, Any] = {"fp32": "-", "bf16": (0, (1, 1)), "paper": (0, (6, 3))}


def style(setup: str, line: str) -> dict[str, Any]:
    colour, marker = STYLES.get(setup, ("#000000", "v"))
    fill = colour if line == "fp32" else "white"
    return {"color": colour, "marker": marker, "linestyle": LINES.get(line, "-."), "markerfacecolor": fill}


def curves(page: Page, number: str) -> Figure:
    """Figures 3 to 5: Table I, II or III over the batch size. Each run of ours is a dot, and lines join their means."""
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = figure.add_subplot(xlabel="global batch size", ylabel=TABLES[number].title.lower())
    for setup, each in PAPER[number].items():
        axes.plot(each.index, each, label=f"paper, {setup}", linewidth=1, **style(str(setup), "paper"))
    for column in page.alike:
        log = page.of(TABLES[number].metric, [column.name]).sort_index()
        own = style(column.setup, column.program or column.precision)
        means, runs = (TABLES[number].shown(np.exp(each)) for each in (log.groupby("batch_size").mean(), log))
        axes.plot(means, label=column.name, **own)
        axes.plot(runs.index.get_level_values("batch_size"), runs, **{**own, "linestyle": "", "alpha": 0.5})
    axes.set_xscale("log", base=2)
    axes.set_xticks(paper.BATCH_SIZES, map(str, paper.BATCH_SIZES))
    if number == "I":
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    return figure


def time_to_accuracy(page: Page, columns: Sequence[str]) -> Figure:
    """The errors of each epoch over the seconds up to it: a panel a column, a line a batch size, which is the mean of its seeds;
    and the paper's cells, if some columns are of its experiment."""
    each, papers = page.epochs.groupby([*CELL, "epoch"], sort=False).mean(), bool(page.alike)
    panels = len(columns) + papers
    rows = -(-panels // 3)
    figure = Figure(figsize=(WIDTH, 0.6 + 2.4 * rows), layout="constrained")
    axes = iter(figure.subplots(rows, min(3, panels), sharex=True, sharey=True, squeeze=False).flat)
    sizes = sorted({size for _, size, _ in each.index}.union(paper.BATCH_SIZES if papers else ()))
    colours = dict(zip(sizes, matplotlib.colormaps["viridis_r"](np.linspace(0.1, 1, len(sizes))), strict=True))
    labels = {}
    for name in columns:
        panel = next(axes)
        panel.set_title(name, fontsize=9)
        for size, own in each[each.index.isin([name], level=0)].groupby("batch_size"):
            (labels[size],) = panel.plot(own.seconds, own.errors / 100, ".-", color=colours[size], linewidth=1)
    if papers:
        panel = next(axes)
        panel.set_title("paper at the end: ● 1xcpu ◆ 1xgpu ▲ 2xgpu", fontsize=7.5)
        for setup, size in product(paper.SETUPS, paper.BATCH_SIZES):
            errors = 100 * (1 - PAPER["II"][setup][size])
            (dot,) = panel.plot(PAPER["I"][setup][size], errors, STYLES[setup][1], color=colours[size])
            labels.setdefault(size, dot)
    for panel in axes:
        panel.remove()
    for panel in figure.axes:
        panel.set(xscale="log", yscale="log")
        panel.grid(alpha=0.3, which="both")
        panel.tick_params(labelsize=7, labelbottom=True)
        _plain_ticks(panel.xaxis)
        _plain_ticks(panel.yaxis)
    figure.supxlabel("seconds", fontsize=9)
    figure.supylabel("errors, %", fontsize=9)
    shown = [labels[size] for size in sizes]
    figure.legend(shown, map(str, sizes), title="batch size", loc="outside right center", fontsize=8)
    return figure


def networks(found: Sequence[Network]) -> Figure:
    """A forest plot of seconds, errors and loss: a row a network, batch size and setup, with its 95 % interval."""
    figure = Figure(figsize=(WIDTH, 1 + 0.22 * len(found)), layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    for axes, metric in zip(panels, METRICS, strict=True):
        for row, each in enumerate(found):
            if (ratio := each.ratios.get(metric)) is not None:
                own = {"fmt": "o", "color": "black", "markerfacecolor": "black" if metric in each.real else "white"}
                ends = [[ratio.ratio - ratio.low], [ratio.high - ratio.ratio]] if np.isfinite(ratio.high) else None
                axes.errorbar(ratio.ratio, row, xerr=ends, **own)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_title(NOUNS[metric], fontsize=9)
        axes.grid(alpha=0.3)
    labels = [f"{each.name}, {each.title}, {each.batch_size}" for each in found]
    panels[0].set_yticks(range(len(found)), labels, fontsize=8)
    panels[0].invert_yaxis()
    return figure


def _plain_ticks(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_locator(NullLocator())
