"""The parts of a step and the neighbours' load, with the time in the test's hands."""

import json
from types import SimpleNamespace

import pytest
import torch
from conftest import QUICK
from torch import nn

from mnist_lightning.measure import load, neighbours, step_parts
from mnist_lightning.measure.neighbours import Neighbours
from mnist_lightning.measure.step_parts import StepParts
from mnist_lightning.runs.summary import closing_table


def make_trainer(now, device="cpu"):
    class Loader:
        def __iter__(self):
            for _ in range(2):
                now.seconds += 0.25
                yield None

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1, requires_grad=True))])
    strategy = SimpleNamespace(root_device=torch.device(device), model=None)
    return SimpleNamespace(strategy=strategy, optimizers=[optimizer], train_dataloader=Loader())


@pytest.fixture
def now(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(step_parts, "perf_counter", lambda: now.seconds)
    return now


def train(parts, trainer, now, slower=1.0):
    """An epoch of two steps: 8 s each, and 2 s of validation."""

    def spend(seconds):
        now.seconds += seconds * slower

    parts.on_train_epoch_start(trainer, None)
    for step in range(2):
        spend(0.5)
        parts.on_train_batch_start(trainer, None, None, step)
        spend(1.0)
        parts.on_before_zero_grad(trainer, None, None)
        spend(0.25)
        parts.on_before_backward(trainer, None, None)
        spend(4.0)
        parts.on_after_backward(trainer, None)
        spend(0.125)
        parts.on_before_optimizer_step(trainer, None, None)
        spend(2.0)
        trainer.optimizers[0].step()
        spend(0.125)
    parts.on_validation_start(trainer, None)
    spend(2.0)
    parts.on_train_epoch_end(trainer, None)


def test_the_parts_add_up_to_the_step(now):
    parts, trainer = StepParts(True), make_trainer(now)
    parts.on_train_start(trainer, None)
    train(parts, trainer, now, slower=1000.0)
    resumed = StepParts(True)
    resumed.load_state_dict(parts.state_dict())
    resumed.on_train_start(trainer, None)
    train(resumed, trainer, now)
    train(resumed, trainer, now)
    resumed.on_train_end(trainer, None)
    assert resumed.medians() == {
        "forward": 1.0,
        "backward": 4.0,
        "optimizer": 2.0,
        "exchange": 0.0,
        "data": 0.25,
        "trainer": 0.75,
    }


def test_a_disturbed_pass_over_the_data_makes_no_part_negative(now):
    parts, trainer = StepParts(True), make_trainer(now)
    parts.on_train_start(trainer, None)
    train(parts, trainer, now)
    parts.data = 100.0
    assert (parts.medians()["data"], parts.medians()["trainer"]) == (1.0, 0.0)
    assert sum(parts.medians().values()) == 8.0


def test_the_parts_are_those_of_one_epoch():
    """The medians of the parts, 4 s, 4 s and 5 s, would be longer than any step."""
    parts = StepParts(True)
    for step, forward, backward, optimizer in ((10.0, 1.0, 4.0, 5.0), (11.0, 4.0, 1.0, 5.5), (12.0, 5.0, 5.0, 0.0)):
        seconds = {"forward": forward, "backward": backward, "optimizer": optimizer, "exchange": 0.0, "step": step}
        parts.epochs.append(seconds)
    assert parts.medians() == {
        "forward": 4.0,
        "backward": 1.0,
        "optimizer": 5.5,
        "exchange": 0.0,
        "data": 0.0,
        "trainer": 0.5,
    }


def test_a_long_wait_for_gradients_makes_no_part_negative(now):
    parts, trainer = StepParts(True), make_trainer(now)
    parts.on_train_start(trainer, None)
    clock = {"backward_comm_time": 9e9, "backward_compute_comm_overlap_time": 2e9}
    parts.ddp = SimpleNamespace(_get_ddp_logging_data=lambda: clock)
    train(parts, trainer, now)
    spent = parts.medians()
    # The one step of two that was looked at waited 7 s; both have 4 s of backward on average.
    assert (spent["backward"], spent["exchange"]) == (0.0, 4.0)
    assert sum(spent.values()) == 8.0


@pytest.mark.parametrize(("wanted", "device"), [(True, "meta"), (False, "cpu")])
def test_neither_a_gpu_nor_an_unasked_step_is_timed(now, wanted, device):
    parts, trainer = StepParts(wanted), make_trainer(now, device)
    parts.on_train_start(trainer, None)
    assert parts.on_train_batch_start is None  # so that Lightning does not call it
    parts.on_train_epoch_start(trainer, None)
    parts.on_validation_start(trainer, None)
    parts.on_train_epoch_end(trainer, None)
    parts.on_train_end(trainer, None)
    assert parts.medians() == {}


def test_a_fit_records_where_its_steps_went(command, tmp_path):
    assert command("fit", *QUICK, "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--step_parts=true") == 0
    (path,) = tmp_path.rglob("summary.json")
    summary = json.loads(path.read_text())
    spent = summary["step_seconds"]
    assert spent.keys() == {"forward", "backward", "optimizer", "exchange", "data", "trainer"}
    assert spent["exchange"] == 0 and all(spent[name] > 0 for name in ("forward", "backward", "optimizer"))
    assert spent["data"] >= 0 and spent["trainer"] >= 0
    assert summary["neighbours"].keys() == {"own_cores", "other_cores", "stolen_cores"}


def test_neighbours_are_what_this_run_did_not_use(monkeypatch):
    def machine(seconds, user, stolen, own):
        spent = SimpleNamespace(user=user, nice=0.0, system=0.0, idle=10.0, steal=stolen)
        monkeypatch.setattr(load.psutil, "cpu_times", lambda: spent)
        monkeypatch.setattr(neighbours, "perf_counter", lambda: seconds)
        monkeypatch.setattr(neighbours.os, "times", lambda: SimpleNamespace(user=own, system=1.0))

    strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=lambda tensor, reduce_op: 2 * tensor)
    trainer = SimpleNamespace(strategy=strategy, node_rank=0)
    watch = Neighbours()
    machine(seconds=1000.0, user=50.0, stolen=3.0, own=7.0)
    watch.on_train_start(trainer, None)
    # Two processes of 30 seconds each; 100 were spent in 50 seconds.
    machine(seconds=1050.0, user=150.0, stolen=13.0, own=37.0)
    watch.on_train_end(trainer, None)
    assert watch.cores == {"own_cores": 1.2, "other_cores": 0.8, "stolen_cores": 0.2}


@pytest.mark.parametrize(
    ("other", "stolen", "warning"),
    [
        (0.05, 0.05, ""),
        (1.01, 0.0, "warning: do not trust the time, since other programs kept 1.01 cores while it used 2.00"),
        (0.0, 0.2, "warning: do not trust the time, since the host kept back 0.20 cores while it used 2.00"),
    ],
)
def test_a_fit_warns_of_busy_neighbours_at_its_end(other, stolen, warning):
    summary = {
        "setup": "1xcpu",
        "batch_size": 128,
        "seed": 0,
        "data": "mnist",
        "test_images": 10000,
        "epochs": 1,
        "machine": {"precision": "32-true"},
        "metrics": {"seconds/fit": 10.0, "seconds/warm_up": 1.0},
        "neighbours": {"own_cores": 2.0, "other_cores": other, "stolen_cores": stolen},
    }
    told = [line.strip() for line in closing_table(summary, None).splitlines() if "warning" in line]
    assert told == [warning] * bool(warning)
