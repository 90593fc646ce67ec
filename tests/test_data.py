import subprocess
import sys

import pytest
import torch
from conftest import SMALL
from torchvision.datasets import MNIST

from mnist_lightning.data import MNISTDataModule
from mnist_lightning.errors import SettingError
from mnist_lightning.sampler import GlobalBatchSampler
from mnist_lightning.sources.mnist_files import MD5


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])


def ready(**settings) -> MNISTDataModule:
    module = MNISTDataModule(**settings)
    module.prepare_data()
    module.setup("fit")
    return module


def test_mnist_is_whole_and_in_order_and_the_sample_is_of_it(mnist_dir):
    module = ready(data_dir=mnist_dir, source="mnist")
    train, test = module.train_digits, module.test_digits
    assert (train.images.shape, test.images.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert train.images.dtype == torch.uint8
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert module.fingerprint == "3a8942afaa4d4472e73e631e8d5025b7"
    assert len(module.train_dataloader()) == 469
    assert sum(len(batch.labels) for batch in module.val_dataloader()) == 10_000
    known = {image.numpy().tobytes() for image in train.images}
    assert all(image.numpy().tobytes() in known for image in ready(source="sample").train_digits.images)


def test_the_sample_is_4000_and_1000_stratified_apart_and_always_the_same():
    module = ready(source="sample")
    digits = module.train_digits, module.test_digits
    assert [each.labels.bincount().tolist() for each in digits] == [[400] * 10, [100] * 10]
    train, test = ({image.numpy().tobytes() for image in each.images} for each in digits)
    assert len(train | test) == 5000
    assert module.fingerprint == "99701a0d17c7e580248ea0a9755e5629"


def test_a_batch_is_the_images_that_the_sampler_deals_by_the_seed():
    module = ready(source="sample", batch_size=300, seed=3)
    batches = list(module.train_dataloader())
    for batch, share in zip(batches, GlobalBatchSampler(4000, 300, shuffle=True, seed=3), strict=True):
        assert torch.equal(batch.indices, share.indices) and batch.size == share.size
        assert torch.equal(batch.images, module.train_digits.images[batch.indices])
        assert torch.equal(batch.labels, module.train_digits.labels[batch.indices])


OTHER_IMAGES = """
import os
from mnist_lightning import MNISTDataModule, commands

class Other(MNISTDataModule):
    def load(self):
        train, test = super().load()
        train.images[7, 14, 14] += os.environ.get("LOCAL_RANK") == "1"
        return train, test

raise SystemExit(commands.main(data=Other))
"""


@pytest.mark.slow
def test_a_run_ends_where_one_pixel_of_one_process_is_another(tmp_path):
    (tmp_path / "other.py").write_text(OTHER_IMAGES)
    fit = [sys.executable, "other.py", "fit", *SMALL, "--trainer.accelerator=cpu", "--trainer.devices=2"]
    done = subprocess.run(fit, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2 and "error: data.data_dir" in done.stderr.splitlines()[-1], done.stderr
    assert not list(tmp_path.rglob("config.yaml"))


def test_auto_without_mnist_takes_the_sample_and_says_so(tmp_path, capfd):
    assert ready(data_dir=tmp_path).found == "sample"
    said = capfd.readouterr().err
    assert "A SAMPLE OF 5,000" in said and "not comparable with the paper's" in said
    assert f"data.data_dir {tmp_path}" in said


def test_neither_a_damaged_mnist_nor_one_that_is_asked_for_is_replaced_by_the_sample(tmp_path):
    with pytest.raises(SettingError, match=f"data.data_dir {tmp_path}"):
        ready(data_dir=tmp_path, source="mnist")
    (tmp_path / "MNIST" / "raw" / next(iter(MD5))).write_bytes(b"damaged")
    with pytest.raises(SettingError, match="train-images-idx3-ubyte is damaged"):
        ready(data_dir=tmp_path)
