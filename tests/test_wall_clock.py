"""The clock with its hooks called in Lightning's order and the time in the test's hands."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import mnist_lightning
from mnist_lightning.callbacks import WallClock
from mnist_lightning.data import Digits, MNISTDataModule
from mnist_lightning.measure.clock import now


class Logger:
    def __init__(self):
        self.points = []

    def log_metrics(self, metrics, step):
        self.points += [(name, step, value) for name, value in metrics.items()]


class Strategy:
    root_device = torch.device("cpu")
    slower = 1.0  # the slowest process takes so many times our seconds

    def reduce(self, tensor, reduce_op):
        assert reduce_op == "max"
        return tensor * self.slower


@pytest.fixture
def time(monkeypatch):
    time = SimpleNamespace(now=100.0)
    monkeypatch.setattr("mnist_lightning.measure.clock.perf_counter", lambda: time.now)
    return time


def make_trainer():
    """It has trained two batches of an epoch, of 64 and of 56 images."""
    data = MNISTDataModule(batch_size=64)
    data.train_digits = Digits(torch.zeros(120, 28, 28, dtype=torch.uint8), torch.zeros(120))
    progress = SimpleNamespace(current=SimpleNamespace(completed=2))
    fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    return SimpleNamespace(strategy=Strategy(), loggers=[Logger()], current_epoch=0, datamodule=data, fit_loop=fit_loop)


MODULE = SimpleNamespace(device=torch.device("cpu"))


def epoch(clock, trainer, time, number, train, val, between=0.0):
    """An epoch; `between` seconds of other work follow it."""
    trainer.current_epoch = number
    clock.on_train_epoch_start(trainer, MODULE)
    time.now += train
    if val is not None:
        clock.on_validation_start(trainer, MODULE)
        time.now += val
        clock.on_validation_end(trainer, MODULE)
    clock.on_train_epoch_end(trainer, MODULE)
    time.now += between


def test_an_epoch_is_training_and_validation_and_the_fit_is_all_between(time):
    clock, trainer = WallClock(), make_trainer()
    clock.on_train_start(trainer, MODULE)
    epoch(clock, trainer, time, 0, train=8, val=2, between=0.5)
    epoch(clock, trainer, time, 1, train=4, val=1, between=9)
    clock.on_train_end(trainer, MODULE)
    assert trainer.loggers[0].points == [
        ("seconds/train_epoch", 1, 8.0),
        ("seconds/val_epoch", 1, 2.0),
        ("seconds/epoch", 1, 10.0),
        ("images_per_second", 1, 15.0),
        ("seconds/train_epoch", 2, 4.0),
        ("seconds/val_epoch", 2, 1.0),
        ("seconds/epoch", 2, 5.0),
        ("images_per_second", 2, 30.0),
        ("seconds/fit", 2, 15.5),
    ]


def test_the_slowest_process_counts(time):
    clock, trainer = WallClock(), make_trainer()
    trainer.strategy.slower = 1.5
    clock.on_train_start(trainer, MODULE)
    epoch(clock, trainer, time, 0, train=8, val=2)
    assert clock.fit == 15
    assert clock.epochs[0]["seconds/train_epoch"] == 12


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_gpu_is_waited_for_at_the_boundaries_and_never_else(time, monkeypatch, kind):
    waits = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waits.append)
    clock, trainer = WallClock(), make_trainer()
    trainer.strategy.root_device = torch.device(kind, 1)
    clock.on_train_start(trainer, MODULE)
    epoch(clock, trainer, time, 0, train=8, val=2)
    # The fit's start, the epoch's start, the validation's start and end, the epoch's end.
    assert waits == [torch.device(kind, 1)] * 5


def test_the_clock_is_read_when_the_device_is_done(time, monkeypatch):
    """A GPU that works 3 s behind the host; a processor is never waited for."""

    def work_through(device):
        time.now += 3

    monkeypatch.setattr(torch.accelerator, "synchronize", work_through)
    assert now(torch.device("cuda", 0)) == 103
    assert now(torch.device("cpu")) == 103


def test_waiting_for_a_device_is_written_once():
    package = Path(mnist_lightning.__file__).parent
    assert [path.name for path in package.rglob("*.py") if "synchronize(" in path.read_text()] == ["clock.py"]


def test_a_resumed_run_counts_on_from_its_checkpoint(time):
    clock, trainer = WallClock(), make_trainer()
    clock.on_train_start(trainer, MODULE)
    epoch(clock, trainer, time, 0, train=8, val=2)
    saved = clock.state_dict()
    time.now += 1  # of a second epoch that a kill cuts off
    time.now += 1000
    resumed = WallClock()
    resumed.load_state_dict(saved)
    resumed.on_train_start(trainer, MODULE)
    epoch(resumed, trainer, time, 1, train=4, val=1)
    assert resumed.fit == 15
    assert [times["seconds/epoch"] for times in resumed.epochs] == [10, 5]


def test_without_validation_the_epoch_is_training_alone(time):
    clock, trainer = WallClock(), make_trainer()
    clock.on_train_start(trainer, MODULE)
    epoch(clock, trainer, time, 0, train=8, val=2)
    epoch(clock, trainer, time, 1, train=4, val=None)
    assert clock.epochs[1]["seconds/val_epoch"] == 0
    assert clock.epochs[1]["seconds/epoch"] == 4
