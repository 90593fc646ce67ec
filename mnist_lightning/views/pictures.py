"""Pictures of a trained network: its worst mistakes, what it confuses, its first filters."""

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mnist_lightning.data import CLASSES

ROWS, COLUMNS = 4, 8
WIDTH = 8.0  # inches


def worst_digits(images: Tensor, labels: Tensor, probabilities: Tensor) -> Figure | None:
    """Up to 32 wrong images, those with the least probability of the right digit first; None if all are right.

    Args:
        images: uint8 [n, 28, 28].
        labels: int64 [n].
        probabilities: float [n, 10].
    """
    said, digit = probabilities.max(1)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    wrong = (digit != labels).nonzero()[:, 0]
    worst = wrong[own[wrong].argsort(stable=True)][: ROWS * COLUMNS]
    if len(worst) == 0:
        return None
    tiles = [images[index].float() for index in worst.tolist()]
    figure, axes, places = _mosaic(tiles, gap=(0.55, 0.15), fill=0.0)
    axes.images[0].set(cmap="gray_r", clim=(0, 255))
    for (x, y), index in zip(places, worst.tolist(), strict=True):
        title = f"{labels[index]} → {digit[index]}\n{said[index]:.0%}"
        axes.text(x, y, title, ha="center", va="bottom", fontsize=9)
    axes.set_title(
        f"Label → prediction and its probability: the worst {len(worst)} of {len(wrong):,} wrong ones", fontsize=10
    )
    return figure


def confusion(labels: Tensor, predictions: Tensor) -> Figure:
    """How often each digit was taken for each. Colours show the mistakes only, since there are many more right ones.

    Args:
        labels: int64 [n].
        predictions: int64 [n].
    """
    counts = (labels * CLASSES + predictions).bincount(minlength=CLASSES**2).view(CLASSES, CLASSES)
    right = counts.diagonal().clone()
    mistakes = counts - right.diag()
    figure = Figure(figsize=(0.8 * WIDTH, 0.8 * WIDTH))
    axes = figure.add_axes((0.09, 0.08, 0.88, 0.86))
    axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=max(1.5 * int(mistakes.max()), 1))
    for label in range(CLASSES):
        for prediction in range(CLASSES):
            if count := int(counts[label, prediction]):
                style: dict[str, Any] = {"color": "#555555"} if label == prediction else {"fontweight": "bold"}
                axes.text(prediction, label, f"{count:,}", ha="center", va="center", fontsize=9, **style)
    axes.set_xticks(range(CLASSES))
    axes.set_yticks(range(CLASSES))
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    axes.set_title(f"{int(right.sum()):,} of {len(labels):,} right", fontsize=10)
    return figure


def filters(weights: Tensor) -> Figure:
    """The kernels of the first convolution, on one scale.

    Args:
        weights: float [channels, 1, side, side].
    """
    figure, axes, _ = _mosaic(list(weights[:, 0]), gap=(0.34, 0.34), fill=float("nan"))
    most = float(weights.abs().max())
    axes.images[0].set(cmap="RdBu_r", clim=(-most, most))
    figure.colorbar(axes.images[0], ax=axes, shrink=0.8)
    axes.set_title("First convolution: red adds where the image is light, blue subtracts", fontsize=10)
    return figure


def _mosaic(
    tiles: list[Tensor], gap: tuple[float, float], fill: float
) -> tuple[Figure, Axes, list[tuple[float, float]]]:
    """Square tiles in rows, as one image, since one panel for each would take seconds to lay out.

    Args:
        tiles: Each [side, side].
        gap: Above and beside a tile, as shares of its side.
        fill: What is in the gaps.

    Returns:
        The figure, its axes, and the middle of each tile's upper edge.
    """
    side = len(tiles[0])
    high, wide = (side + max(1, round(share * side)) for share in gap)
    rows = -(-len(tiles) // COLUMNS)
    whole = torch.full((rows * high, COLUMNS * wide), fill)
    places = []
    for number, tile in enumerate(tiles):
        bottom, left = (number // COLUMNS + 1) * high, number % COLUMNS * wide
        whole[bottom - side : bottom, left : left + side] = tile
        places.append((left + side / 2 - 0.5, bottom - side - 1.0))
    figure = Figure(figsize=(WIDTH, 0.6 + WIDTH * whole.shape[0] / whole.shape[1]))
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.9))
    axes.imshow(whole)
    axes.set_axis_off()
    return figure, axes, places
