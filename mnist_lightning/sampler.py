"""Which images each device trains on or evaluates, at each step."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler


class Share(NamedTuple):
    """One device's part of one global batch."""

    indices: Tensor  # int64 [n]: which images of the data set
    rows: Tensor  # int64 [n]: their places in the global batch
    size: int  # images in the global batch, all devices together


class GlobalBatchSampler(DistributedSampler[Share]):
    """Gives any number of devices their shares of the same global batches.

    Batch k of epoch e is a function of the seed, e and k alone; rank r of w takes its rows r, r + w, r + 2w …
    So every image comes exactly once an epoch, on one device, and every device has the same number of batches:
    where a last batch holds fewer images than there are devices, some get an empty share. It is a DistributedSampler, so
    that Lightning does not deal the shares once more.

    Args:
        images: Number of images in the data set; the last batch of an epoch may hold fewer than `batch_size`.
        shuffle: Whether each epoch has an order of its own, by the seed; otherwise the order is that of the data set.
        rank: Which of `world_size` processes asks, from 0.
        device: Where the numbers of the images are kept.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(range(images), world_size, rank, shuffle, seed)  # type: ignore[arg-type]
        self.images, self.batch_size, self.device = images, batch_size, device

    def __len__(self) -> int:
        return (self.images + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Share]:
        if self.shuffle:
            order = torch.from_numpy(np.random.default_rng([self.seed, self.epoch]).permutation(self.images))
        else:
            order = torch.arange(self.images)
        mine = slice(self.rank, None, self.num_replicas)
        rows = torch.arange(self.batch_size, device=self.device)[mine]
        for batch in order.to(self.device).split(self.batch_size):
            indices = batch[mine]
            yield Share(indices, rows[: len(indices)], len(batch))
