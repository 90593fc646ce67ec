"""The 60,000 and 10,000 images, dealt in global batches to any number of devices."""

import hashlib
import os
import sys
from operator import index
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import MNIST

from mnist_lightning.errors import SettingError, blaming
from mnist_lightning.sampler import GlobalBatchSampler, Share
from mnist_lightning.sources.mnist_files import MissingFilesError, ensure_files
from mnist_lightning.sources.own_images import OwnImages, read_images
from mnist_lightning.sources.sample import WARNING, read_sample

CLASSES = 10
IMAGE_SIZE = 28


class Batch(NamedTuple):
    """One device's share of a global batch."""

    images: Tensor  # uint8 [n, 28, 28]
    labels: Tensor  # int64 [n]
    indices: Tensor  # int64 [n]: places in the data set
    rows: Tensor  # int64 [n]: places in the global batch
    size: int  # images in the global batch, all devices together


class Digits(Dataset):
    """Images in memory, uint8 [n, 28, 28], and labels, int64 [n]; one indexing operation makes a batch."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if images.dtype != torch.uint8:
            raise SettingError(f"The images are {images.dtype}, and the network divides them by 255: give torch.uint8.")
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Digits":
        return Digits(self.images.to(device), self.labels.to(device))

    def __getitem__(self, share: Share) -> Batch:
        indices, rows, size = share
        return Batch(self.images[indices], self.labels[indices], indices, rows, size)


class MNISTDataModule(LightningDataModule):
    """MNIST: 60,000 images to train, 10,000 to validate, test and predict.

    It gives each device its share of a batch by itself. A subclass with other images overrides `load`, and `prepare_data`
    if they must be fetched; its name stands for the images in summaries and reports. docs/own_data.py is an example.

    Args:
        data_dir: Folder that holds `MNIST/raw/` with the four files, gzipped or not; fetched where missing.
        batch_size: Images in a global batch, shared by all devices; the paper has 32 to 2048.
        source: `mnist`; `sample`, 5,000 of its images (4,000 to train, 1,000 to test); or `auto`, which takes the
            sample, with a warning, where MNIST is neither there nor to be fetched.
        seed: Seed of the training order.
        images: Folder of one's own pictures (PNG, JPEG, WebP or BMP), a digit each, dark on light or light on dark;
            `predict` reads them in the place of the test set, and no MNIST.
    """

    def __init__(
        self,
        data_dir: str = "data",
        batch_size: int = 128,
        source: Literal["auto", "mnist", "sample"] = "auto",
        seed: int = 0,
        images: str | None = None,
    ) -> None:
        super().__init__()
        # Plain values: a path, or a number of NumPy, would make a checkpoint that cannot be loaded as data.
        data_dir, batch_size, seed = os.fspath(data_dir), index(batch_size), index(seed)
        images = None if images is None else os.fspath(images)
        if batch_size < 1:
            raise SettingError(f"data.batch_size is {batch_size}: give a positive number.")
        if source not in ("auto", "mnist", "sample"):
            raise SettingError(f"data.source is {source!r}: give auto, mnist or sample.")
        self.save_hyperparameters()
        self.data_dir, self.batch_size, self.source, self.seed = data_dir, batch_size, source, seed
        self.images = images
        self.own: OwnImages | None = None
        self.found: str | None = None if source == "auto" else source
        self.prepared = False
        self.train_digits = self.test_digits = Digits(torch.empty(0, 28, 28, dtype=torch.uint8), torch.empty(0))
        self.fingerprint = ""

    @property
    def name(self) -> str | None:
        """What a summary and a report call the images: `mnist`, `sample`, or the class that loads others."""
        return self.found if type(self).load is MNISTDataModule.load else type(self).__name__

    def prepare_data(self) -> None:
        """Makes sure that the files are there. Lightning calls it on one process of each node."""
        if self.images is not None:
            self.own = read_images(self.images)
        elif not self.prepared and self.source != "sample":
            try:
                ensure_files(self.data_dir)
                self.found = "mnist"
            except MissingFilesError as missing:
                if self.source == "mnist":
                    raise
                self.found = "sample"
                print(WARNING.format(reason=missing), file=sys.stderr, flush=True)
        self.prepared = True

    def load(self) -> tuple[Digits, Digits]:
        """Reads the images to train and the images to test, which `found` names, on the CPU."""
        if self.found == "sample":
            train, test = read_sample()
            return Digits(*train), Digits(*test)
        train_set, test_set = (MNIST(self.data_dir, train=train) for train in (True, False))
        return Digits(train_set.data, train_set.targets), Digits(test_set.data, test_set.targets)

    def setup(self, stage: str) -> None:
        """Loads all images (55 MB) into the memory of the device, and makes sure that all processes have the same."""
        if self.images is not None:
            if stage != "predict":
                raise SettingError(f"data.images is {self.images}, which predict reads alone: leave it out.")
            self.own = self.own or read_images(self.images)
            return
        if self.fingerprint:
            return
        if self.trainer is not None:
            found = self.trainer.strategy.broadcast(self.found)
            # None where another process of this machine has prepared them
            self._agree(self.trainer, self.found in (None, found))
            self.found = found
        with blaming(f"data.data_dir {self.data_dir}"):
            train, test = self.load()
        digest = hashlib.md5(usedforsecurity=False)
        for tensor in (train.images, train.labels, test.images, test.labels):
            digest.update(tensor.numpy().tobytes())
        self.fingerprint = digest.hexdigest()
        if self.trainer is not None:
            self._agree(self.trainer, self.trainer.strategy.broadcast(self.fingerprint) == self.fingerprint)
            train, test = (each.to(self.trainer.strategy.root_device) for each in (train, test))
        self.train_digits, self.test_digits = train, test

    def _agree(self, trainer: Trainer, same: bool) -> None:
        # All processes raise it, since the first one tells the errors of all.
        if not trainer.strategy.reduce_boolean_decision(same):
            raise SettingError(f"data.data_dir {self.data_dir} has other images for one process than for another.")

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train_digits, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.test_digits, shuffle=False)

    test_dataloader = val_dataloader

    def predict_dataloader(self) -> DataLoader:
        if self.own is None:
            return self._loader(self.test_digits, shuffle=False)
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        unknown = torch.full((len(self.own.images),), -1)
        return self._loader(Digits(self.own.images, unknown).to(device), shuffle=False)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Gives back the batch, since all images lie on the device. Lightning would look at each tensor at each step."""
        return batch

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint remembers of its images, so that no run goes on with others."""
        return {"found": self.name, "fingerprint": self.fingerprint}

    def _loader(self, digits: Digits, shuffle: bool) -> DataLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        dealt = (len(digits), self.batch_size, shuffle, self.seed, rank, world_size, digits.images.device)
        sampler = GlobalBatchSampler(*dealt)
        # batch_size=None: the sampler deals whole batches. A generator of its own keeps the loader from
        # drawing a number from the global stream at each start.
        return DataLoader(
            digits, batch_size=None, sampler=sampler, collate_fn=lambda batch: batch, generator=torch.Generator()
        )


def data_module(trainer: Trainer) -> MNISTDataModule:
    """The data module of a Trainer, which must be one of ours."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, MNISTDataModule):
        raise SettingError("Trainer.fit has no data module: give it an MNISTDataModule, or one of a subclass.")
    return data


def evaluated_images(trainer: Trainer, stage: str) -> int:
    """How many of the test images `validate` or `test` evaluates."""
    data, batches = data_module(trainer), trainer.num_test_batches if stage == "test" else trainer.num_val_batches
    return min(int(sum(batches)) * data.batch_size, len(data.test_digits))
