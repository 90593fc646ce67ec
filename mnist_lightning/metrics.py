"""Loss and accuracy over the images of an epoch, which are on any number of devices."""

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from mnist_lightning.data import Batch


class MeanOverImages(Metric):
    """The mean over all images of all devices, from a sum that stays on the device until it is asked for."""

    full_state_update = False

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.images = 0

    def update(self, total: Tensor, images: int) -> None:
        """Adds a batch.

        Args:
            total: Of the images of this device, [].
            images: In the global batch. Each process knows this number, so it is not summed over them.
        """
        self.total += total
        self.images += images

    def compute(self) -> Tensor:
        return self.total / self.images

    def reset(self) -> None:
        super().reset()
        self.images = 0


def image_metrics(prefix: str) -> MetricCollection:
    """Loss and accuracy under names that begin with a prefix, such as `train/`.

    Accuracy is the share of all images, as Keras's; the default of torchmetrics is the mean over classes.
    """
    return MetricCollection(
        {"loss": MeanOverImages(), "accuracy": MeanOverImages()}, prefix=prefix, compute_groups=False
    )


def update_metrics(metrics: MetricCollection, loss: Tensor, logits: Tensor, batch: Batch) -> None:
    """Adds a batch to the metrics that `image_metrics` made.

    Args:
        metrics: They are changed.
        loss: Sum over the images of this device, [].
        logits: [n, 10].
        batch: Of n images.
    """
    metrics["loss"].update(loss.detach(), batch.size)
    metrics["accuracy"].update((logits.argmax(1) == batch.labels).sum(), batch.size)
