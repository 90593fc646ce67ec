"""What this project uses of other libraries though they do not promise it: each name is where it was."""

import inspect

import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from mnist_lightning.callbacks import StopSignals


def test_the_launcher_keeps_the_processes_that_it_started():
    """durability/heartbeat.py takes them over."""
    assert _SubprocessScriptLauncher(LightningEnvironment(), num_processes=2, num_nodes=1).procs == []


def test_lightning_asks_for_sigterm_at_each_step_by_a_method_of_its_loop(monkeypatch):
    """callbacks.py replaces it; the loop calls it where there are several processes."""
    asked = []
    monkeypatch.setattr(_TrainingEpochLoop, "_broadcast_sigterm_tensor", lambda self: asked.append(1))
    assert "self._broadcast_sigterm_tensor()" in inspect.getsource(_TrainingEpochLoop.advance)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor()
    assert asked == [1]
    signals = StopSignals()
    signals.setup(trainer, None, "fit")
    signals.on_train_start(trainer, None)
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor()
    assert asked == [1]


def test_ddp_tells_how_long_it_waited():
    """measure/step_parts.py reads it; test_two_devices.py asserts what it reads."""
    assert callable(DistributedDataParallel._set_ddp_runtime_logging_sample_rate)
    assert callable(DistributedDataParallel._get_ddp_logging_data)
    assert torch.distributed.is_available()


def test_tensorboard_writes_in_a_thread_of_its_own(tmp_path):
    """views/console.py knows it by its module."""
    writer = SummaryWriter(tmp_path)
    thread = writer.file_writer.event_writer._async_writer._worker
    writer.close()
    assert type(thread).__module__.startswith("tensorboard.")
