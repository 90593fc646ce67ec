"""Runs that are made again, and runs that go on from their checkpoint."""

import json
import os
import shutil
from pathlib import Path

import torch
import yaml
from test_fit import QUICK_FIT, RUNS, SMALL_FIT, results, same_weights, scalars

from mnist_lightning.durability.locks import held
from mnist_lightning.runs.record import RunRecord


def test_config_reruns_bit_for_bit_and_resume_ends_the_same(command):
    assert command(*SMALL_FIT, "--trainer.max_epochs=3", "--seed_everything=7") == 0
    runs = RUNS.with_name("seed=7")
    whole, rerun, resumed = (runs / f"version_{n}" for n in range(3))

    assert command("fit", "--config", whole / "config.yaml") == 0
    assert results(rerun) == results(whole)
    assert same_weights(rerun, whole)

    assert command("fit", "--config", whole / "config.yaml", "--trainer.max_epochs=1") == 0
    assert not same_weights(resumed, whole)
    before = scalars(resumed)["seconds/fit"][0][1]
    last = resumed / "checkpoints" / "last.ckpt"
    assert command("fit", "--config", resumed / "config.yaml", "--ckpt_path", last, "--trainer.max_epochs=3") == 0
    assert sorted(os.listdir(runs)) == ["version_0", "version_1", "version_2"]
    assert results(resumed) == results(whole)
    assert same_weights(resumed, whole)
    curves = scalars(resumed)
    assert len(curves["seconds/epoch"]) == 3
    assert before + sum(value for _, value in curves["seconds/epoch"][1:]) <= curves["seconds/fit"][-1][1]
    # The config in the folder is that of the run as it ended, and names no checkpoint: it makes a new run.
    config = yaml.safe_load((resumed / "config.yaml").read_text())
    assert (config["trainer"]["max_epochs"], config["ckpt_path"]) == (3, None)
    assert config == yaml.safe_load((whole / "config.yaml").read_text())

    # To resume a finished run trains nothing and loses nothing.
    finished = json.loads((resumed / "summary.json").read_text())
    assert command("fit", "--config", resumed / "config.yaml", "--ckpt_path", last) == 0
    again = json.loads((resumed / "summary.json").read_text())
    assert {name: again[name] for name in ("metrics", "by_epoch", "epochs", "steps")} == {
        name: finished[name] for name in ("metrics", "by_epoch", "epochs", "steps")
    }
    assert results(resumed) == results(whole)


def test_a_killed_epoch_is_trained_again_and_counted_once(command, monkeypatch):
    """A run that dies in its second epoch has written points that its resumption writes again."""
    from mnist_lightning.model import MNISTClassifier

    assert command(*QUICK_FIT, "--trainer.max_epochs=3") == 0
    whole, killed = RUNS / "version_0", RUNS / "version_1"
    assert command("fit", "--config", whole / "config.yaml", "--trainer.max_epochs=1") == 0
    assert (killed / "summary.json").exists()

    def die(self):
        if self.current_epoch == 1:
            raise RuntimeError("killed by the test")
        end_epoch(self)

    end_epoch = MNISTClassifier.on_train_epoch_end
    with monkeypatch.context() as patched:
        patched.setattr(MNISTClassifier, "on_train_epoch_end", die)
        assert command("fit", "--ckpt_path", killed / "checkpoints/last.ckpt", "--trainer.max_epochs=3") == 1
    # It has not gone further than its checkpoint, whose summary tells the truth.
    assert json.loads((killed / "summary.json").read_text())["epochs"] == 1
    assert len(scalars(killed)["val/loss"]) == 2

    assert command("fit", "--config", killed / "config.yaml", "--ckpt_path", killed / "checkpoints/last.ckpt") == 0
    assert [step for step, _ in scalars(killed)["val/loss"]] == [1, 2, 3]
    assert same_weights(killed, whole)
    assert (killed / "summary.json").exists()


def test_a_moved_run_goes_on_and_last_is_the_newest(command):
    assert command(*QUICK_FIT, "--trainer.max_epochs=1") == 0
    moved = (RUNS / "version_0").rename("moved")
    last = moved / "checkpoints" / "last.ckpt"
    for folder in (moved, moved.absolute()):
        epochs = torch.load(last, weights_only=True)["epoch"] + 2
        last = folder / "checkpoints" / "last.ckpt"
        longer = f"--trainer.max_epochs={epochs}"
        assert command("fit", "--config", folder / "config.yaml", "--ckpt_path", last, longer) == 0
        assert torch.load(last, weights_only=True)["epoch"] == epochs - 1
    assert not list(moved.glob("checkpoints/*-v*"))
    assert [step for step, _ in scalars(moved)["val/loss"]] == [1, 2, 3]


def test_a_rerun_sees_what_the_run_saw(command, monkeypatch):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    assert command(*QUICK_FIT, "--data.source=auto", "--trainer.max_epochs=1") == 0
    config = yaml.safe_load((RUNS / "version_0" / "config.yaml").read_text())
    assert config["data"]["source"] == "sample"


def test_a_resumed_run_keeps_what_shapes_its_numbers(command, capsys):
    """Without its config named, too: the defaults would train on all batches."""
    shaped = ["--trainer.limit_train_batches=2", "--trainer.gradient_clip_val=0.5"]
    assert command(*QUICK_FIT, "--trainer.max_epochs=1", *shaped) == 0
    run = RUNS / "version_0"
    last, summary = run / "checkpoints/last.ckpt", (run / "summary.json").read_bytes()
    config = (run / "config.yaml").read_bytes()
    for changed, before in (
        ("limit_train_batches=3", "with 2"),
        ("limit_val_batches=1", "with 1.0"),
        ("accumulate_grad_batches=2", "with 1"),
        ("gradient_clip_val=1.0", "with 0.5"),
        ("gradient_clip_algorithm=value", "without it"),
        ("check_val_every_n_epoch=2", "with 1"),
        ("callbacks+=lightning.pytorch.callbacks.WeightAveraging", "without it"),
    ):
        assert command("fit", "--ckpt_path", last, f"--trainer.{changed}", "--trainer.max_epochs=2") == 2
        name = changed.partition("=")[0].rstrip("+")
        said = capsys.readouterr().err
        assert (
            said.splitlines()[-1].startswith(f"error: trainer.{name} is ")
            and f"the checkpoint was trained {before}: " in said
        )
    for steps, says in (
        (1, "trainer.max_steps is 1, but the checkpoint has trained 2 steps: give that many or more."),
        (5, "trainer.max_steps is 5, but an epoch has 2 steps"),
    ):
        assert command("fit", "--ckpt_path", last, f"--trainer.max_steps={steps}", "--trainer.max_epochs=9") == 2
        assert says in capsys.readouterr().err.splitlines()[-1]
    assert (run / "summary.json").read_bytes() == summary and (run / "config.yaml").read_bytes() == config

    assert command("fit", "--ckpt_path", last, "--trainer.max_epochs=2") == 0
    assert json.loads((run / "summary.json").read_text())["steps"] == 4
    settings = yaml.safe_load((run / "config.yaml").read_text())["trainer"]
    assert (settings["limit_train_batches"], settings["gradient_clip_val"]) == (2, 0.5)
    assert os.listdir(RUNS) == ["version_0"]

    # A checkpoint without its folder holds its settings, and begins a run of its own.
    alone = Path(shutil.copy(last, "alone.ckpt"))
    assert command("fit", "--ckpt_path", alone, "--trainer.max_epochs=3") == 0
    assert json.loads((RUNS / "version_1" / "summary.json").read_text())["steps"] == 6


def test_a_csv_is_not_overwritten_by_a_resumed_run(command, capsys):
    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"]
    assert command(*QUICK_FIT, *logger, "--trainer.max_epochs=1") == 0
    run = RUNS / "version_0"
    written = (run / "metrics.csv").read_bytes()
    assert b"val/accuracy" in written
    assert "tensorboard" not in capsys.readouterr().out
    last = run / "checkpoints" / "last.ckpt"
    assert command("fit", "--config", run / "config.yaml", "--ckpt_path", last, "--trainer.max_epochs=2") == 2
    assert "trainer.logger CSVLogger would overwrite" in capsys.readouterr().err
    assert not json.loads((run / "summary.json").read_text())["resumed"]
    go_on = ["--ckpt_path", last, "--trainer.logger=TensorBoardLogger", "--trainer.max_epochs=2"]
    assert command("fit", *go_on) == 0
    assert (run / "metrics.csv").read_bytes() == written
    summary = json.loads((run / "summary.json").read_text())
    assert summary["resumed"] and summary["epochs"] == 2


def test_a_run_has_one_writer(command, capsys):
    assert command(*SMALL_FIT, "--trainer.max_epochs=1", "--trainer.limit_train_batches=2") == 0
    run = RUNS / "version_0"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with held(run) as free:
        assert free  # a fit that has ended leaves no lock, even if its process goes on
        assert command("fit", "--ckpt_path", run / "checkpoints/last.ckpt", "--trainer.max_epochs=2") == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"the folder of a run that process {os.getpid()} writes now" in said
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_callback_that_interrupts_says_how_to_go_on(command, monkeypatch, capsys):
    def interrupt(self, trainer, *_):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunRecord, "on_validation_end", interrupt)
    assert command(*SMALL_FIT, "--trainer.max_epochs=2", "--trainer.limit_train_batches=2") == 130
    assert "\nstopped by Ctrl-C. Go on with " in capsys.readouterr().err


def test_a_csv_run_that_is_stopped_says_how_it_goes_on(command, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(RunRecord, "on_validation_end", lambda self, trainer, *_: trainer.current_epoch and full())
    assert command(*QUICK_FIT, "--trainer.logger=CSVLogger", "--trainer.max_epochs=2") == 2
    last = RUNS / "version_0" / "checkpoints" / "last.ckpt"
    go_on = f"fit --ckpt_path {last} --trainer.logger=TensorBoardLogger"
    assert capsys.readouterr().err.strip().endswith(go_on)
