"""What the warm-up does, and that it leaves no trace."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import SMALL, spawn
from lightning.pytorch import Callback, Trainer

from mnist_lightning.data import MNISTDataModule
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.sampler import GlobalBatchSampler
from mnist_lightning.speed.adadelta import CompiledAdadelta
from mnist_lightning.speed.warm_up import WarmUp, _each_size


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
