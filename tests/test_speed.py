"""What makes a run fast changes nothing in it."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import PROJECT, SMALL, spawn
from lightning.pytorch import Callback, Trainer
from test_fit import RUNS, SMALL_FIT, results, scalars, weights

from mnist_lightning import experiment
from mnist_lightning import model as model_module
from mnist_lightning.data import MNISTDataModule
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.sampler import GlobalBatchSampler
from mnist_lightning.speed.adadelta import CompiledAdadelta
from mnist_lightning.speed.empty_hooks import STEP_HOOKS
from mnist_lightning.speed.warm_up import WarmUp, _each_size


def test_compiled_and_uncompiled_runs_agree(command):
    options = ["--trainer.max_epochs=1", "--trainer.precision=64-true"]
    for compiled in ("null", "false", "true"):
        assert command(*SMALL_FIT, *options, f"--model.compile={compiled}") == 0
    parts, nothing, whole = (RUNS / f"version_{n}" for n in range(3))
    for other in (nothing, whole):
        ours, theirs = weights(parts), weights(other)
        assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-12
        assert results(other)["val/accuracy"] == results(parts)["val/accuracy"]


def test_bf16_learns_as_fp32_does(command):
    assert command(*SMALL_FIT, "--trainer.max_epochs=3") == 0
    fast = ["--config", PROJECT / "configs" / "fast.yaml"]
    assert command("fit", *fast, "--trainer.accelerator=cpu", *SMALL, "--trainer.max_epochs=3") == 0
    exact, rounded = (scalars(RUNS / f"version_{n}")["val/accuracy"][-1][1] for n in range(2))
    summary = json.loads((RUNS / "version_1" / "summary.json").read_text())
    assert summary["machine"]["precision"] == "bf16-mixed"
    assert exact > 0.5
    assert rounded == pytest.approx(exact, abs=0.02)


def state_of(trainer: Trainer, module: MNISTClassifier) -> list[torch.Tensor]:
    optimizer = trainer.optimizers[0]
    return [
        *(parameter.detach().clone() for parameter in module.parameters()),
        *(value.clone() for state in optimizer.state.values() for value in state.values()),
        torch.get_rng_state(),
    ]


class Before(Callback):
    """Stands before the warm-up, with the optimiser in the state of a run that goes on."""

    def on_train_start(self, trainer, module):
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, 0.1)
        trainer.optimizers[0].step()
        trainer.optimizers[0].zero_grad()
        self.state = state_of(trainer, module)


class After(Callback):
    def on_train_start(self, trainer, module):
        self.state = state_of(trainer, module)
        self.gradients = [parameter.grad for parameter in module.parameters()]
        self.updates = [module.train_metrics["loss"].images, module.val_metrics["loss"].images]
        self.training = all(part.training for part in module.modules())


def fit(tmp_path: Path, *callbacks: Callback, validated_every: int = 1, **options) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        check_val_every_n_epoch=validated_every,
        limit_train_batches=2,
        callbacks=list(callbacks),
        default_root_dir=tmp_path,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    model = MNISTClassifier(channels=(4, 8), hidden=16, **options)
    trainer.fit(model, MNISTDataModule(source="sample", batch_size=480))
    return trainer


def test_a_warm_up_leaves_everything_as_it_was(tmp_path):
    before, warm_up, after = Before(), WarmUp(), After()
    fit(tmp_path, before, warm_up, after)
    assert len(before.state) == len(after.state) == 8 + 3 * 8 + 1
    assert all(torch.equal(a, b) for a, b in zip(after.state, before.state, strict=True))
    assert after.gradients == [None] * 8
    assert after.updates == [0, 0]
    assert after.training
    assert warm_up.seconds > 0


def test_a_validation_that_comes_later_is_warmed_up_too(tmp_path, monkeypatch):
    sizes = []

    class After(Callback):
        def on_train_start(self, trainer, module):
            assert sizes == [480] * 3 + [40] * 3
            assert trainer.training

    monkeypatch.setattr(MNISTClassifier, "validation_step", lambda self, batch, _: sizes.append(batch.size))
    fit(tmp_path, WarmUp(), After(), validated_every=2, compile=False)
    assert len(sizes) == 6  # the one epoch has no validation


def test_a_fresh_optimiser_is_fresh_after_the_warm_up(tmp_path):
    after = After()
    trainer = fit(tmp_path, WarmUp(), after)
    averages = after.state[8:-1]
    assert len(averages) == 24
    assert not any(value.any() for value in averages)
    assert isinstance(trainer.optimizers[0], CompiledAdadelta)
    assert {float(state["step"]) for state in trainer.optimizers[0].state.values()} == {2.0}


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


@pytest.mark.slow
def test_two_processes_warm_up_together(tmp_path):
    done = spawn(tmp_path, "fit", *SMALL, "--trainer.devices=2", "--trainer.accelerator=cpu", "--trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.rglob("summary.json")
    metrics = json.loads(summary.read_text())["metrics"]
    assert metrics["seconds/warm_up"] > 0
    assert metrics["seconds/fit"] > 0


def test_all_processes_warm_up_the_same_number_of_sizes():
    """4,000 images in batches of 6: the last batch has 4 images, of which three devices get 2, 1 and 1."""
    loader = MNISTDataModule(source="sample", batch_size=6)
    loader.setup("fit")
    shares = [
        [len(batch.rows) for batch in _each_size(SimpleNamespace(sampler=sampler, dataset=loader.train_digits))]
        for sampler in (GlobalBatchSampler(4000, 6, True, rank=rank, world_size=3) for rank in range(3))
    ]
    assert shares == [[2, 2], [2, 1], [2, 1]]


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
