"""Loss and accuracy over the images of an epoch, which are on any number of devices."""

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from mnist_lightning.data import Batch


class MeanOverImages(Metric):
    """The mean over the images of all devices. torchmetrics' own would give an empty share of a batch as 0 / 0."""

    full_state_update = False
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.images = 0

    def update(self, total: Tensor, images: int) -> None:
        """Adds a batch: a sum over this device's images, [], and the number of images of all devices, which is not summed."""
        self.total += total
        self.images += images

    def compute(self) -> Tensor:
        return self.total / self.images

    def reset(self) -> None:
        super().reset()
        self.images = 0


def image_metrics(prefix: str) -> MetricCollection:
    """Loss, and accuracy over all images as Keras has it (torchmetrics: over classes), under names with a prefix."""
    return MetricCollection(
        {"loss": MeanOverImages(), "accuracy": MeanOverImages()}, prefix=prefix, compute_groups=False
    )


def update_metrics(metrics: MetricCollection, loss: Tensor, logits: Tensor, batch: Batch) -> None:
    """Adds a batch of n images: the sum of their losses, [], and their logits, [n, 10]."""
    metrics["loss"].update(loss.detach(), batch.size)
    metrics["accuracy"].update((logits.argmax(1) == batch.labels).sum(), batch.size)
