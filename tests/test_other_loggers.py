"""Loggers other than TensorBoard's, by config alone."""

import csv
import json
from pathlib import Path

import pytest
from conftest import SMALL, spawn

FIT = ["fit", *SMALL, "--trainer.max_epochs=2", "--trainer.accelerator=cpu"]


def whole_run(folder: Path) -> Path:
    """The folder of the only run, which is as it should be."""
    (run,) = folder.glob("logs/1xcpu/batch_size=0480/seed=0/version_0")
    assert (run / "config.yaml").exists() and (run / "checkpoints" / "last.ckpt").exists()
    assert json.loads((run / "summary.json").read_text())["epochs"] == 2
    assert not list(folder.glob("lightning_logs")) and not (folder / "logs" / "config.yaml").exists()
    return run


def fit(folder: Path, *options: str, **environment: str) -> str:
    """What a fit with these options says."""
    done = spawn(folder, *FIT, *options, **environment)
    assert done.returncode == 0, done.stderr
    assert "Test accuracy" in done.stdout and "rerun" in done.stdout
    assert "TensorBoard" not in done.stderr and "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_csv(command, tmp_path, capsys):
    assert command(*FIT, "--trainer.logger=CSVLogger") == 0
    run, said = whole_run(tmp_path), capsys.readouterr()
    assert "Test accuracy" in said.out and "rerun" in said.out and "TensorBoard" not in said.err
    assert "tensorboard --logdir" not in said.out and not list(run.glob("events*"))
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"val/accuracy", "seconds/epoch", "images_per_second", "seconds/fit"} <= set(rows[0])
    accuracies = [float(row["val/accuracy"]) for row in rows if row["val/accuracy"]]
    summary = json.loads((run / "summary.json").read_text())
    assert accuracies == pytest.approx(summary["by_epoch"]["val/accuracy"])


def test_weights_and_biases_offline(tmp_path):
    pytest.importorskip("wandb", reason="the package wandb is not installed")
    offline = ["--trainer.logger=WandbLogger", "--trainer.logger.offline=true"]
    fit(tmp_path, *offline, WANDB_SILENT="true", WANDB_MODE="offline")
    run = whole_run(tmp_path)
    assert len(list(run.glob("events*"))) == 1
    assert len(list(tmp_path.glob("logs/wandb/offline-run-*/*.wandb"))) == 1


def test_mlflow(tmp_path):
    pytest.importorskip("mlflow", reason="the package mlflow is not installed")
    fit(tmp_path, "--trainer.logger=MLFlowLogger", "--trainer.logger.tracking_uri=sqlite:///mlflow.db")
    whole_run(tmp_path)
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    (row,) = mlflow.search_runs(search_all_experiments=True).to_dict("records")
    assert row["tags.mlflow.runName"] == "1xcpu/batch_size=0480/seed=0"
    assert 0 < row["metrics.val/accuracy"] < 1 and row["metrics.seconds/fit"] > 0
