"""The start of several processes ends in bounded time."""

import os
import socket
import threading
from types import SimpleNamespace

import pytest
import torch.distributed

from mnist_lightning.durability.heartbeat import Heartbeat, limit_start
from mnist_lightning.errors import sentence


def made(world_size: int, launched: bool) -> SimpleNamespace:
    environment = SimpleNamespace(creates_processes_externally=launched)
    strategy = SimpleNamespace(cluster_environment=environment, launcher=None)
    return SimpleNamespace(world_size=world_size, global_rank=1, strategy=strategy, callbacks=[Heartbeat()])


@pytest.fixture
def ended(monkeypatch) -> threading.Event:
    """Set when the process would have ended with exit code 1."""
    event = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: event.set() if code == 1 else None)
    monkeypatch.setenv("MASTER_ADDR", "node1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    return event


@pytest.mark.parametrize("launched", [False, True])
def test_a_process_that_waits_in_vain_ends_and_says_for_whom(ended, capsys, launched):
    seconds = {"here": 60.0, "elsewhere": 60.0} | ({"elsewhere": 0.01} if launched else {"here": 0.01})
    trainer = made(2, launched)
    limit_start(trainer, **seconds)
    trainer.callbacks[0].start.join(10)
    assert ended.is_set()
    said = capsys.readouterr().err
    assert "error: process 1 of 2 has waited 0 seconds for the others at node1:29500, so it ends: start all" in said


def test_one_process_waits_for_nobody(ended):
    trainer = made(1, False)
    limit_start(trainer, here=0.0, elsewhere=0.0)
    assert trainer.callbacks[0].start is None and not ended.is_set()


def test_processes_that_have_met_may_take_their_time(ended, monkeypatch):
    trainer = made(2, False)
    (heartbeat,) = trainer.callbacks
    monkeypatch.setattr(heartbeat, "_connect", lambda trainer: None)
    limit_start(trainer, here=0.5)
    heartbeat.setup(trainer, None, "fit")
    heartbeat.ending.set()
    heartbeat.start.join(10)
    assert not ended.is_set()


def test_a_taken_port_is_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(torch.distributed.DistNetworkError) as found:
            torch.distributed.TCPStore("127.0.0.1", port, 2, is_master=True)
    assert sentence(found.value) == f"MASTER_PORT is {port}, which another program uses: set another one."
