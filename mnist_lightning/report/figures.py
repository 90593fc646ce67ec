"""The figures: the paper dashed, ours solid, one colour a setup."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from math import isnan
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import NullLocator, ScalarFormatter, StrMethodFormatter

from mnist_lightning import paper
from mnist_lightning.report.page import METRICS, Fitted, published
from mnist_lightning.report.seeds import cells, half_width, scatter

WIDTH = 8.0  # inches
ABREAST = 3  # panels in a row
# Okabe and Ito's colours, told apart by the colour-blind; their greys differ, and so do the markers.
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
        style = {"linestyle": (0, (4, 2)), "marker": marker, "markerfacecolor": "white"}
        axes.plot(values.index, values, color=colour(str(setup)), label=f"paper, {setup}", **style)
    known, ours = scatter(table, metric), cells(table, metric)
    columns = dict(zip(table.column, table.setup, strict=True))
    for place, (column, setup) in enumerate(columns.items()):
        if column not in ours.index:
            continue
        found = ours.loc[column].sort_index()
        widths = [0.0 if isnan(each := half_width(known, size, n)) else each for size, n in found["count"].items()]
        # Side by side, so that intervals do not hide each other.
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
    places = {"loc": "outside lower center", "ncols": min(3, len(labels))}
    figure.legend(handles, labels, fontsize=9, frameon=False, **places)
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
            axes.plot(steps, each.line.at(steps), "-", color=colour(each.setup), linewidth=1)
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
    """Figure 1: the network of a run's settings, as boxes whose sides tell their size."""
    first, second = model["channels"]
    kernel, pool, side = model["kernel_size"], model["pool_size"], 28
    after_1, after_2 = side - kernel + 1, side - 2 * (kernel - 1)
    pooled = after_2 // pool
    rate_1, rate_2 = model["dropout"]
    tensors = [
        (side, 1, f"{side}x{side}x1", "image"),
        (after_1, first, f"{after_1}x{after_1}x{first}", f"conv {kernel}x{kernel}\nReLU"),
        (after_2, second, f"{after_2}x{after_2}x{second}", f"conv {kernel}x{kernel}\nReLU"),
        (pooled, second, f"{pooled}x{pooled}x{second}", f"max pool {pool}x{pool}\ndropout {rate_1:g}"),
    ]
    vectors = [
        (pooled * pooled * second, "flatten"),
        (model["hidden"], f"dense, ReLU\ndropout {rate_2:g}"),
        (10, "dense\nsoftmax"),
    ]
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    widest = max(first, second)
    x = 0.0
    for height, channels, shape, layer in tensors:
        depth = 2 + 14 * channels / widest
        _box(axes, x, height, depth)
        middle = x + (depth + 0.35 * height) / 2
        axes.text(middle, -height / 2 - 2.5, shape, ha="center", va="top", fontsize=8)
        axes.text(middle, 24, layer, ha="center", va="bottom", fontsize=8)
        x += depth + 0.35 * height + 8
    longest = max(size for size, _ in vectors)
    for size, layer in vectors:
        height = 6 + 26 * (size / longest) ** 0.3
        _box(axes, x, height, 1.2, slant=0.06)
        axes.text(x + 1.5, -height / 2 - 2.5, f"{size:,}", ha="center", va="top", fontsize=8)
        axes.text(x + 1.5, 24, layer, ha="center", va="bottom", fontsize=8)
        x += 17
    if parameters is not None:
        axes.set_title(f"{parameters:,} parameters", fontsize=9)
    axes.set_xlim(-6, x - 4)
    axes.set_ylim(-26, 34)
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


def _box(axes: Axes, x: float, height: float, depth: float, slant: float = 0.35) -> None:
    """An image's channels one behind the other, seen from the side."""
    low, high, shift = -height / 2, height / 2, slant * height
    front = [
        (x, low),
        (x, high),
        (x + shift, high - shift * 0.6),
        (x + shift, low - shift * 0.0 + shift * 0.4),
    ]
    top = [
        (x, high),
        (x + depth, high),
        (x + depth + shift, high - shift * 0.6),
        (x + shift, high - shift * 0.6),
    ]
    face = [
        (x + shift, high - shift * 0.6),
        (x + depth + shift, high - shift * 0.6),
        (x + depth + shift, low + shift * 0.4),
        (x + shift, low + shift * 0.4),
    ]
    for corners, fill in ((front, "#9ecae1"), (top, "#deebf7"), (face, "#c6dbef")):
        axes.add_patch(Polygon(corners, closed=True, facecolor=fill, edgecolor="#225", linewidth=0.8))
