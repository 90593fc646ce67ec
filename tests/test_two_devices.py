"""Two and three processes on the CPU against one: the same experiment."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import PROJECT, SMALL, noise, spawn
from test_fit import results, same_weights, scalars, summary_in, weights

# 4,000 images in batches of 192: 21 steps, the last one of 160 images, 80 a device.
DOUBLE = [*SMALL, "--data.batch_size=192", "--trainer.precision=64-true", "--trainer.max_epochs=1"]
TWO = ["--config", PROJECT / "configs" / "2xcpu.yaml"]
CPU = "--trainer.accelerator=cpu"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where one epoch was trained in double precision on two devices."""
    folder = tmp_path_factory.mktemp("two")
    done = ended_well(folder, "fit", *TWO, *DOUBLE)
    assert done.stdout.count("Training time") == done.stdout.count("2xcpu, batch size 192, seed 0, 1 epoch ") == 1
    return folder


def ended_well(folder: Path, *args: object) -> subprocess.CompletedProcess:
    done = spawn(folder, *args)
    assert done.returncode == 0 and noise(done.stderr) == [], done.stderr
    return done


def run(folder: Path, devices: int, batch_size: int = 192, version: int = 0) -> Path:
    return folder / "logs" / f"{devices}xcpu-b{batch_size:04d}-s0/version_{version}"


def difference(one: Path, other: Path) -> float:
    """The largest difference between the weights of two runs."""
    ours, theirs = weights(one), weights(other)
    assert all(weight.dtype == torch.float64 for weight in ours.values())
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_weights_are_those_of_one_device(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    assert command("fit", "--config", PROJECT / "configs" / "1xcpu.yaml", *DOUBLE) == 0
    one, two = run(folder, 1), run(folder, 2)
    assert torch.load(two / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 21
    assert float(weights(one)["dense1.weight"].std()) > 0.01
    assert difference(one, two) < 1e-12
    ours, theirs = results(one), results(two)
    assert ours.keys() == theirs.keys()
    assert all(ours[tag][0][1] == pytest.approx(theirs[tag][0][1], rel=1e-6) for tag in ours)
    assert all(ours[tag] == theirs[tag] for tag in ("val/accuracy", "train/accuracy"))


@pytest.mark.slow
@pytest.mark.parametrize(("config", "compiled"), [("2xgpu", "null"), ("2xcpu", "false"), ("2xgpu", "true")])
def test_the_layers_of_pytorch_and_the_strategy_of_gpus_give_the_weights_of_processors(
    folder, tmp_path, config, compiled
):
    config = ["--config", PROJECT / "configs" / f"{config}.yaml", CPU]
    ended_well(tmp_path, "fit", *config, *DOUBLE, f"--model.compile={compiled}")
    assert difference(run(folder, 2), run(tmp_path, 2)) < 1e-12
    assert same_weights(run(folder, 2), run(tmp_path, 2)) == (compiled == "null")


SCRIPT = """
from lightning.pytorch import Trainer
from mnist_lightning import MNISTClassifier, MNISTDataModule, experiment

if __name__ == "__main__":
    settings = experiment.trainer_settings(max_epochs=1, accelerator="cpu", devices=2, precision="64-true")
    trainer = Trainer(**settings, callbacks=experiment.callbacks())
    network = MNISTClassifier(channels=(8, 16), hidden=16)
    trainer.fit(network, MNISTDataModule(source="sample", batch_size=192))
"""


@pytest.mark.slow
def test_a_script_leaves_the_run_that_fit_leaves(folder, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py"]
    called = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert called.returncode == 0 and called.stdout.count("Training time") == 1, called.stderr
    script, fit = run(tmp_path, 2), run(folder, 2)
    assert same_weights(script, fit) and results(script) == results(fit)
    left = [{path.name.partition(".out")[0] for path in each.iterdir()} for each in (script, fit)]
    assert left[0] == left[1] >= {"summary.json", "config.yaml"}
    assert summary_in(script)["command"] == "python script.py"


def test_validation_is_that_of_one_process(folder, command, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    curves, last = scalars(run(folder, 2)), run(folder, 2) / "checkpoints" / "last.ckpt"
    assert command("test", "--ckpt_path", last, "--data.source=sample", "--trainer.precision=64-true") == 0
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert printed["test/accuracy"] == f"{curves['val/accuracy'][0][1]:.5f}"
    assert float(printed["test/loss"]) == pytest.approx(curves["val/loss"][0][1], abs=1.1e-5)


@pytest.mark.slow
def test_config_reruns_bit_for_bit_and_resume_ends_the_same(folder):
    first, rerun = run(folder, 2), run(folder, 2, version=1)
    ended_well(folder, "fit", "--config", first / "config.yaml", "--trainer.max_epochs=2")
    assert {tag: points[:1] for tag, points in results(rerun).items()} == results(first)
    ended_well(folder, "fit", "--ckpt_path", first / "checkpoints" / "last.ckpt", "--trainer.max_epochs=2")
    assert {path.name for path in first.parent.glob("version_*")} == {"version_0", "version_1"}
    assert results(first) == results(rerun) and same_weights(first, rerun)


@pytest.mark.slow
def test_three_devices_count_each_of_the_10000_images_once(folder, mnist_dir):
    three = ["--ckpt_path", run(folder, 2) / "checkpoints" / "last.ckpt", "--trainer.devices=3", CPU]
    three += ["--data.data_dir", mnist_dir, "--data.source=mnist", "--data.batch_size=96"]
    ended_well(folder, "predict", *three)
    with open(folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(10_000))
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert f"test/accuracy {right / 10_000:.5f}" in ended_well(folder, "test", *three).stdout.splitlines()


@pytest.mark.slow
def test_a_last_batch_smaller_than_the_devices_is_trained_on(command, tmp_path):
    """4,000 images in batches of 129: the last one holds one image, two of three devices get none of it."""
    options = [*DOUBLE, "--data.batch_size=129", CPU]
    ended_well(tmp_path, "fit", *options, "--trainer.devices=3")
    assert command("fit", *options) == 0
    one, three = run(tmp_path, 1, 129), run(tmp_path, 3, 129)
    assert difference(one, three) < 1e-12
    assert results(one)["val/accuracy"] == results(three)["val/accuracy"]


@pytest.mark.slow
def test_devices_with_shares_of_other_sizes_do_not_wait_for_each_other(tmp_path):
    """In batches of 6 the first of three devices has shares of one size, the others of two."""
    limits = ["--trainer.limit_train_batches=4", "--trainer.limit_val_batches=4", "--trainer.max_epochs=1"]
    ended_well(tmp_path, "fit", *SMALL, "--data.batch_size=6", *limits, CPU, "--trainer.devices=3")


@pytest.mark.slow
def test_bad_data_stop_all_processes_with_one_sentence_and_no_folder(tmp_path):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"damaged")
    done = spawn(tmp_path, "fit", *TWO)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1 and "train-images-idx3-ubyte" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "logs").exists()
