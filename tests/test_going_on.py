"""Runs that are made again, and runs that go on from their checkpoint."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from test_fit import RUNS, SMALL_FIT, results, same_weights, scalars, summary_in, weights

from mnist_lightning.run_files import lock_of
from mnist_lightning.runs.record import RunRecord


def test_config_reruns_bit_for_bit_and_resume_ends_the_same(command):
    assert command(*SMALL_FIT, "--trainer.max_epochs=3", "--seed_everything=7") == 0
    runs = RUNS.with_name("1xcpu-b0480-s7")
    whole, rerun, resumed = (runs / f"version_{n}" for n in range(3))

    assert command("fit", "--config", whole / "config.yaml") == 0
    assert results(rerun) == results(whole)
    assert same_weights(rerun, whole)

    assert command("fit", "--config", whole / "config.yaml", "--trainer.max_epochs=1") == 0
    assert not same_weights(resumed, whole)
    before = scalars(resumed)["seconds/fit"][0][1]
    last = resumed / "checkpoints" / "last.ckpt"
    assert command("fit", "--config", resumed / "config.yaml", "--ckpt_path", last, "--trainer.max_epochs=3") == 0
    assert sorted(path.name for path in runs.glob("version_*")) == ["version_0", "version_1", "version_2"]
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
    finished = summary_in(resumed)
    assert command("fit", "--config", resumed / "config.yaml", "--ckpt_path", last) == 0
    again = summary_in(resumed)
    assert {name: again[name] for name in ("metrics", "by_epoch", "epochs", "steps")} == {
        name: finished[name] for name in ("metrics", "by_epoch", "epochs", "steps")
    }
    assert results(resumed) == results(whole)


def test_a_killed_epoch_is_trained_again_and_counted_once(command, monkeypatch):
    """A run that dies in its second epoch has written points that its resumption writes again."""
    from mnist_lightning.model import MNISTClassifier

    assert command(*SMALL_FIT, "--trainer.max_epochs=3") == 0
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
    assert summary_in(killed)["epochs"] == 1
    assert len(scalars(killed)["val/loss"]) == 2

    assert command("fit", "--config", killed / "config.yaml", "--ckpt_path", killed / "checkpoints/last.ckpt") == 0
    assert [step for step, _ in scalars(killed)["val/loss"]] == [1, 2, 3]
    assert same_weights(killed, whole)
    assert (killed / "summary.json").exists()


def test_a_moved_run_goes_on_and_last_is_the_newest(command):
    assert command(*SMALL_FIT, "--trainer.max_epochs=1") == 0
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
    assert command(*SMALL_FIT, "--data.source=auto", "--trainer.max_epochs=1") == 0
    config = yaml.safe_load((RUNS / "version_0" / "config.yaml").read_text())
    assert config["data"]["source"] == "sample"


def test_a_checkpoint_without_its_folder_begins_a_run_of_its_own(command):
    assert command(*SMALL_FIT, "--trainer.max_epochs=1", "--seed_everything=7") == 0
    alone = Path(
        shutil.copy(RUNS.with_name("1xcpu-b0480-s7") / "version_0" / "checkpoints" / "last.ckpt", "alone.ckpt")
    )
    assert command("fit", "--ckpt_path", alone, "--data.source=sample", "--trainer.max_epochs=2") == 0
    summary = summary_in(RUNS.with_name("1xcpu-b0480-s7") / "version_1")
    assert (summary["epochs"], summary["batch_size"], summary["resumed"]) == (2, 480, True)


def test_a_csv_is_not_overwritten_by_a_resumed_run(command, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "no space left on device")

    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"]
    run = RUNS / "version_0"
    last = run / "checkpoints" / "last.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "on_validation_end", lambda self, trainer, *_: trainer.current_epoch and full())
        assert command(*SMALL_FIT, *logger, "--trainer.max_epochs=2") == 1
    go_on = f"fit --ckpt_path {last} --trainer.logger=TensorBoardLogger"
    assert capsys.readouterr().err.strip().endswith(go_on)
    written = (run / "metrics.csv").read_bytes()
    assert b"val/accuracy" in written
    assert command("fit", "--ckpt_path", last) == 2
    assert "trainer.logger" in capsys.readouterr().err.splitlines()[-1]
    assert command(*go_on.split()) == 0
    assert (run / "metrics.csv").read_bytes() == written
    summary = summary_in(run)
    assert summary["resumed"] and summary["epochs"] == 2


def test_a_run_has_one_writer(command, capsys):
    assert command(*SMALL_FIT, "--trainer.max_epochs=1", "--trainer.limit_train_batches=2") == 0
    run = RUNS / "version_0"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with lock_of(run):  # a fit that has ended leaves no lock, even if its process goes on
        assert command("fit", "--ckpt_path", run / "checkpoints/last.ckpt", "--trainer.max_epochs=2") == 2
        assert "ckpt_path" in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_callback_that_interrupts_says_how_to_go_on(command, monkeypatch, capsys):
    def interrupt(self, trainer, *_):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunRecord, "on_validation_end", interrupt)
    assert command(*SMALL_FIT, "--trainer.max_epochs=2", "--trainer.limit_train_batches=2") == 130
    said = capsys.readouterr().err
    assert "stopped by Ctrl-C" in said and f"--ckpt_path {RUNS}/version_0/checkpoints/last.ckpt" in said


DYING = """
import os
from mnist_lightning import commands
from mnist_lightning.durability.checkpoint_file import CheckpointFile
def save_and_die(files, checkpoint, path, save=CheckpointFile.save_checkpoint, **options):
    save(files, checkpoint, path, **options)
    if checkpoint["epoch"] == 1:
        os._exit(9)
CheckpointFile.save_checkpoint = save_and_die
commands.main()
"""


@pytest.mark.slow
def test_a_kill_right_after_a_checkpoint_loses_no_point(command, tmp_path):
    fit = [*SMALL_FIT, "--trainer.max_epochs=3"]
    assert command(*fit) == 0
    (tmp_path / "dying.py").write_text(DYING)
    assert subprocess.run([sys.executable, "dying.py", *fit], timeout=100, check=False).returncode == 9
    whole, broken = RUNS / "version_0", RUNS / "version_1"
    assert command("fit", "--ckpt_path", broken / "checkpoints" / "last.ckpt") == 0
    assert same_weights(whole, broken) and results(whole) == results(broken)
    for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy"):
        assert [step for step, _ in results(broken)[name]] == [1, 2, 3]


def test_a_flipped_byte_in_a_checkpoint_is_refused(command, capsys):
    assert command(*SMALL_FIT, "--trainer.max_epochs=1") == 0
    file = RUNS / "version_0" / "checkpoints" / "epoch=00.ckpt"
    whole, tensors = file.read_bytes(), weights(RUNS / "version_0")
    kept = {path: path.read_bytes() for path in RUNS.rglob("*") if path.is_file() and path.suffix != ".ckpt"}
    for name in ("conv1.weight", "dense1.weight", "dense2.bias"):
        content = tensors[name].numpy().tobytes()
        place = whole.index(content) + len(content) // 2
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert command("fit", "--ckpt_path", file, "--trainer.max_epochs=2") == 2
        assert "ckpt_path" in capsys.readouterr().err.splitlines()[-1]
        assert kept == {path: path.read_bytes() for path in kept} and len(list(file.parent.iterdir())) == 2
