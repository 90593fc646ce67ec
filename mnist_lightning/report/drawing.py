"""Figure 1: the network, drawn to a scale from a run's settings."""

from collections.abc import Mapping
from math import log2
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

SCALE = "An image is as high as its side; widths grow with log2 of the channels, vectors with log2 of the units."


def architecture(model: Mapping[str, Any], parameters: int | None) -> Figure:
    """The network of these settings, with the scale that it is drawn to."""
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
    figure = Figure(figsize=(8.0, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    x = 0.0
    for height, width, shape, layer in boxes:
        axes.add_patch(Rectangle((x, -height / 2), width, height, facecolor="#c6dbef", edgecolor="#225"))
        axes.text(x + width / 2, -height / 2 - 1.5, shape, ha="center", va="top", fontsize=8)
        axes.text(x + width / 2, 16, layer, ha="center", va="bottom", fontsize=8)
        x += max(width, 4) + 9
    axes.text((x - 9) / 2, -24, SCALE, ha="center", va="bottom", fontsize=7.5)
    if parameters is not None:
        axes.set_title(f"{parameters:,} parameters", fontsize=9)
    axes.set(xlim=(-6, x - 3), ylim=(-25, 24))
    return figure
