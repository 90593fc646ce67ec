"""Gradients that processes of one machine exchange through memory."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy

from mnist_lightning.speed.shared_gradients import IN_MEMORY, Exchange, SharedGradients, average


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def bucket(gradients, last):
    return SimpleNamespace(buffer=lambda: gradients, is_last=lambda: last)


def test_the_mean_is_taken_over_all_processes_in_two_buckets(group):
    memory = torch.zeros(2, 3, 5)
    exchange = Exchange(memory, rank=1)
    for step, factor in enumerate((1.0, 4.0)):
        # What processes 0 and 2 have written already.
        memory[step % 2, 0], memory[step % 2, 2] = factor, 5 * factor
        first, second = torch.full((2,), 3 * factor), torch.full((3,), 6 * factor)
        futures = average(exchange, bucket(first, False)), average(exchange, bucket(second, True))
        assert futures[0].wait().tolist() == [3 * factor] * 2
        assert futures[1].wait().tolist() == [4 * factor] * 3
        assert memory[step % 2, 1].tolist() == [3 * factor] * 2 + [6 * factor] * 3
    # A process may still read the other half while the step after is written.
    assert memory[0, 1].tolist() == [3.0] * 2 + [6.0] * 3


@pytest.fixture
def trainer(group):
    """A Trainer of two processes, of which the other one never writes a gradient."""
    strategy = DDPStrategy(parallel_devices=[torch.device("cpu")])
    strategy._model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 1))
    return SimpleNamespace(strategy=strategy, num_nodes=1, world_size=2, global_rank=0, is_global_zero=True)


def gradient(trainer):
    model = trainer.strategy.model
    for _ in range(2):  # DDP makes its buckets anew after the first step
        model.zero_grad()
        model(torch.tensor([[1.0, 2.0, 4.0]])).backward()
    return model.module.weight.grad.tolist()


def test_ddp_exchanges_its_gradients_through_the_memory(trainer):
    SharedGradients().on_train_start(trainer, trainer.strategy.model)
    assert gradient(trainer) == [[0.5, 1.0, 2.0]]
    assert not list(IN_MEMORY.glob("tmp*/gradients"))


def test_gloo_exchanges_them_without_room_on_several_machines_and_with_the_users_own_hook(trainer, monkeypatch):
    trainer.num_nodes = 2
    SharedGradients().on_train_start(trainer, trainer.strategy.model)
    trainer.num_nodes = 1
    trainer.strategy._ddp_comm_hook = lambda *_: None
    SharedGradients().on_train_start(trainer, trainer.strategy.model)
    trainer.strategy._ddp_comm_hook = None

    def no_room(*where, **options):
        raise OSError(28, "No space left on device")

    for owner, name in ((Path, "write_bytes"), (tempfile, "TemporaryDirectory")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, no_room)
            SharedGradients().on_train_start(trainer, trainer.strategy.model)
    assert gradient(trainer) == [[1.0, 2.0, 4.0]]  # gloo knows of one process only
