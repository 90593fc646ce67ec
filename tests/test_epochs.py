"""The last numbers of a run belong to its last weights, every epoch has its checkpoint, and nothing else is a run."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import SMALL
from test_fit import RUNS, scalars

from mnist_lightning.errors import SettingError
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.runs import epochs
from mnist_lightning.runs.epochs import WholeEpochs
from mnist_lightning.views.progress import FitProgress

FIT = ["fit", *SMALL, "--trainer.accelerator=cpu", "--model.compile=false", "--trainer.limit_train_batches=2"]
LAST = RUNS / "version_0" / "checkpoints" / "last.ckpt"


def in_epoch(monkeypatch, epoch: int, hook: str, then) -> None:
    """Does something in a hook of the model in one epoch, counted from 0."""
    usual = getattr(MNISTClassifier, hook)
    monkeypatch.setattr(
        MNISTClassifier,
        hook,
        lambda self, *args: (then if self.trainer.current_epoch == epoch else lambda x: x)(usual(self, *args)),
    )


def test_every_epoch_is_saved_and_the_last_one_validated(command, monkeypatch, capsys):
    def die(_):
        raise KeyError("killed by the test")

    run = ["--trainer.check_val_every_n_epoch=3", "--trainer.max_epochs=5"]
    with monkeypatch.context() as patched:
        in_epoch(patched, 1, "training_step", die)
        assert command(*FIT, *run) == 1
    # An epoch without validation has its checkpoint, and training goes on from it.
    assert torch.load(LAST, weights_only=True)["epoch"] == 0
    assert command(*FIT, *run, "--ckpt_path", LAST) == 0
    said = capsys.readouterr()
    assert "epoch 2/5: val accuracy —" in said.err and "epoch 4/5: val accuracy —" in said.err

    summary = json.loads((RUNS / "version_0" / "summary.json").read_text())
    validated = summary["by_epoch"]["val/accuracy"]
    assert [value is None for value in validated] == [True, True, False, True, False]
    assert summary["metrics"]["val/accuracy"] == validated[4] != validated[2]
    assert [step for step, _ in scalars(RUNS / "version_0")["val/loss"]] == [3, 5]
    assert torch.load(LAST, weights_only=True)["epoch"] == 4
    assert command("validate", "--data.source=sample", "--ckpt_path", LAST) == 0
    assert f"val/accuracy  {validated[4]:.5f}" in capsys.readouterr().out


def test_a_run_that_diverges_keeps_its_last_good_epoch_and_has_no_summary(command, monkeypatch, capsys):
    in_epoch(monkeypatch, 1, "training_step", lambda loss: loss * torch.nan)
    assert command(*FIT, "--trainer.max_epochs=3") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: train/loss of epoch 2 is nan with a learning rate of 1: give a smaller one. "
        f"The checkpoint before it is {LAST}."
    )
    saved = torch.load(LAST, weights_only=True)
    assert saved["epoch"] == 0 and all(tensor.isfinite().all() for tensor in saved["state_dict"].values())
    assert not (RUNS / "version_0" / "summary.json").exists()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (
            "--model.learning_rate=1e400",
            "train/loss of epoch 1 is nan with a learning rate of inf: give a smaller one.",
        ),
        (
            "--trainer.max_time=00:00:00:00",
            "Nothing was trained, since trainer.max_time or a callback told the fit to stop before its first epoch",
        ),
        ("--trainer.max_steps=3", "trainer.max_steps is 3, but an epoch has 2 steps"),
    ],
)
def test_what_trains_nothing_or_nothing_whole_leaves_nothing(command, capsys, setting, says):
    assert command(*FIT, setting) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert says in error and error.startswith("error: ")
    assert os.listdir() == []


def fake_trainer(**settings: object) -> SimpleNamespace:
    loop = SimpleNamespace(max_epochs=None, epoch_loop=SimpleNamespace(max_steps=None))
    usual = {"limit_train_batches": 1.0, "accumulate_grad_batches": 1, "max_epochs": -1, "callbacks": []}
    return SimpleNamespace(fit_loop=loop, **{**usual, **settings})


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({"max_steps": 27}, 3),
        ({"max_steps": 27, "max_epochs": 2}, 2),
        ({"max_steps": 18, "max_epochs": 10}, 2),
        ({"max_steps": 10, "accumulate_grad_batches": 2}, 2),  # five steps for nine batches
        ({"max_steps": 8, "limit_train_batches": 0.5}, 2),
        ({"max_steps": 8, "limit_train_batches": 100}, None),
        ({"max_steps": 1}, None),
    ],
)
def test_steps_are_counted_in_whole_epochs(monkeypatch, settings, trained):
    loader = SimpleNamespace(train_dataloader=lambda: range(9))
    monkeypatch.setattr(epochs, "data_module", lambda trainer: loader)
    trainer = fake_trainer(**settings)
    if trained is None:
        with pytest.raises(SettingError, match="but an epoch has 9 steps"):
            WholeEpochs().setup(trainer, None, "fit")
    else:
        WholeEpochs().setup(trainer, None, "fit")
        assert (trainer.fit_loop.max_epochs, trainer.fit_loop.epoch_loop.max_steps) == (trained, -1)


def test_a_callback_that_stops_in_mid_epoch_ends_the_run_without_a_checkpoint():
    trainer = SimpleNamespace(current_epoch=3, max_epochs=9, check_val_every_n_epoch=2, global_step=40)
    trainer.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(is_last_batch=False)))
    whole = WholeEpochs()
    whole.on_train_epoch_start(trainer, None)
    with pytest.raises(SettingError, match="Epoch 4 was cut short at step 40"):
        whole.on_train_epoch_end(trainer, None)
    assert trainer.check_val_every_n_epoch == 2


TIMER = "--trainer.callbacks+=lightning.pytorch.callbacks.Timer"


@pytest.mark.parametrize(
    "second",
    [
        ["--trainer.max_time=00:00:00:01"],
        pytest.param([TIMER, "--trainer.callbacks.duration=00:00:00:01"], marks=pytest.mark.slow),
    ],
)
def test_max_time_ends_with_an_epoch(command, capsys, second):
    """A second is over within an epoch, which is trained to its end."""
    assert command(*FIT, *second, "--trainer.max_epochs=999") == 0
    run = RUNS / "version_0"
    summary, config = (json.loads((run / "summary.json").read_text()), (run / "config.yaml").read_bytes())
    saved = torch.load(LAST, weights_only=True)
    assert summary["steps"] == 2 * summary["epochs"] == saved["global_step"] < 2 * 999
    assert summary["by_epoch"]["val/accuracy"][-1] == summary["metrics"]["val/accuracy"]

    # A run that has finished says why it does not go on, and stays what it is.
    go_on = ["fit", "--config", run / "config.yaml", "--ckpt_path", LAST]
    assert command(*go_on, "--trainer.max_epochs=998") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: The time that trainer.max_time or a Timer gives is over, since the ")
    assert " seconds that the checkpoint has trained count: give more. Go on with " in said
    assert json.loads((run / "summary.json").read_text()) == summary
    assert (run / "config.yaml").read_bytes() == config
    # One that was lost after its last checkpoint gets its summary, as with max_epochs.
    (run / "summary.json").unlink()
    assert command(*go_on) == 0
    again = json.loads((run / "summary.json").read_text())
    for name in ("epochs", "steps", "by_epoch"):
        assert again[name] == summary[name]


def test_the_end_of_an_epoch_is_told_when_its_checkpoint_is_there(capsys):
    progress, trainer = FitProgress(), SimpleNamespace(current_epoch=0, max_epochs=2, callback_metrics={})
    progress.on_train_epoch_start(trainer, None)
    trainer.callback_metrics["val/accuracy"] = 0.5
    progress.on_validation_end(trainer, None)
    progress.on_train_epoch_end(trainer, None)
    assert capsys.readouterr().err == ""  # the checkpoint comes after all other callbacks
    trainer.current_epoch = 1
    progress.on_train_epoch_start(trainer, None)
    progress.on_train_epoch_end(trainer, None)
    assert capsys.readouterr().err == "epoch 1/2: val accuracy 0.5000\n"
    progress.on_train_end(trainer, None)
    assert capsys.readouterr().err == "epoch 2/2: val accuracy —\n"


def test_the_last_checkpoint_is_never_one_that_training_cannot_go_on_from(command):
    own = ["ModelCheckpoint", "every_n_train_steps=1", "save_top_k=-1", "filename={step}"]
    callback = [
        f"--trainer.callbacks+=lightning.pytorch.callbacks.{own[0]}",
        *(f"--trainer.callbacks.{each}" for each in own[1:]),
    ]
    assert command(*FIT, "--trainer.max_epochs=1", *callback) == 0
    assert {path.name for path in LAST.parent.iterdir()} == {"step=1.ckpt", "step=2.ckpt", "epoch=00.ckpt", "last.ckpt"}
    assert Path(os.readlink(LAST)).name == "epoch=00.ckpt"
    assert command("fit", "--data.source=sample", "--ckpt_path", LAST.with_name("step=1.ckpt")) == 2
