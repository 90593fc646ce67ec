"""Pictures of a trained network: its worst mistakes, what it confuses, its first filters."""

from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.utilities.plot import plot_confusion_matrix

from mnist_lightning.data import CLASSES

ROWS, COLUMNS = 4, 8
BARE = {"frame_on": False, "xticks": (), "yticks": ()}


def worst_digits(images: Tensor, labels: Tensor, probabilities: Tensor) -> Figure | None:
    """Up to 32 of the images, uint8 [n, 28, 28], that are wrong by their probabilities, float [n, 10]; the worst come first."""
    said, digit = probabilities.max(1)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    wrong = (digit != labels).nonzero()[:, 0]
    worst = wrong[own[wrong].argsort(stable=True)][: ROWS * COLUMNS].tolist()
    if not worst:
        return None
    titles = [f"{labels[index]} → {digit[index]}\n{said[index]:.0%}" for index in worst]
    figure = mosaic(images[worst].float(), titles, "gray_r", (0, 255))
    figure.suptitle(f"Label → prediction and its probability: the worst {len(worst)} of {len(wrong):,} wrong ones")
    return figure


def confusion(labels: Tensor, predictions: Tensor) -> Figure:
    """How often each digit was taken for each, both int64 [n]. The colours tell the mistakes, not the many right ones."""
    counts = multiclass_confusion_matrix(predictions, labels, CLASSES)
    figure, _ = plot_confusion_matrix(counts, ax=Figure(figsize=(7, 7)).add_subplot(), cmap="Reds")
    figure.axes[0].images[0].set_clim(0, 2 * max(1, int((counts - counts.diag().diag()).max())))
    figure.axes[0].set_title(f"{int(counts.diagonal().sum()):,} of {len(labels):,} right")
    return figure


def filters(weights: Tensor) -> Figure:
    """The kernels of the first convolution, float [channels, 1, side, side], on one scale."""
    most = float(weights.abs().max())
    figure = mosaic(weights[:, 0], [""] * len(weights), "RdBu_r", (-most, most))
    figure.suptitle("First convolution: red adds where the image is light, blue subtracts")
    return figure


def mosaic(tiles: Tensor, titles: list[str], colours: str, limits: tuple[float, float]) -> Figure:
    """Square tiles in rows, [n, side, side], each under its title."""
    rows = -(-len(tiles) // COLUMNS)
    figure = Figure(figsize=(COLUMNS, 0.5 + 1.45 * rows), layout="constrained")
    panel = figure.add_subplot(**BARE)  # one for all, since each takes as long as a picture
    for number, (tile, title) in enumerate(zip(tiles, titles, strict=True)):
        left, top = 1.15 * (number % COLUMNS), 1.6 * (number // COLUMNS) + 0.5
        panel.imshow(tile.numpy(), cmap=colours, clim=limits, extent=(left, left + 1, top + 1, top))
        panel.text(left + 0.5, top - 0.06, title, ha="center", va="bottom", fontsize=8, parse_math=False)
    panel.set(xlim=(0, 1.15 * COLUMNS), ylim=(1.6 * rows, 0))
    return figure
