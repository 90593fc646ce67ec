"""The warm-up leaves no trace."""

import json

import pytest
import torch
from conftest import SMALL, spawn
from lightning.pytorch import Callback, Trainer

from mnist_lightning.data import MNISTDataModule
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.speed.adadelta import OnePassAdadelta
from mnist_lightning.speed.warm_up import WarmUp

LAST = {"training": 160, "validation": 40}  # images in the last batch of the 4,000 or 1,000; all others have 480


class Seen(Callback):
    """Keeps what a warm-up must not change, when training starts."""

    def on_train_start(self, trainer, module):
        averages = [value for state in trainer.optimizers[0].state.values() for value in state.values()]
        self.numbers = [each.clone() for each in (*module.state_dict().values(), *averages, torch.get_rng_state())]
        self.gradients = {parameter.grad for parameter in module.parameters()}
        self.updates = [module.train_metrics["loss"].images, module.val_metrics["loss"].images]
        self.modes = {part.training for part in module.modules()}, trainer.training


class GoesOn(Seen):
    """Gives the optimiser the state of a run that goes on."""

    def on_train_start(self, trainer, module):
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, 0.1)
        trainer.optimizers[0].step()
        trainer.optimizers[0].zero_grad()
        super().on_train_start(trainer, module)


def fit(*callbacks: Callback, validated_every=1, **options) -> Trainer:
    shows = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    how = {"check_val_every_n_epoch": validated_every, "limit_train_batches": 2, "num_sanity_val_steps": 0}
    trainer = Trainer(accelerator="cpu", max_epochs=1, callbacks=list(callbacks), **how, **shows)
    model = MNISTClassifier(channels=(8, 16), hidden=16, **options)
    trainer.fit(model, MNISTDataModule(source="sample", batch_size=480))
    return trainer


def test_everything_is_as_it_was():
    before, warm_up, after = GoesOn(), WarmUp(), Seen()
    fit(before, warm_up, after)
    assert len(before.numbers) == len(after.numbers) > 8 + 3 * 8
    assert all(torch.equal(a, b) for a, b in zip(after.numbers, before.numbers, strict=True))
    assert (after.gradients, after.updates, after.modes) == ({None}, [0, 0], ({True}, True))
    assert warm_up.seconds > 0


def test_a_fresh_optimiser_is_fresh_after_the_warm_up():
    after = Seen()
    trainer = fit(WarmUp(), after)
    assert not any(value.any() for value in after.numbers[-25:-1])  # three averages for each of eight parameters
    assert isinstance(trainer.optimizers[0], OnePassAdadelta)
    assert {float(state["step"]) for state in trainer.optimizers[0].state.values()} == {2.0}


def test_both_sizes_of_a_batch_are_warmed_up_also_of_a_later_validation(monkeypatch):
    sizes = {name: [] for name in LAST}
    for name, seen in sizes.items():
        step = getattr(MNISTClassifier, f"{name}_step")

        def noted(self, batch, number, seen=seen, step=step):
            seen.append((batch.size, bool(batch.images.any())))
            return step(self, batch, number)

        monkeypatch.setattr(MNISTClassifier, f"{name}_step", noted)

    class Start(Callback):
        def on_train_start(self, trainer, module):
            black = {name: [(size, False) for size in (480, 480, 480, *[last] * 3)] for name, last in LAST.items()}
            assert sizes == black
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(WarmUp(), Start(), validated_every=2, compile=False)


@pytest.mark.slow
def test_processes_with_other_shares_of_the_last_batch_warm_up_together(tmp_path):
    """The last batch of 136 images has 46, 45 and 45 for three processes, and every other batch 46 for each."""
    three = ["--trainer.devices=3", "--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--data.batch_size=138"]
    done = spawn(tmp_path, "fit", *SMALL, *three)
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.rglob("summary.json")
    assert json.loads(summary.read_text())["metrics"]["seconds/warm_up"] > 0
