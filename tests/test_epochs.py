"""The last numbers of a run belong to its last weights, every epoch has its checkpoint, and nothing else is a run."""

import os
from pathlib import Path

import torch
from conftest import SMALL
from test_fit import RUNS, scalars, summary_in

from mnist_lightning.model import MNISTClassifier

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
    summary = summary_in(RUNS / "version_0")
    validated = summary["by_epoch"]["val/accuracy"]
    assert [value is None for value in validated] == [True, True, False, True, False]
    assert summary["metrics"]["val/accuracy"] == validated[4] != validated[2]
    assert [step for step, _ in scalars(RUNS / "version_0")["val/loss"]] == [3, 5]
    assert torch.load(LAST, weights_only=True)["epoch"] == 4
    capsys.readouterr()
    assert command("validate", "--data.source=sample", "--ckpt_path", LAST) == 0
    assert f"val/accuracy  {validated[4]:.5f}" in capsys.readouterr().out


def test_a_run_that_diverges_keeps_its_last_good_epoch_and_has_no_summary(command, monkeypatch, capsys):
    in_epoch(monkeypatch, 1, "training_step", lambda loss: loss * torch.nan)
    assert command(*FIT, "--trainer.max_epochs=3") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: train/loss of epoch 2 is nan") and str(LAST) in last
    saved = torch.load(LAST, weights_only=True)
    assert saved["epoch"] == 0 and all(tensor.isfinite().all() for tensor in saved["state_dict"].values())
    assert not (RUNS / "version_0" / "summary.json").exists()


def test_a_run_that_diverges_in_its_first_epoch_leaves_nothing(command, capsys):
    assert command(*FIT, "--model.learning_rate=1e38") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "learning_rate" in error
    assert os.listdir() == []


def test_a_callback_that_stops_in_mid_epoch_ends_the_run_without_a_checkpoint(command, monkeypatch, capsys):
    def stop(self, *_):
        self.trainer.should_stop = True

    monkeypatch.setattr(MNISTClassifier, "on_train_batch_end", stop)
    assert command(*FIT, "--trainer.max_epochs=2") == 2
    assert "cut short" in capsys.readouterr().err.splitlines()[-1]
    assert os.listdir() == []


def test_max_time_ends_with_an_epoch(command):
    """A second is over within an epoch, which is trained to its end."""
    assert command(*FIT, "--trainer.max_time=00:00:00:01", "--trainer.max_epochs=999") == 0
    run = RUNS / "version_0"
    summary, saved = summary_in(run), torch.load(LAST, weights_only=True)
    assert summary["steps"] == 2 * summary["epochs"] == saved["global_step"] < 2 * 999
    assert summary["by_epoch"]["val/accuracy"][-1] == summary["metrics"]["val/accuracy"]
    # A run that has finished stays what it is when it goes on without more time.
    assert command("fit", "--ckpt_path", LAST) == 0
    assert summary_in(run) == summary
    # One that was lost after its last checkpoint gets its summary.
    (run / "summary.json").unlink()
    assert command("fit", "--ckpt_path", LAST) == 0
    again = summary_in(run)
    for name in ("epochs", "steps", "by_epoch"):
        assert again[name] == summary[name]


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


def test_one_batch_is_not_all_batches(command):
    """Python's cache of types may give the parser `float | int` for `int | float`, and 1.0 is a share."""
    assert command(*FIT, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1") == 0
    assert summary_in(RUNS / "version_0")["steps"] == 1
