"""On a GPU, where there is one: the same experiment, and no step that waits for the host."""

from time import perf_counter

import pytest
import torch
from conftest import SMALL, spawn
from lightning.pytorch import Callback, Trainer
from test_fit import summary_in, weights

from mnist_lightning import MNISTClassifier, MNISTDataModule, experiment
from mnist_lightning.measure.clock import now

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
DOUBLE = ["fit", *SMALL, "--trainer.max_epochs=1", "--trainer.precision=64-true"]


def test_a_gpu_trains_the_weights_of_a_processor(command, tmp_path):
    done = spawn(tmp_path, *DOUBLE, "--trainer.accelerator=gpu", timeout=300)
    assert done.returncode == 0, done.stderr
    assert command(*DOUBLE, "--trainer.accelerator=cpu") == 0
    ours, theirs = (next(tmp_path.glob(f"logs/1x{kind}/*/*/version_0")) for kind in ("gpu", "cpu"))
    assert all((weights(ours)[name].cpu() - weight).abs().max() < 1e-9 for name, weight in weights(theirs).items())
    machine = summary_in(ours)["machine"]
    assert (machine["gpu"], machine["tf32"]) == (torch.cuda.get_device_name(), False)


class NoWaits(Callback):
    """After the first step of an epoch, which sends the order of the images, whatever makes the host wait is an error."""

    def on_train_batch_end(self, trainer, module, outputs, batch, step):
        assert all(tensor.is_cuda for tensor in batch[:4])
        torch.cuda.set_sync_debug_mode("error" if step + 2 < trainer.num_training_batches else "default")


def test_a_step_waits_for_nobody(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = experiment.trainer_settings(accelerator="gpu", max_epochs=2)
    trainer = Trainer(**settings, callbacks=[NoWaits(), *experiment.callbacks()])
    trainer.fit(MNISTClassifier(), MNISTDataModule(source="sample", batch_size=480))
    assert trainer.global_step == 18


def test_the_clock_waits_until_the_gpu_is_done():
    device, one = torch.device("cuda", 0), torch.ones(8192, 8192, device="cuda")
    now(device)
    for _ in range(20):
        one @ one
    given = perf_counter()
    assert now(device) - given > 0.01
