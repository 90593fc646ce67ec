"""What this project uses of other libraries though they do not promise it: each name still has its effect."""

from datetime import timedelta

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from test_fit import RUNS, SMALL_FIT, scalars
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import scalar

from mnist_lightning import MNISTClassifier, MNISTDataModule
from mnist_lightning.callbacks import StopSignals, WholeEpochs

BARE = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)


def fit(*callbacks: Callback, strategy="auto", epochs=1) -> Trainer:
    how = {"accelerator": "cpu", "devices": 1, "use_distributed_sampler": False, "max_epochs": epochs, **BARE}
    trainer = Trainer(strategy=strategy, callbacks=list(callbacks), **how)
    trainer.fit(MNISTClassifier(hidden=8, compile=False), MNISTDataModule(source="sample", batch_size=480))
    return trainer


def test_lightnings_cli_asks_a_method_for_the_settings_of_a_checkpoint(command, capsys):
    """cli.py overrides `_parse_ckpt_path`, which would let a checkpoint's settings win over the user's."""
    assert command(*SMALL_FIT, "--trainer.max_epochs=1", "--model.rho=0.9") == 0
    resume = ["--ckpt_path", RUNS / "version_0" / "checkpoints" / "last.ckpt", "--trainer.max_epochs=2"]
    assert command("fit", *resume, "--model.rho=0.5") == 2
    assert "model.rho is 0.5" in capsys.readouterr().err.splitlines()[-1]


def test_a_timer_stops_at_the_end_of_an_epoch():
    """callbacks.py sets `_interval`."""
    assert fit(WholeEpochs(), Timer(timedelta(microseconds=1)), epochs=3).global_step == 9


def test_ddp_waits_as_long_as_it_is_told():
    """cli.py sets `_timeout`."""

    class Look(Callback):
        def on_train_start(self, trainer, module):
            self.found = torch.distributed.group.WORLD._get_backend(torch.device("cpu")).options._timeout

    strategy, look = DDPStrategy(), Look()
    strategy._timeout = timedelta(seconds=77)
    fit(look, strategy=strategy)
    torch.distributed.destroy_process_group()
    assert look.found.seconds == 77


def test_several_processes_do_not_ask_each_other_for_sigterm_at_each_step(monkeypatch):
    """callbacks.py replaces `_broadcast_sigterm_tensor`."""
    asked = []
    monkeypatch.setattr(_TrainingEpochLoop, "_broadcast_sigterm_tensor", lambda self: asked.append(1))
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    for callbacks in ([], [StopSignals()]):
        strategy = SingleDeviceStrategy(device="cpu")
        strategy.world_size = 2
        fit(*callbacks, strategy=strategy)
        assert len(asked) == 9  # each of the first nine steps asked, and none of the others
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("name", "method"), [("ddp", "popen"), ("ddp_spawn", "spawn"), ("ddp_fork", "fork")])
def test_a_trainer_knows_how_it_starts_processes_and_whether_it_deals_the_images(name, method):
    """runs/checks.py reads `_start_method`; durability/heartbeat.py takes over `procs`."""
    for deals in (True, False):
        trainer = Trainer(strategy=name, accelerator="cpu", devices=2, use_distributed_sampler=deals, **BARE)
        assert trainer._accelerator_connector.use_distributed_sampler is deals
        assert (trainer.strategy._start_method, trainer.strategy.launcher.procs) == (method, [])


def test_tensorboards_writer_takes_a_summary(tmp_path):
    """views/board.py uses `_get_file_writer`."""
    with SummaryWriter(tmp_path) as writer:
        writer._get_file_writer().add_summary(scalar("told", 0.5), 3)
    assert scalars(tmp_path) == {"told": [(3, 0.5)]}
