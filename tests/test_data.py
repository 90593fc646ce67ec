import pytest
import torch
from torchvision.datasets import MNIST

from mnist_lightning import data
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


def test_mnist_is_whole_and_in_order(mnist_dir):
    module = ready(data_dir=str(mnist_dir), source="mnist")
    assert module.train_digits.images.shape == (60_000, 28, 28)
    assert module.test_digits.images.shape == (10_000, 28, 28)
    assert module.train_digits.images.dtype == torch.uint8
    assert module.train_digits.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert module.test_digits.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert module.train_digits.labels.bincount().tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert module.fingerprint == "3a8942afaa4d4472e73e631e8d5025b7"
    assert len(module.train_dataloader()) == 469
    assert sum(len(batch.labels) for batch in module.val_dataloader()) == 10_000


def test_the_sample_is_4000_and_1000_stratified_apart_and_always_the_same():
    module = ready(source="sample")
    assert module.train_digits.labels.bincount().tolist() == [400] * 10
    assert module.test_digits.labels.bincount().tolist() == [100] * 10
    train = {image.numpy().tobytes() for image in module.train_digits.images}
    test = {image.numpy().tobytes() for image in module.test_digits.images}
    assert len(train | test) == 5000
    assert module.fingerprint == "99701a0d17c7e580248ea0a9755e5629"


def test_the_sample_is_of_mnist(mnist_dir):
    sample, mnist = ready(source="sample"), ready(data_dir=str(mnist_dir), source="mnist")
    known = {image.numpy().tobytes() for image in mnist.train_digits.images}
    assert all(image.numpy().tobytes() in known for image in sample.train_digits.images)


def test_a_batch_is_the_images_of_its_indices():
    module = ready(source="sample", batch_size=300)
    batches = list(module.train_dataloader())
    assert [batch.size for batch in batches] == [300] * 13 + [100]
    for batch in batches:
        assert torch.equal(batch.images, module.train_digits.images[batch.indices])
        assert torch.equal(batch.labels, module.train_digits.labels[batch.indices])


def test_the_training_order_is_that_of_the_seed():
    first = {seed: next(iter(ready(source="sample", seed=seed).train_dataloader())).indices for seed in (1, 2)}
    assert first[1].tolist() == next(iter(GlobalBatchSampler(4000, 128, shuffle=True, seed=1))).indices.tolist()
    assert first[1].tolist() != first[2].tolist()


def test_all_processes_stop_where_one_has_other_data(monkeypatch):
    def gather(answers, mine):
        answers[:] = [mine, ("", "other images")]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    with pytest.raises(SettingError, match="other images for process 1"):
        ready(source="sample")


def test_auto_without_mnist_takes_the_sample_and_says_so(tmp_path, capfd):
    module = ready(data_dir=str(tmp_path))
    assert module.found == "sample"
    warning = " ".join(capfd.readouterr().err.split())
    assert "SAMPLE OF 5,000" in warning
    assert "train-images-idx3-ubyte is missing" in warning
    assert "not comparable with the paper's" in warning


def test_mnist_never_falls_back(tmp_path):
    with pytest.raises(SettingError, match="train-images-idx3-ubyte is missing"):
        MNISTDataModule(data_dir=str(tmp_path), source="mnist").prepare_data()


def test_auto_refuses_damaged_files(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / next(iter(MD5))).write_bytes(b"damaged")
    with pytest.raises(SettingError, match="train-images-idx3-ubyte is damaged"):
        MNISTDataModule(data_dir=str(tmp_path)).prepare_data()


def test_files_are_checked_once_a_run(tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(data, "ensure_files", checked.append)
    module = MNISTDataModule(data_dir=str(tmp_path))
    module.prepare_data()
    module.prepare_data()
    assert checked == [str(tmp_path)]


def test_a_checkpoint_of_other_data_is_refused():
    module = ready(source="sample")
    module.load_state_dict(module.state_dict())
    with pytest.raises(SettingError, match="resume on the same data"):
        module.load_state_dict({"fingerprint": "another"})


def test_batch_size_zero_is_refused():
    with pytest.raises(SettingError, match="data.batch_size is 0"):
        MNISTDataModule(batch_size=0)
