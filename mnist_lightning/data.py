"""The 60,000 and 10,000 images, dealt in global batches to any number of devices."""

import hashlib
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import MNIST

from mnist_lightning.errors import SettingError
from mnist_lightning.runs.setups import refuse_second_deal, refuse_unequal_shares
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
    """Images in memory; one indexing operation makes a batch.

    Args:
        images: uint8 [n, 28, 28].
        labels: int64 [n].

    Raises:
        SettingError: If the images are of another type, since the network divides them by 255.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if images.dtype != torch.uint8:
            raise SettingError(f"The images are {images.dtype}: give torch.uint8, 0 to 255, as MNIST has them.")
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

    It gives each device its share of a batch by itself, so the Trainer must have `use_distributed_sampler=False`. A
    subclass with other images overrides `prepare_data` and `load`.

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
        if batch_size < 1:
            raise SettingError(f"data.batch_size is {batch_size}: give a positive number.")
        self.save_hyperparameters()
        self.data_dir, self.batch_size, self.source, self.seed = data_dir, batch_size, source, seed
        self.images = images
        self.own: OwnImages | None = None
        self.found: str | None = None if source == "auto" else source
        self.prepared = False
        self.train_digits = self.test_digits = Digits(torch.empty(0, 28, 28, dtype=torch.uint8), torch.empty(0))
        self.fingerprint = ""

    def prepare_data(self) -> None:
        """Makes sure that the files are there. Lightning calls it on one process of each node.

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
            print(_framed(WARNING.format(reason=missing)), file=sys.stderr, flush=True)
        self.prepared = True

    def load(self) -> tuple[Digits, Digits]:
        """Reads the images to train and the images to test, which `found` names, on the CPU."""
        if self.found == "sample":
            train, test = read_sample()
            return Digits(*train), Digits(*test)
        sets = (MNIST(self.data_dir, train=train) for train in (True, False))
        train_set, test_set = (Digits(each.data, each.targets) for each in sets)
        return train_set, test_set

    def setup(self, stage: str) -> None:
        """Loads all images (55 MB) into the memory of the device, and makes sure that all processes have the same.

        Raises:
            SettingError: On every process, if one of them has other data than the rest or cannot read them; or if the
                devices cannot share a batch, or the Trainer would deal the shares a second time.
        """
        if self.images is not None:
            self.own = self.own or read_images(self.images)
            return
        if self.fingerprint:
            return
        if self.trainer is not None:
            refuse_second_deal(self.trainer)
            refuse_unequal_shares(self.batch_size, self.trainer.world_size)
            self.found = self.trainer.strategy.broadcast(self.found)
        problem = ""
        try:
            self.train_digits, self.test_digits = self.load()
            self.fingerprint = _fingerprint(self.train_digits, self.test_digits)
        except SettingError as error:
            problem = str(error).removesuffix(".")
        except (OSError, RuntimeError, ValueError) as error:
            problem = f"data.data_dir {self.data_dir} cannot be read: {error}"
        _agree(problem, self.fingerprint)
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            self.train_digits, self.test_digits = self.train_digits.to(device), self.test_digits.to(device)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train_digits, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.test_digits, shuffle=False)

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.test_digits, shuffle=False)

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
        """What a checkpoint remembers of its data."""
        return {"found": self.found, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Refuses to resume on other data than the checkpoint's.

        Raises:
            SettingError: If the fingerprints differ.
        """
        resuming = self.trainer is None or self.trainer.state.fn == "fit"
        if resuming and state.get("fingerprint") != self.fingerprint:
            raise SettingError(
                f"data.source {self.source} gives other images (fingerprint {self.fingerprint}) than the checkpoint "
                f"was trained on ({state.get('fingerprint')}): resume on the same data."
            )

    def _loader(self, digits: Digits, shuffle: bool) -> DataLoader:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = GlobalBatchSampler(
            len(digits), self.batch_size, shuffle, self.seed, rank, world_size, digits.images.device
        )
        # batch_size=None: the sampler deals whole batches. A generator of its own keeps the loader from
        # drawing a number from the global stream at each start.
        return DataLoader(digits, batch_size=None, sampler=sampler, collate_fn=_as_it_is, generator=torch.Generator())


def data_module(trainer: Trainer) -> MNISTDataModule:
    """The data module of a Trainer.

    Raises:
        SettingError: If it has none of ours.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, MNISTDataModule):
        raise SettingError("Trainer.fit has no data module: give it an MNISTDataModule, or one of a subclass.")
    return data


def _framed(text: str) -> str:
    lines = [
        textwrap.fill(line, 78, break_on_hyphens=False, break_long_words=False) for line in text.strip().splitlines()
    ]
    return "\n".join(["*" * 78, *lines, "*" * 78])


def _as_it_is(batch: Any) -> Any:
    return batch


def _fingerprint(*parts: Digits) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for digits in parts:
        digest.update(digits.images.numpy().tobytes())
        digest.update(digits.labels.numpy().tobytes())
    return digest.hexdigest()


def _agree(problem: str, fingerprint: str) -> None:
    """Raises the same SettingError on all processes if one of them has a problem or has other data."""
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
