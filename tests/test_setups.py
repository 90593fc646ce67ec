"""The setups, resolved by Lightning itself; GPUs are only pretended."""

import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from mnist_lightning import cli
from mnist_lightning.data import Digits
from mnist_lightning.run_files import run_name
from mnist_lightning.runs.loggers import make_loggers, setup_name

CONFIGS = Path(__file__).parent.parent / "configs"


class Resolved(Exception):
    """Carries the Trainer that a command would have trained with."""


@pytest.fixture
def trainer_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def stop(self, **options):
        raise Resolved(self)

    monkeypatch.setattr(cli.MNISTCLI, "fit", stop)

    def resolve(*args):
        monkeypatch.setattr(sys, "argv", ["mnist-lightning", "fit", *map(str, args)])
        with pytest.raises(Resolved) as resolved:
            cli.main("train")
        return resolved.value.args[0]

    return resolve


@pytest.fixture
def gpus(monkeypatch):
    """Pretends a number of GPUs, at the places where Lightning looks."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (6, 0))
        for place in ("lightning.fabric.accelerators.cuda", "lightning.pytorch.accelerators.cuda"):
            monkeypatch.setattr(f"{place}.num_cuda_devices", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("setup", "strategy", "devices", "accelerator"),
    [
        ("1xcpu", SingleDeviceStrategy, [torch.device("cpu")], "cpu"),
        ("2xcpu", DDPStrategy, [torch.device("cpu")] * 2, "cpu"),
        ("1xgpu", SingleDeviceStrategy, [torch.device("cuda", 0)], "cuda"),
        ("2xgpu", DDPStrategy, [torch.device("cuda", 0), torch.device("cuda", 1)], "cuda"),
    ],
)
def test_a_setup_resolves_to_its_devices_and_shares_the_batch(
    trainer_of, gpus, monkeypatch, setup, strategy, devices, accelerator
):
    gpus(2)
    placed = []
    monkeypatch.setattr(Digits, "to", lambda digits, place: placed.append(place) or digits)
    made = trainer_of("--config", CONFIGS / f"{setup}.yaml", "--data.source=sample")
    trainer, data = made.trainer, made.datamodule
    assert type(trainer.strategy) is strategy
    assert trainer.world_size == len(devices)
    assert (getattr(trainer.strategy, "parallel_devices", None) or [trainer.strategy.root_device]) == devices
    assert trainer.accelerator.name() == accelerator
    assert setup_name(trainer) == setup
    trainer.datamodule = data
    assert make_loggers(trainer)[0].name == run_name(setup, 128, 0)

    data.trainer = trainer
    monkeypatch.setattr(trainer.strategy, "reduce_boolean_decision", lambda decision: decision)  # of one process
    data.prepare_data()
    data.setup("fit")
    assert placed == [devices[0]] * 2
    share = next(iter(data.train_dataloader()))
    assert len(share.images) == 128 // len(devices)
    assert share.size == 128


@pytest.mark.parametrize(
    ("count", "args", "setup"),
    [
        (0, [], "1xcpu"),
        (2, [], "1xgpu"),  # not all GPUs of the machine
        (2, ["--trainer.devices=2"], "2xgpu"),
        (0, ["--trainer.devices=2"], "2xcpu"),
        (4, ["--trainer.devices=auto"], "4xgpu"),
        (2, ["--trainer.accelerator=cpu"], "1xcpu"),
    ],
)
def test_auto_becomes_what_the_machine_has(trainer_of, gpus, count, args, setup):
    gpus(count)
    assert setup_name(trainer_of(*args).trainer) == setup


def test_two_gpus_reduce_their_gradients_where_they_lie(trainer_of, gpus):
    gpus(2)
    options = trainer_of("--config", CONFIGS / "2xgpu.yaml").trainer.strategy._ddp_kwargs
    chosen = {"gradient_as_bucket_view": True}
    assert {name: options[name] for name in chosen} == chosen
