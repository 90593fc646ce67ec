"""What the clock counts, in real fits on a clock whose time passes where a test says."""

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy

from mnist_lightning import MNISTClassifier, MNISTDataModule, experiment
from mnist_lightning.callbacks import WallClock
from mnist_lightning.measure import calibration, clock


def spends(seconds):
    def hook(self, *_, **__):
        self.now += seconds

    return hook


class Time(Callback):
    """Time passes in a batch, in writing a checkpoint, and before and after the training."""

    now = 5.0
    setup = on_fit_start = on_train_start = on_train_end = on_fit_end = teardown = spends(1000)
    on_train_batch_end, on_validation_batch_end, on_save_checkpoint = spends(1), spends(0.5), spends(100)


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """Fits nine batches of 4,000 images and validates three an epoch; gives the clock."""
    monkeypatch.chdir(tmp_path)
    time = Time()
    monkeypatch.setattr(clock, "perf_counter", lambda: time.now)
    monkeypatch.setattr(calibration, "MEASURED", {"fp32_gflops": lambda device: 1.0})  # nothing is fast without time

    def run(epochs, ckpt_path=None, **settings) -> WallClock:
        settings = experiment.trainer_settings(max_epochs=epochs, **{"accelerator": "cpu", **settings})
        trainer = Trainer(**settings, callbacks=[time, *experiment.callbacks()])
        trainer.ckpt_path = ckpt_path
        network = MNISTClassifier(channels=(8, 16), hidden=16)
        trainer.fit(network, MNISTDataModule(source="sample", batch_size=480))
        return next(each for each in trainer.callbacks if isinstance(each, WallClock))

    return run


EPOCH = {"seconds/train_epoch": 9.0, "seconds/val_epoch": 1.5, "seconds/epoch": 10.5, "images_per_second": 4000 / 9}


def test_an_epoch_is_its_training_and_validation_and_the_fit_is_all_but_start_and_last_checkpoint(fit):
    told = fit(2)
    assert told.epochs == [pytest.approx(EPOCH)] * 2
    assert told.fit == 10.5 + 100 + 10.5
    assert told.medians() == pytest.approx(EPOCH)


def test_an_epoch_without_validation_is_its_training_alone(fit):
    told = fit(3, check_val_every_n_epoch=2, limit_train_batches=2)
    assert told.by_epoch()["images_per_second"] == [480] * 3
    assert told.by_epoch()["seconds/val_epoch"] == [0, 1.5, 1.5]
    assert told.by_epoch()["seconds/epoch"] == [2, 3.5, 3.5]


def test_a_resumed_run_counts_on_from_its_checkpoint(fit):
    fit(1)
    told = fit(2, ckpt_path="logs/1xcpu-b0480-s0/version_0/checkpoints/last.ckpt")
    assert told.resumed
    assert told.epochs == [pytest.approx(EPOCH)] * 2
    assert told.fit == 21


def test_the_slowest_process_counts(fit):
    class Slower(SingleDeviceStrategy):
        """Another process takes twice as long as this one."""

        def reduce(self, tensor, *_, reduce_op="mean", **__):
            return 2 * tensor if reduce_op == "max" else tensor

    told = fit(1, strategy=Slower(device="cpu"))
    assert (told.fit, told.by_epoch()["seconds/epoch"], told.by_epoch()["images_per_second"]) == (21, [21], [4000 / 18])
