"""The figures: the paper dashed and hollow, ours solid; a colour and a marker a setup, a line style a precision."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

from mnist_lightning import paper
from mnist_lightning.report.columns import Column, values
from mnist_lightning.report.page import NOUNS, PAPER, TABLES
from mnist_lightning.report.runs import Run
from mnist_lightning.report.stats import METRICS
from mnist_lightning.report.tables import Network

WIDTH = 8.0  # inches
# Okabe and Ito's colours, which the colour-blind can tell apart; their greys differ, and so do the markers.
STYLES = {"1xcpu": ("#0072B2", "o"), "2xcpu": ("#D55E00", "s"), "1xgpu": ("#009E73", "D"), "2xgpu": ("#CC79A7", "^")}
LINES: dict[str, Any] = {"fp32": "-", "bf16": (0, (1, 1)), "paper": (0, (6, 3))}


def style(setup: str, line: str) -> dict[str, Any]:
    colour, marker = STYLES.get(setup, ("#000000", "v"))
    fill = colour if line == "fp32" else "white"
    return {"color": colour, "marker": marker, "linestyle": LINES.get(line, "-."), "markerfacecolor": fill}


def curves(table: pd.DataFrame, columns: Sequence[Column], number: str) -> Figure:
    """Figures 3 to 5: Table I, II or III over the batch size. Each run of ours is a dot, and lines join their means."""
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    axes = figure.add_subplot(xlabel="global batch size", ylabel=TABLES[number].axis)
    for setup, each in PAPER[number].items():
        axes.plot(each.index, each, label=f"paper, {setup}", linewidth=1, **style(str(setup), "paper"))
    ours = values(table, TABLES[number].metric)
    for column in columns:
        if column.name in ours.index:
            runs, own = ours[column.name].sort_index(), style(column.setup, column.precision)
            axes.plot(runs.groupby("batch_size").mean(), label=column.name, **own)
            axes.plot(runs.index.get_level_values(0), runs, **{**own, "linestyle": "", "alpha": 0.5})
    axes.set_xscale("log", base=2)
    axes.set_xticks(paper.BATCH_SIZES, map(str, paper.BATCH_SIZES))
    if number == "I":
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, frameon=False)
    return figure


def time_to_accuracy(runs: Mapping[Run, Column], papers: bool) -> Figure:
    """The errors of each epoch over the seconds up to it: a panel a column, a line a batch size, which is the mean of its seeds.

    Args:
        runs: With their columns.
        papers: Whether there is a panel of the paper's cells, too.
    """
    groups: dict[str, dict[int, list[list[tuple[float, float]]]]] = defaultdict(lambda: defaultdict(list))
    for run, column in runs.items():
        groups[column.name][run.summary["batch_size"]].append(run.curve())
    panels = len(groups) + papers
    figure = Figure(figsize=(WIDTH, 0.6 + 2.8 * -(-panels // 2)), layout="constrained")
    axes = iter(figure.subplots(-(-panels // 2), min(2, panels), sharex=True, sharey=True, squeeze=False).flat)
    sizes = sorted({size for each in groups.values() for size in each}.union(paper.BATCH_SIZES if papers else ()))
    colours = dict(zip(sizes, matplotlib.colormaps["viridis_r"](np.linspace(0.1, 1, len(sizes))), strict=True))
    for name, each in groups.items():
        panel = next(axes)
        panel.set_title(name, fontsize=9)
        for size, curves in sorted(each.items()):
            epochs = min(map(len, curves))
            seconds, accuracy = np.asarray([curve[:epochs] for curve in curves]).mean(axis=0).T if epochs else ((), ())
            panel.plot(
                seconds, 100 * (1 - np.asarray(accuracy)), ".-", color=colours[size], linewidth=1, label=str(size)
            )
    if papers:
        panel = next(axes)
        panel.set_title("the paper, after 10 epochs: ● 1xcpu, ◆ 1xgpu, ▲ 2xgpu", fontsize=8)
        for setup in paper.SETUPS:
            for size in paper.BATCH_SIZES:
                errors = 100 * (1 - PAPER["II"][setup][size])
                panel.plot(PAPER["I"][setup][size], errors, STYLES[setup][1], color=colours[size], label=str(size))
    for panel in axes:
        panel.remove()
    for panel in figure.axes:
        panel.set(xscale="log", yscale="log", xlabel="seconds", ylabel="errors, %")
        panel.label_outer()
        panel.grid(alpha=0.3, which="both")
        for axis in (panel.xaxis, panel.yaxis):
            _plain_ticks(axis)
    labels = {
        label: line for each in figure.axes for line, label in zip(*each.get_legend_handles_labels(), strict=True)
    }
    shown = [str(size) for size in sizes if str(size) in labels]
    figure.legend([labels[label] for label in shown], shown, title="batch size", loc="outside right center", fontsize=8)
    return figure


def networks(found: Sequence[Network]) -> Figure:
    """A forest plot of seconds, errors and loss: a row a network, batch size and setup, with its 95 % interval."""
    figure = Figure(figsize=(WIDTH, 1 + 0.22 * len(found)), layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    for axes, metric in zip(panels, METRICS, strict=True):
        for row, each in enumerate(found):
            if (ratio := each.ratios.get(metric)) is not None:
                own = style(each.title.partition(",")[0], "fp32" if metric in each.real else "bf16")
                known = np.isfinite(ratio.high)
                axes.plot([ratio.low, ratio.high] if known else [], [row, row] if known else [], color=own["color"])
                axes.plot(ratio.ratio, row, **own)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_title(NOUNS[metric], fontsize=9)
        axes.grid(alpha=0.3)
    labels = [f"{each.name}, {each.title}, {each.batch_size}" for each in found]
    panels[0].set_yticks(range(len(found)), labels, fontsize=8)
    panels[0].invert_yaxis()
    return figure


def _plain_ticks(axis: Axis) -> None:
    """Ticks at 1, 2, 5 and their multiples of ten on a logarithmic axis."""
    low, high = axis.get_view_interval()
    ticks = np.outer(10.0 ** np.arange(-2, 6), (1, 2, 5)).ravel()
    axis.set_ticks([tick for tick in ticks if low <= tick <= high])
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_locator(NullLocator())
