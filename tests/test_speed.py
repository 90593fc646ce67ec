"""What makes a run fast changes nothing in it."""

import ctypes
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import PROJECT, QUICK
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from test_fit import QUICK_FIT, RUNS, SMALL_FIT, results, scalars, weights

from mnist_lightning import experiment
from mnist_lightning import model as model_module
from mnist_lightning.data import MNISTDataModule
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.speed.empty_hooks import STEP_HOOKS, leave_steps_alone, remove_empty_hooks
from mnist_lightning.speed.warm_up import WarmUp
from mnist_lightning.views.progress import FitProgress


@pytest.mark.parametrize("compiled", ["null", pytest.param("true", marks=pytest.mark.slow)])
def test_compiled_and_uncompiled_runs_agree(command, compiled):
    options = ["--trainer.max_epochs=1", "--trainer.precision=64-true"]
    for value in ("false", compiled):
        assert command(*SMALL_FIT, *options, f"--model.compile={value}") == 0
    ours, theirs = (weights(RUNS / f"version_{n}") for n in range(2))
    assert 0 < max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-12
    accuracies = [results(RUNS / f"version_{n}")["val/accuracy"] for n in range(2)]
    assert accuracies[0] == accuracies[1]


def test_bf16_learns_as_fp32_does(command):
    assert command(*QUICK_FIT, "--trainer.max_epochs=3") == 0
    fast = ["--config", PROJECT / "configs" / "fast.yaml"]
    assert command("fit", *fast, "--trainer.accelerator=cpu", *QUICK, "--trainer.max_epochs=3") == 0
    exact, rounded = (scalars(RUNS / f"version_{n}")["val/accuracy"][-1][1] for n in range(2))
    summary = json.loads((RUNS / "version_1" / "summary.json").read_text())
    assert summary["machine"]["precision"] == "bf16-mixed"
    assert exact > 0.5
    assert rounded == pytest.approx(exact, abs=0.02)


def test_a_machine_without_a_compiler_trains_and_says_so_once(command, monkeypatch, recwarn, capsys):
    monkeypatch.setattr(model_module, "compiler_problem", lambda device: "no g++")
    assert command(*SMALL_FIT, "--trainer.max_epochs=1") == 0
    assert sum("nothing can be compiled here (no g++)" in str(warning.message) for warning in recwarn) == 1
    assert (RUNS / "version_0" / "summary.json").exists()
    capsys.readouterr()
    assert command(*SMALL_FIT, "--model.compile=true") == 2
    assert "model.compile is true, but nothing can be compiled here (no g++)" in capsys.readouterr().err
    assert not (RUNS / "version_1").exists()


def test_the_compiler_is_really_tried(tmp_path):
    environment = {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "CXX": "none"}
    code = "from mnist_lightning.speed.compiler import compiler_problem as p; print(p('cpu'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "No working C++ compiler" in done.stdout


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_freed_memory_is_kept(tmp_path):
    """A tensor of 64 MB, freed and made again, faults no new pages in."""
    code = """
import resource
from mnist_lightning.speed.allocator import keep_freed_memory
{}keep_freed_memory()
import torch
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
before = faults()
for _ in range(5):
    torch.ones(2**24)
print(faults() - before)
"""

    def faults(prefix: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", code.format(prefix)],
            env={name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return int(done.stdout)

    assert faults("") < 8_000
    assert faults("#") > 5 * 16_000


def test_tf32_is_a_setting_and_off(command, monkeypatch):
    flags = []
    kept = MNISTClassifier.configure_optimizers

    def look(self):
        flags.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return kept(self)

    monkeypatch.setattr(MNISTClassifier, "configure_optimizers", look)
    for options in ([], ["--tf32=true"]):
        assert command(*SMALL_FIT, "--trainer.fast_dev_run=true", *options) == 0
    assert flags == [(False, False), (True, True)]


def test_deterministic_does_not_fill_every_new_tensor(monkeypatch):
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setattr("mnist_lightning.speed.warm_up.keep_freed_memory", lambda: None)
    WarmUp().setup(SimpleNamespace(callbacks=[]), MNISTClassifier(channels=(4, 8), hidden=16), "fit")
    assert torch.utils.deterministic.fill_uninitialized_memory is False


def test_the_images_and_the_order_lie_on_the_device(monkeypatch):
    """PyTorch's device without memory stands for a GPU: a batch that touched the CPU would raise."""

    class Strategy:
        root_device = torch.device("meta")

        @staticmethod
        def broadcast(value):
            return value

    class Fake:
        strategy, global_rank, world_size = Strategy, 1, 2
        _accelerator_connector = SimpleNamespace(use_distributed_sampler=False)

    data = MNISTDataModule(source="sample", batch_size=128)
    data.trainer = Fake
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert {tensor.device.type for tensor in batch[:4]} == {"meta"}
    assert batch.images.shape == (64, 28, 28)


@pytest.mark.parametrize(("kind", "expected"), [("cuda", True), ("cpu", False)])
def test_on_a_gpu_adadelta_takes_few_kernels_and_no_wait(monkeypatch, kind, expected):
    made = {}
    monkeypatch.setattr(torch.optim, "Adadelta", lambda parameters, **options: made.update(options))
    monkeypatch.setattr(MNISTClassifier, "device", torch.device(kind))
    MNISTClassifier().configure_optimizers()
    assert made["foreach"] is made["capturable"] is expected


@pytest.mark.slow
def test_a_process_at_batch_2048_stays_under_two_and_a_half_gigabytes(tmp_path, mnist_dir):
    options = ["--data.batch_size=2048", "--trainer.max_epochs=1", f"--data.data_dir={mnist_dir}"]
    code = f"import resource; from conftest import spawn; from pathlib import Path; done = spawn(Path('.'), 'fit', *{options!r}); assert done.returncode == 0, done.stderr; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT / "tests")},
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    assert 1e5 < int(done.stdout) < 2.5e9 / 1024


class OwnProgress(FitProgress):
    def on_train_batch_end(self, *_):
        """A user's."""


@pytest.mark.parametrize(
    ("callback", "stays"),
    [
        (LambdaCallback(on_train_batch_end=lambda *_: None), True),
        (OwnProgress(), True),
        (FitProgress(), False),
        (Callback(), False),
    ],
)
def test_a_users_hook_of_a_step_stays(callback, stays):
    """Lightning's LambdaCallback has its hooks as attributes; a subclass overrides one of ours."""
    remove_empty_hooks([callback])
    leave_steps_alone(callback, FitProgress)
    assert callable(callback.on_train_batch_end) is stays
    assert callback.on_before_backward is None


def test_the_trainer_calls_no_hook_of_a_step_that_does_nothing(command):
    """Lightning calls what is callable, in every step."""
    callbacks = experiment.callbacks()
    trainer = Trainer(**experiment.trainer_settings(max_epochs=1, accelerator="cpu"), callbacks=callbacks)
    network = MNISTClassifier(channels=(4, 8), hidden=16, compile=False)
    trainer.fit(network, MNISTDataModule(source="sample", batch_size=480))
    called = {name: [type(each).__name__ for each in trainer.callbacks if getattr(each, name)] for name in STEP_HOOKS}
    assert {name: who for name, who in called.items() if who} == {
        "on_train_batch_end": ["ModelCheckpoint"],
        "on_validation_batch_end": ["Board"],
    }
