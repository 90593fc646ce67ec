"""Two and three processes on the CPU against one: the same experiment."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import PROJECT, QUICK, SMALL, noise, spawn
from test_fit import results, same_weights, scalars, weights

RUN = "{}xcpu/batch_size={:04d}/seed=0/version_{}"
# 4,000 images in batches of 192: 21 steps, the last one of 160 images, 80 a device.
DOUBLE = [*QUICK, "--data.batch_size=192", "--trainer.precision=64-true", "--trainer.max_epochs=1"]
TWO = ["--config", PROJECT / "configs" / "2xcpu.yaml"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where one epoch was trained in double precision on two devices."""
    folder = tmp_path_factory.mktemp("two")
    done = spawn(folder, "fit", *TWO, *DOUBLE, "--step_parts=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Training time") == 1
    assert noise(done.stderr) == [], done.stderr
    assert done.stdout.count("2xcpu, batch size 192, seed 0, 1 epoch ") == 1
    (summary,) = folder.rglob("summary.json")
    spent = json.loads(summary.read_text())["step_seconds"]
    assert 0 < spent["exchange"] < sum(spent.values())
    return folder


def run(folder: Path, devices: int, batch_size: int, version: int = 0) -> Path:
    return folder / "logs" / RUN.format(devices, batch_size, version)


def test_weights_are_those_of_one_device(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    assert command("fit", "--config", PROJECT / "configs" / "1xcpu.yaml", *DOUBLE) == 0
    one, two = run(folder, 1, 192), run(folder, 2, 192)
    state = torch.load(two / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 21
    start = float(weights(one)["dense1.weight"].std())
    assert start > 0.01
    for name, weight in weights(one).items():
        assert weight.dtype == torch.float64
        difference = (weight - weights(two)[name]).abs().max()
        assert difference < 1e-12, f"{name} differs by {difference}"
    for tag, points in results(one).items():
        assert points[0][1] == pytest.approx(results(two)[tag][0][1], rel=1e-6), tag
    assert results(one)["val/accuracy"] == results(two)["val/accuracy"]
    assert results(one)["train/accuracy"] == results(two)["train/accuracy"]


@pytest.mark.slow
def test_compiled_parts_have_the_weights_of_one_device_that_compiles_nothing(folder, tmp_path):
    done = spawn(tmp_path, "fit", *TWO, *DOUBLE, "--model.compile=null")
    assert done.returncode == 0 and noise(done.stderr) == [], done.stderr
    ours, theirs = weights(run(folder, 2, 192)), weights(run(tmp_path, 2, 192))
    assert 0 < max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["false", "true"])
def test_the_strategy_of_two_gpus_gives_the_weights_of_one_device(command, tmp_path, compiled):
    """Eight batches of 480 images and one of 160."""
    options = [*SMALL, "--trainer.accelerator=cpu", "--trainer.precision=64-true", "--trainer.max_epochs=1"]
    options.append(f"--model.compile={compiled}")
    done = spawn(tmp_path, "fit", "--config", PROJECT / "configs" / "2xgpu.yaml", *options)
    assert done.returncode == 0, done.stderr
    assert noise(done.stderr) == []
    assert command("fit", *options) == 0
    one, two = weights(run(tmp_path, 1, 480)), weights(run(tmp_path, 2, 480))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-12


SCRIPT = """
from lightning.pytorch import Trainer
from mnist_lightning import MNISTClassifier, MNISTDataModule, experiment

if __name__ == "__main__":
    settings = experiment.trainer_settings(max_epochs=1, accelerator="cpu", devices=2, precision="64-true")
    trainer = Trainer(**settings, callbacks=experiment.callbacks())
    trainer.fit(MNISTClassifier(channels=(4, 8), hidden=16, compile=False), MNISTDataModule(source="sample", batch_size=192))
"""


@pytest.mark.slow
def test_a_script_leaves_the_run_that_fit_leaves(folder, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    called = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert called.returncode == 0, called.stderr
    assert called.stdout.count("Training time") == 1
    script, fit = run(tmp_path, 2, 192), run(folder, 2, 192)
    assert same_weights(script, fit) and results(script) == results(fit)
    assert {path.name.split(".")[0] for path in script.iterdir()} == {path.name.split(".")[0] for path in fit.iterdir()}
    assert json.loads((script / "summary.json").read_text())["command"] == "python script.py"


def test_validation_is_that_of_one_process(folder, command, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    curves = scalars(run(folder, 2, 192))
    last = run(folder, 2, 192) / "checkpoints" / "last.ckpt"
    assert command("test", "--ckpt_path", last, "--data.source=sample", "--trainer.precision=64-true") == 0
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert printed["test/accuracy"] == f"{curves['val/accuracy'][0][1]:.5f}"
    assert float(printed["test/loss"]) == pytest.approx(curves["val/loss"][0][1], abs=1.1e-5)


@pytest.mark.slow
def test_config_reruns_bit_for_bit_and_resume_ends_the_same(folder):
    first = run(folder, 2, 192)
    longer = spawn(folder, "fit", "--config", first / "config.yaml", "--trainer.max_epochs=2")
    assert longer.returncode == 0, longer.stderr
    rerun = run(folder, 2, 192, version=1)
    assert {tag: points[0] for tag, points in results(first).items()} == {
        tag: points[0] for tag, points in results(rerun).items()
    }

    last = first / "checkpoints" / "last.ckpt"
    resumed = spawn(folder, "fit", "--config", first / "config.yaml", "--ckpt_path", last, "--trainer.max_epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    assert sorted(os.listdir(first.parent)) == ["version_0", "version_1"]
    assert results(first) == results(rerun)
    assert same_weights(first, rerun)


@pytest.mark.slow
def test_three_devices_count_each_of_the_10000_images_once(folder, mnist_dir):
    last = run(folder, 2, 192) / "checkpoints" / "last.ckpt"
    three = ["--ckpt_path", last, "--data.data_dir", mnist_dir, "--data.source=mnist", "--data.batch_size=96"]
    done = spawn(folder, "predict", *three, "--trainer.devices=3", "--trainer.accelerator=cpu")
    assert done.returncode == 0, done.stderr
    with open(folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(10_000))
    right = sum(row["label"] == row["prediction"] for row in rows)

    done = spawn(folder, "test", *three, "--trainer.devices=3", "--trainer.accelerator=cpu")
    assert done.returncode == 0, done.stderr
    assert f"test/accuracy {right / 10_000:.5f}" in done.stdout.splitlines()


@pytest.mark.slow
def test_a_last_batch_smaller_than_the_devices_is_trained_on(folder, command, monkeypatch):
    """4,000 images in batches of 129: the last one holds one image, two of three devices get none of it."""
    options = [*SMALL, "--data.batch_size=129", "--trainer.precision=64-true", "--trainer.max_epochs=1"]
    options.append("--model.compile=false")
    done = spawn(folder, "fit", *options, "--trainer.accelerator=cpu", "--trainer.devices=3")
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(folder)
    assert command("fit", *options, "--trainer.accelerator=cpu") == 0
    one, three = weights(run(folder, 1, 129)), weights(run(folder, 3, 129))
    assert max(float((one[name] - three[name]).abs().max()) for name in one) < 1e-12
    assert results(run(folder, 1, 129))["val/accuracy"] == results(run(folder, 3, 129))["val/accuracy"]


@pytest.mark.slow
def test_devices_with_shares_of_other_sizes_do_not_wait_for_each_other(tmp_path):
    """In batches of 6 the first of three devices has shares of one size, the others of two."""
    options = [*SMALL, "--data.batch_size=6", "--trainer.limit_train_batches=4", "--trainer.limit_val_batches=4"]
    done = spawn(
        tmp_path, "fit", *options, "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.devices=3"
    )
    assert done.returncode == 0, done.stderr


def test_bad_data_stop_all_processes_with_one_sentence_and_no_folder(folder, tmp_path):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"damaged")
    done = spawn(tmp_path, "fit", *TWO)
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert "train-images-idx3-ubyte is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "logs").exists()
