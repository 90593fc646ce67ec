"""The figures: the paper dashed, ours solid, one colour a setup."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from math import isnan, log2
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator, ScalarFormatter, StrMethodFormatter

from mnist_lightning import paper
from mnist_lightning.report.page import METRICS, published
from mnist_lightning.report.seeds import cells, half_width, scatter
from mnist_lightning.report.two_devices import Fitted

WIDTH = 8.0  # inches
ABREAST = 3  # panels in a row
# Okabe and Ito's colours, which the colour-blind can tell apart; their greys differ, and so do the markers.
COLOURS = {"1xcpu": "#0072B2", "2xcpu": "#D55E00", "1xgpu": "#009E73", "2xgpu": "#CC79A7"}
OTHER_COLOUR = "#000000"
MARKERS = "osD^vP*X"
PARTS = {  # colour and hatch
    "forward": ("#0072B2", ""),
    "backward": ("#56B4E9", ""),
    "exchange": ("#D55E00", "//"),
    "optimizer": ("#E69F00", ""),
    "data": ("#009E73", ".."),
    "trainer": ("#999999", ""),
}


def colour(setup: str) -> str:
    return COLOURS.get(setup, OTHER_COLOUR)


def curves(table: pd.DataFrame, number: str) -> Figure:
    """Figures 3 to 5: Table I, II or III over the batch size, ours with the 95 % interval of its mean over seeds."""
    metric, title, _ = METRICS[number]
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.add_subplot()
    theirs = published(number)
    for marker, (setup, values) in zip(MARKERS, theirs.items(), strict=False):
        style: dict[str, Any] = {"linestyle": (0, (4, 2)), "marker": marker, "markerfacecolor": "white"}
        axes.plot(values.index, values, color=colour(str(setup)), label=f"paper, {setup}", **style)
    known, ours = scatter(table, metric), cells(table, metric)
    columns = dict(zip(table.column, table.setup, strict=True))
    for place, (column, setup) in enumerate(columns.items()):
        if column not in ours.index:
            continue
        found = ours.loc[column].sort_index()
        widths = [0.0 if isnan(each := half_width(known, size, n)) else each for size, n in found["count"].items()]
        # Shifted, so that intervals do not hide each other.
        shift = 2 ** (0.08 * (place - (len(columns) - 1) / 2))
        axes.errorbar(
            found.index * shift,
            found["mean"],
            yerr=widths if any(widths) else None,
            color=colour(setup),
            marker=MARKERS[(place + len(theirs.columns)) % len(MARKERS)],
            capsize=3,
            label=f"ours, {column}",
        )
    _batch_axis(axes)
    axes.set_ylabel(title[0].lower() + title[1:] if number == "I" else f"test {title.lower()}")
    if number == "I":
        _seconds_axis(axes)
    handles, labels = axes.get_legend_handles_labels()
    ncols = min(3, len(labels))
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols, fontsize=9, frameon=False)
    return figure


def fits(fitted: Sequence[Fitted]) -> Figure:
    """Seconds over steps with the fitted lines; a panel a group."""
    groups = list(dict.fromkeys(each.group for each in fitted))
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    for axes, group in zip(panels, groups, strict=True):
        for marker, each in zip(cycle(MARKERS), (each for each in fitted if each.group == group), strict=False):
            label = each.label.partition(", ")[2]
            axes.plot(each.steps, each.seconds, marker, color=colour(each.setup), label=label, markerfacecolor="white")
            steps = np.geomspace(min(each.steps), max(each.steps), 61)
            axes.plot(steps, [each.line.at(x) for x in steps], "-", color=colour(each.setup), linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel("steps of the whole run")
        axes.set_title(group, fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    panels[0].set_ylabel("seconds")
    _seconds_axis(panels[0])
    return figure


def step_parts(parts: pd.DataFrame) -> Figure:
    """Microseconds an image by part of a step; a panel a column, a bar a batch size.

    Args:
        parts: As `page.step_parts` gives it.
    """
    columns = list(dict.fromkeys(parts.index.get_level_values("column")))
    high = -(-len(columns) // ABREAST)
    figure = Figure(figsize=(WIDTH, 0.7 + 3.2 * high), layout="constrained")
    panels = figure.subplots(high, min(len(columns), ABREAST), squeeze=False, sharey=True).flatten()
    for axes in panels[len(columns) :]:
        axes.set_axis_off()
    for axes, column in zip(panels, columns, strict=False):
        seconds = parts.loc[column].sort_index().clip(lower=0)
        an_image = 1e6 * seconds.div(seconds.index, axis=0)
        places, bottom = range(len(an_image)), np.zeros(len(an_image))
        for part, (fill, hatch) in PARTS.items():
            axes.bar(places, an_image[part], 0.8, bottom, color=fill, hatch=hatch, edgecolor="white", label=part)
            bottom = bottom + an_image[part].to_numpy()
        axes.set_xticks(places, list(map(str, an_image.index)), rotation=45, fontsize=8)
        axes.set_title(textwrap.fill(column, 28), fontsize=9)
        axes.set_xlabel("batch size")
        axes.grid(axis="y", alpha=0.3)
    for axes in panels[::ABREAST]:
        axes.set_ylabel("microseconds an image")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(PARTS), fontsize=8, frameon=False)
    return figure


def architecture(model: Mapping[str, Any], parameters: int | None) -> Figure:
    """Figure 1: the network, drawn from a run's settings.

    The height of a box is the side of the image, and its width grows with the logarithm of the channels. The height of a
    vector grows with the logarithm of its units.
    """
    first, second = model["channels"]
    kernel, pool, side = model["kernel_size"], model["pool_size"], 28
    sides = [side, side - kernel + 1, side - 2 * (kernel - 1), (side - 2 * (kernel - 1)) // pool]
    drops = [f"dropout {rate:g}" for rate in model["dropout"]]
    conv = f"conv {kernel}x{kernel}\nReLU"
    layers = ["image", conv, conv, f"max pool {pool}x{pool}\n{drops[0]}"]
    boxes = [
        (height, 1.5 * (1 + log2(channels)), f"{height}x{height}x{channels}", layer)
        for height, channels, layer in zip(sides, (1, first, second, second), layers, strict=True)
    ]
    vectors = [
        (sides[3] ** 2 * second, "flatten"),
        (model["hidden"], f"dense, ReLU\n{drops[1]}"),
        (10, "dense\nsoftmax"),
    ]
    boxes += [(2 * log2(units), 1.2, f"{units:,}", layer) for units, layer in vectors]
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    x = 0.0
    for height, width, shape, layer in boxes:
        axes.add_patch(Rectangle((x, -height / 2), width, height, facecolor="#c6dbef", edgecolor="#225"))
        axes.text(x + width / 2, -height / 2 - 1.5, shape, ha="center", va="top", fontsize=8)
        axes.text(x + width / 2, 16, layer, ha="center", va="bottom", fontsize=8)
        x += max(width, 4) + 9
    if parameters is not None:
        axes.set_title(f"{parameters:,} parameters", fontsize=9)
    axes.set(xlim=(-6, x - 3), ylim=(-20, 24))
    return figure


def _batch_axis(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xticks(paper.BATCH_SIZES)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("global batch size")
    axes.grid(alpha=0.3)


def _seconds_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [digit * 10**power for power in range(-1, 6) for digit in (1, 2, 5)]
    axes.set_yticks([tick for tick in ticks if low <= tick <= high])
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.yaxis.set_minor_locator(NullLocator())
