"""The figures: the paper dashed, ours solid, one colour a setup."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import NullLocator, ScalarFormatter, StrMethodFormatter

from mnist_lightning import paper
from mnist_lightning.report.claims import Table
from mnist_lightning.report.runs import Column
from mnist_lightning.report.seeds import Scatter, half_width
from mnist_lightning.report.step_time import Line

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


def curves(published: Table, columns: Sequence[Column], metric: str, known: Scatter, unit: str) -> Figure:
    """Figures 3 to 5: a metric over the batch size, with the 95 % interval of its mean over seeds."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for number, (setup, values) in enumerate(published.items()):
        axes.plot(
            list(values),
            list(values.values()),
            linestyle=(0, (4, 2)),
            color=colour(setup),
            marker=MARKERS[number],
            markerfacecolor="white",
            label=f"paper, {setup}",
        )
    for number, column in enumerate(columns):
        sizes = [size for size in column.batch_sizes if column.mean(size, metric) is not None]
        means = [column.mean(size, metric) for size in sizes]
        widths = [half_width(known, size, len(column.values(size, metric))) or 0.0 for size in sizes]
        # Side by side, so that intervals do not hide each other.
        shift = 2 ** (0.08 * (number - (len(columns) - 1) / 2))
        axes.errorbar(
            [size * shift for size in sizes],
            means,
            yerr=widths if any(widths) else None,
            color=colour(column.setup),
            marker=MARKERS[(number + len(published)) % len(MARKERS)],
            capsize=3,
            label=f"ours, {column.label}",
        )
    _batch_axis(axes)
    axes.set_ylabel(unit)
    if metric == "seconds/fit":
        _seconds_axis(axes)
    _legend(figure, axes)
    return figure


def fits(groups: Mapping[str, Sequence[tuple[str, str, Sequence[float], Sequence[float], Line]]]) -> Figure:
    """Seconds over steps with the fitted lines; a panel a group.

    Args:
        groups: By title, for each line its label, its setup, the steps, the seconds and the fit.
    """
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
    for axes, (title, lines) in zip(panels, groups.items(), strict=True):
        for number, (label, setup, steps, seconds, line) in enumerate(lines):
            axes.plot(
                steps, seconds, MARKERS[number], color=colour(setup), label=label, markerfacecolor="white"
            )
            grid = [min(steps) * (max(steps) / min(steps)) ** (i / 60) for i in range(61)]
            axes.plot(grid, [line.at(x) for x in grid], "-", color=colour(setup), linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel("steps of the whole run")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    panels[0].set_ylabel("seconds")
    _seconds_axis(panels[0])
    return figure


def step_parts(columns: Mapping[str, Mapping[int, Mapping[str, float]]]) -> Figure:
    """Microseconds an image by part of a step; a panel a column, a bar a batch size.

    Args:
        columns: By label, then by batch size, the seconds of a step's parts.
    """
    high = -(-len(columns) // ABREAST)
    figure = Figure(figsize=(WIDTH, 0.7 + 3.2 * high), layout="constrained")
    panels = figure.subplots(high, min(len(columns), ABREAST), squeeze=False, sharey=True).flatten()
    for axes in panels[len(columns) :]:
        axes.set_axis_off()
    for axes, (label, rows) in zip(panels, columns.items(), strict=False):
        sizes = sorted(rows)
        bottom = [0.0] * len(sizes)
        for part, (fill, hatch) in PARTS.items():
            heights = [max(rows[size][part], 0.0) / size * 1e6 for size in sizes]
            places = range(len(sizes))
            axes.bar(places, heights, 0.8, bottom, color=fill, hatch=hatch, edgecolor="white", label=part)
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        axes.set_xticks(range(len(sizes)), [str(size) for size in sizes], rotation=45, fontsize=8)
        axes.set_title(textwrap.fill(label, 28), fontsize=9)
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


def machines(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Figure 2: what ran it, a column a machine, from the runs' own records."""
    names = list(dict.fromkeys(name for record in records for name in record))
    rows = [[textwrap.fill(str(record.get(name, "—")), 34) for record in records] for name in names]
    lines = sum(max(cell.count("\n") + 1 for cell in row) for row in rows)
    figure = Figure(figsize=(WIDTH, 0.24 * lines + 0.3), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    y = 0.0
    for name, row in zip(names, rows, strict=True):
        axes.text(0, y, name.replace("_", " "), va="top", fontsize=9, color="#555555")
        for number, cell in enumerate(row):
            axes.text(0.3 + 0.35 * number, y, cell, va="top", fontsize=9)
        y -= max(cell.count("\n") + 1 for cell in row)
    axes.set_xlim(0, max(1.0, 0.3 + 0.35 * len(records)))
    axes.set_ylim(y, 0.4)
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


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(3, len(labels)), fontsize=9, frameon=False
    )


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
