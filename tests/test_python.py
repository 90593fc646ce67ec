"""The same run from Python as from the command line."""

import errno
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import PROJECT, SMALL
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from test_fit import results, same_weights, summary_in

from mnist_lightning import MNISTClassifier, MNISTDataModule, experiment
from mnist_lightning.data import Digits
from mnist_lightning.errors import SettingError

RUNS = Path("logs/1xcpu-b0480-s0")
ONE = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu"]


def small(**model: object) -> tuple[MNISTClassifier, MNISTDataModule]:
    """As the command line makes them of SMALL."""
    network = MNISTClassifier(**{"channels": (8, 16), "hidden": 16, **model})
    return network, MNISTDataModule(source="sample", batch_size=480)


def make_trainer(*callbacks: Callback, last: Path | None = None, **changes: object) -> Trainer:
    settings = experiment.trainer_settings(accelerator="cpu", **{"max_epochs": 1, **changes})
    trainer = Trainer(**settings, callbacks=[*callbacks, *experiment.callbacks()])
    trainer.ckpt_path = last
    return trainer


def shape(value: object) -> object:
    """A summary's names, without its numbers."""
    return {name: shape(each) for name, each in value.items()} if isinstance(value, dict) else type(value)


def files() -> dict[Path, int]:
    paths = (path for path in Path().rglob("*") if path.is_file() and path.suffix != ".lock" and path.name != ".lock")
    return {path: path.stat().st_mtime_ns for path in paths}


def test_the_readmes_lines_make_the_run_that_fit_makes(command, capsys):
    assert command("fit", *SMALL, *ONE) == 0
    (lines,) = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    lines = lines.replace("MNISTClassifier()", "MNISTClassifier(channels=(8, 16), hidden=16)")
    lines = lines.replace("MNISTDataModule()", "MNISTDataModule(source='sample', batch_size=480)")
    Path("lines.py").write_text(lines)
    runpy.run_path("lines.py")
    typed, called = RUNS / "version_0", RUNS / "version_1"
    assert same_weights(typed, called) and results(typed) == results(called)
    kinds = [{path.name.split(".")[0] for path in run.iterdir()} - {""} for run in (typed, called)]
    assert kinds[0] == kinds[1] == {"checkpoints", "config", "events", "hparams", "summary"}
    summaries = [summary_in(run) for run in (typed, called)]
    assert shape(summaries[0]) == shape(summaries[1])
    assert capsys.readouterr().out.count("Training time") == 2
    # Its config makes the same run on the command line.
    assert command("fit", "--config", called / "config.yaml") == 0
    assert same_weights(RUNS / "version_2", called)


def test_a_run_from_python_goes_on_in_its_folder(command):
    make_trainer(max_epochs=2).fit(*small())
    make_trainer().fit(*small())
    whole, resumed = RUNS / "version_0", RUNS / "version_1"
    make_trainer(max_epochs=2, last=resumed / "checkpoints" / "last.ckpt").fit(*small())
    assert sorted(path.name for path in RUNS.glob("version_*")) == ["version_0", "version_1"]
    assert same_weights(whole, resumed) and results(whole) == results(resumed)
    assert yaml.safe_load((resumed / "config.yaml").read_text())["trainer"]["max_epochs"] == 2
    assert summary_in(resumed)["resumed"]


def test_a_trainer_makes_one_run_and_nothing_that_is_refused_changes_it(command):
    callbacks, trained = experiment.callbacks(), small()[0]
    trainer = Trainer(**experiment.trainer_settings(max_epochs=1, accelerator="cpu"), callbacks=callbacks)
    trainer.fit(trained, small()[1])
    before, last = files(), RUNS / "version_0" / "checkpoints" / "last.ckpt"
    again = Trainer(**experiment.trainer_settings(max_epochs=2, accelerator="cpu"), callbacks=callbacks)
    floats = MNISTDataModule(source="sample", batch_size=480)
    floats.load = lambda: [Digits(digits.images / 255, digits.labels) for digits in MNISTDataModule.load(floats)]
    other = small()[1]
    other.setup("fit")
    for made, given, words in (
        (trainer, small(), "trained before"),
        (again, small(), "trained before"),
        (make_trainer(), (trained, small()[1]), "trained before"),
        (make_trainer(), small(seed=3), "seed"),
        (make_trainer(), (small()[0], floats), "uint8"),
        (make_trainer(), (small()[0], other.train_dataloader()), "data module"),
        (make_trainer(overfit_batches=2), small(), "trainer.overfit_batches"),
        (make_trainer(val_check_interval=0.5), small(), "trainer.val_check_interval"),
        (make_trainer(max_steps=3), small(), "trainer.max_steps"),
        (make_trainer(limit_train_batches=0), small(), "limit_train_batches"),
        (make_trainer(max_epochs=2, last=last), small(dropout=(0, 0)), "model.dropout"),
        (make_trainer(max_epochs=2, last=last), small(hidden=32), "model.hidden"),
        (make_trainer(max_epochs=2, last=last, gradient_clip_val=1.0), small(), "trainer.gradient_clip_val"),
    ):
        with pytest.raises(SettingError, match=words):
            made.fit(*given)
        assert files() == before, words
    with pytest.raises(SettingError, match="data.source"):
        MNISTDataModule(source="Sample")


@pytest.mark.parametrize("plain", [True, False])
def test_numbers_of_numpy_and_paths_make_a_checkpoint_that_is_data(command, plain):
    rate = np.logspace(-1, 0, 3)[0]
    network = MNISTClassifier(learning_rate=rate, hidden=np.int64(16), seed=np.int64(3), compile=False)
    data = MNISTDataModule(data_dir=Path("data"), batch_size=np.int64(480), source="sample", seed=np.int64(3))
    limits = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1}
    trainer = Trainer(accelerator="cpu", **limits) if plain else make_trainer(**limits)
    trainer.fit(network, data)
    (path,) = (path for path in Path().rglob("*.ckpt") if not path.is_symlink())
    saved = torch.load(path, weights_only=True)
    assert saved["hyper_parameters"]["learning_rate"] == rate and saved["hyper_parameters"]["seed"] == 3
    assert saved["datamodule_hyper_parameters"]["data_dir"] == "data"


def test_one_logger_may_be_given_without_a_list(command):
    settings = experiment.trainer_settings(max_epochs=1, accelerator="cpu", limit_train_batches=1)
    Trainer(**settings, callbacks=experiment.callbacks(CSVLogger("logs"))).fit(*small())
    (metrics,) = Path("logs").rglob("metrics.csv")
    assert "val/accuracy" in metrics.read_text() and (metrics.parent / "summary.json").exists()


def test_an_evaluation_before_the_fit_leaves_the_checkpoints_where_they_belong(command):
    trainer, (network, data) = make_trainer(), small()
    trainer.validate(network, data, verbose=False)
    trainer.fit(network, data)
    assert (RUNS / "version_0" / "checkpoints" / "last.ckpt").exists() and not Path("checkpoints").exists()


def test_signals_are_given_back(command):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        make_trainer().fit(*small())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_fit_that_fails_in_its_first_epoch_leaves_nothing(command):
    class Fails(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        make_trainer(Fails()).fit(*small())
    assert os.listdir() == []


@pytest.mark.slow
def test_a_closed_stderr_does_not_break_a_fit(tmp_path):
    words = [sys.executable, "-m", "mnist_lightning", "fit", *SMALL, *ONE, "--trainer.limit_train_batches=1"]
    shell = ["bash", "-c", '"$@" 2>&-', "bash", *words]
    done = subprocess.run(shell, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "Test accuracy" in done.stdout
    # One batch of a command line is one batch, and not all of them, which 1.0 would be.
    assert summary_in(tmp_path / RUNS / "version_0")["steps"] == 1


@pytest.mark.parametrize("size", ["4k", "64k"])
def test_a_disk_that_is_full_at_the_start_is_told_with_a_path(command, tmp_path, capfd, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", disk], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        assert command("fit", *SMALL, *ONE, f"--trainer.logger.init_args.save_dir={disk}/logs") == 1
        said = capfd.readouterr().err
        assert "Traceback" not in said and os.strerror(errno.ENOSPC) in said and f"{disk}/logs" in said
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
