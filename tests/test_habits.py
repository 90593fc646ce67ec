"""What users of Lightning are used to: its callbacks, profilers and loggers, a warm start, a network or images of one's own."""

import csv
import json
import logging
import runpy
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PROJECT, SMALL, spawn
from test_fit import same_weights, weights
from test_python import ONE, RUNS, make_trainer, small

from mnist_lightning import MNISTDataModule, commands
from mnist_lightning.data import Digits
from mnist_lightning.run_files import PROGRAM

OWN = PROJECT / "docs" / "own_network.py"
FIT = ["fit", *SMALL, "--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.limit_train_batches=1"]


def test_lightnings_own_callbacks_and_profilers_work(command, capsys, caplog):
    callbacks = [
        {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 1, "stopping_threshold": 9.0}},
        {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/accuracy", "mode": "max", "filename": "best"}},
        {"class_path": "Timer", "init_args": {"duration": "00:01:00:00"}},
    ]
    config = {"trainer": {"callbacks": callbacks, "profiler": "simple"}}
    Path("mine.yaml").write_text(yaml.safe_dump(config))
    with caplog.at_level(logging.INFO):
        assert command(*FIT, "--config=mine.yaml") == 0
    # The loss is below the threshold after the first epoch.
    assert "seed 0, 1 epoch " in capsys.readouterr().out
    assert "FIT Profiler Report" in caplog.text
    run = RUNS / "version_0"
    assert {path.name for path in run.glob("checkpoints/*")} == {"best.ckpt", "epoch=00.ckpt", "last.ckpt"}
    assert command("fit", "--config", run / "config.yaml") == 0
    assert same_weights(run, RUNS / "version_1")


def test_a_warm_start_has_other_settings(command):
    make_trainer(limit_train_batches=2).fit(*small())
    network, data = small(learning_rate=1e-9)[0], MNISTDataModule(source="sample", batch_size=240)
    network.load_state_dict(weights(RUNS / "version_0"))
    make_trainer(limit_train_batches=2).fit(network, data)
    before, after = weights(RUNS / "version_0"), weights(Path("logs/1xcpu-b0240-s0/version_0"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


class Negatives(MNISTDataModule):
    """The sample with dark digits on light ground."""

    def load(self) -> tuple[Digits, Digits]:
        train, test = super().load()
        return Digits(255 - train.images, train.labels), Digits(255 - test.images, test.labels)


def test_other_images_with_the_same_batches(command):
    make_trainer().fit(*small())
    make_trainer().fit(small()[0], Negatives(source="sample", batch_size=480))
    light, dark = (json.loads((RUNS / f"version_{n}" / "summary.json").read_text()) for n in (0, 1))
    assert light["data_fingerprint"] != dark["data_fingerprint"]
    assert not same_weights(RUNS / "version_0", RUNS / "version_1")
    # A run goes on with its own images only.
    last = RUNS / "version_1" / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match="other images"):
        make_trainer(max_epochs=2, last=last).fit(*small())
    make_trainer(max_epochs=2, last=last).fit(small()[0], Negatives(source="sample", batch_size=480))
    assert json.loads((RUNS / "version_1" / "summary.json").read_text())["epochs"] == 2


@pytest.mark.slow
def test_another_network_has_its_clock_its_record_its_study_and_its_report(command, monkeypatch, capsys):
    perceptron, program = runpy.run_path(str(OWN))["Perceptron"], list(PROGRAM)

    def run(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(OWN), *args])
        try:
            assert commands.main(model=perceptron) == 0
        finally:
            PROGRAM[:] = program
        return capsys.readouterr().out

    study = ["study", "--name=own", f"--setups=[{PROJECT}/configs/1xcpu.yaml]", "--batch_sizes=[480]", "--retry=0"]
    study += [f"--fit={json.dumps({'data.source': 'sample', 'trainer.max_epochs': 1})}"]
    assert "[1/1] 1xcpu, batch size 480, seed 0: " in run(*study)
    assert "finished before" in run(*study)
    own = Path("logs/own/1xcpu-b0480-s0/version_0")
    shapes = {"dense1.weight": (64, 784), "dense1.bias": (64,), "dense2.weight": (10, 64), "dense2.bias": (10,)}
    assert {name: tuple(each.shape) for name, each in weights(own).items()} == shapes
    summary = json.loads((own / "summary.json").read_text())
    assert (summary["network"], summary["parameters"]) == ("Perceptron", 64 * 785 + 10 * 65)
    assert summary["command"].startswith(f"python {OWN} fit --config ")
    # A run of the paper's network beside it is another column.
    assert command("fit", *SMALL, *ONE) == 0
    assert "of 2 runs" in run("report")
    text = Path("report/report.md").read_text()
    assert "| MNISTClassifier | 1xcpu, fp32 | 480 |" in text and "| Perceptron | 1xcpu, fp32 | 480 |" in text


def test_a_csv_beside_a_whole_run(command, capsys):
    assert command(*FIT, "--trainer.logger=CSVLogger") == 0
    assert "tensorboard --logdir" not in capsys.readouterr().out
    run = RUNS / "version_0"
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"val/accuracy", "seconds/epoch", "images_per_second", "seconds/fit"} <= set(rows[0])
    accuracies = [float(row["val/accuracy"]) for row in rows if row["val/accuracy"]]
    summary = json.loads((run / "summary.json").read_text())
    assert accuracies == pytest.approx(summary["by_epoch"]["val/accuracy"]) and summary["steps"] == 2
    assert (run / "checkpoints" / "last.ckpt").exists() and not list(run.glob("events*"))


@pytest.mark.parametrize(
    ("package", "logger", "left"),
    [
        ("wandb", ["WandbLogger", "offline=true"], "logs/wandb/offline-run-*/*.wandb"),
        ("mlflow", ["MLFlowLogger", "tracking_uri=sqlite:///mlflow.db"], "mlflow.db"),
    ],
)
def test_loggers_that_keep_no_folders_write_beside_tensorboards(tmp_path, package, logger, left):
    pytest.importorskip(package, reason=f"the package {package} is not installed")
    options = [f"--trainer.logger={logger[0]}", f"--trainer.logger.{logger[1]}"]
    done = spawn(tmp_path, *FIT, *options, WANDB_SILENT="true", WANDB_MODE="offline")
    assert done.returncode == 0 and "Test accuracy" in done.stdout, done.stderr
    assert json.loads((tmp_path / RUNS / "version_0" / "summary.json").read_text())["epochs"] == 2
    assert len(list(tmp_path.glob(left))) == 1 and len(list((tmp_path / RUNS / "version_0").glob("events*"))) == 1
