"""A fit in this process: its folder, its numbers, its rerun and its resumption."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PROJECT, QUICK, SMALL
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lightning.durability.locks import held
from mnist_lightning.measure.calibration import RATES
from mnist_lightning.measure.machine import training_code
from mnist_lightning.runs.record import RunRecord
from mnist_lightning.runs.summary import write_summary

BY_EPOCH = {
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "seconds/train_epoch",
    "seconds/val_epoch",
    "seconds/epoch",
    "images_per_second",
    *("at a glance/test accuracy", "at a glance/test loss"),
}
RUNS = Path("logs/1xcpu/batch_size=0480/seed=0")
QUICK_FIT = ["fit", "--trainer.accelerator=cpu", *QUICK]
SMALL_FIT = ["fit", "--trainer.accelerator=cpu", *SMALL]


AT_THE_END = {
    *("seconds/fit", "seconds/warm_up"),
    "summary/fp32_gflops",
}


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    points = {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    # Files of the same second are read in the order of their names.
    return {tag: sorted(values) for tag, values in points.items()}


def results(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves that do not depend on the time of day."""
    return {tag: points for tag, points in scalars(run).items() if tag.startswith(("train/", "val/"))}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_fit_leaves_a_whole_run(command, capsys):
    assert command(*SMALL_FIT, "--trainer.max_epochs=3", "--seed_everything=0") == 0
    run = RUNS / "version_0"

    curves = scalars(run)
    assert set(curves) == BY_EPOCH | AT_THE_END
    assert all([step for step, _ in curves[tag]] == [1, 2, 3] for tag in BY_EPOCH)
    assert [step for step, _ in curves["seconds/fit"]] == [3]
    seconds = [value for _, value in curves["seconds/epoch"]]
    assert sum(seconds) <= curves["seconds/fit"][0][1]
    for tag, whole in (("train/accuracy", 4000), ("val/accuracy", 1000)):
        for _, accuracy in curves[tag]:
            assert accuracy * whole == pytest.approx(round(accuracy * whole), abs=1e-2)

    summary = json.loads((run / "summary.json").read_text())
    assert summary["metrics"].keys() == {
        "train/loss",
        "train/accuracy",
        "val/loss",
        "val/accuracy",
        "seconds/fit",
        "seconds/warm_up",
    }
    for tag, value in summary["metrics"].items():
        assert value == pytest.approx(curves[tag][-1][1], rel=1e-6), tag
    for tag, values in summary["by_epoch"].items():
        assert values == pytest.approx([value for _, value in curves[tag]], rel=1e-6), tag
    assert (summary["setup"], summary["batch_size"], summary["seed"]) == ("1xcpu", 480, 0)
    assert (summary["epochs"], summary["steps"]) == (3, 27)

    rates = summary["calibration"]
    assert set(rates) == {"before", "after"} and set(rates["before"]) == set(rates["after"]) == set(RATES)
    assert min(*rates["before"].values(), *rates["after"].values()) > 0
    assert summary["neighbours"]["own_cores"] > 0
    assert summary["machine"]["code"] == training_code()
    hparams = yaml.safe_load((run / "hparams.yaml").read_text())
    assert hparams["calibration"]["before"] == rates["before"]
    assert (hparams["data"], hparams["train_images"], hparams["test_images"]) == ("sample", 4000, 1000)
    assert hparams["data_fingerprint"] == summary["data_fingerprint"] != ""
    assert hparams["machine"]["threads"] == torch.get_num_threads()
    assert hparams["machine"]["torch"] == torch.__version__.split("+")[0]
    assert hparams["rho"] == 0.95

    table = capsys.readouterr().out
    assert f"Training time  {summary['metrics']['seconds/fit']:10.2f} s" in table
    assert f"Test loss      {summary['metrics']['val/loss']:10.5f}" in table
    assert f"Test accuracy  {summary['metrics']['val/accuracy']:10.4f}" in table
    assert "not comparable with the paper" in table
    assert f"tensorboard --logdir {run}" in table
    assert f"fit --config {run}/config.yaml" in table


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


def test_test_and_validate_log_into_the_run_and_predict_writes_a_csv(command, capsys):
    assert command(*QUICK_FIT, "--trainer.max_epochs=2") == 0
    run = RUNS / "version_0"
    last = run / "checkpoints" / "last.ckpt"
    _, loss = scalars(run)["val/loss"][-1]
    _, accuracy = scalars(run)["val/accuracy"][-1]
    capsys.readouterr()

    for evaluation, group in (("test", "test"), ("validate", "val")):
        assert command(evaluation, "--ckpt_path", last, "--data.source=sample", "--data.batch_size=333") == 0
        printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
        assert printed == {
            "data": "sample, 1000 images",
            f"{group}/accuracy": f"{accuracy:.5f}",
            f"{group}/loss": f"{loss:.5f}",
        }
    # A part of the images says what it is, and is no point of the run's curves.
    assert command("test", "--ckpt_path", last, "--data.source=sample", "--trainer.limit_test_batches=1") == 0
    assert capsys.readouterr().out.startswith("data          sample, 128 images of 1000: not logged\n")
    curves = scalars(run)
    assert curves["test/accuracy"] == [(2, accuracy)]
    assert curves["test/loss"][0][1] == pytest.approx(loss, rel=1e-5)
    assert sorted(os.listdir(RUNS)) == ["version_0"]

    whole = last.read_bytes()
    assert command("predict", "--ckpt_path", last, "--data.source=sample", f"--predictions.path={last}") == 2
    assert "which is there and holds no predictions" in capsys.readouterr().err and last.read_bytes() == whole
    for _ in range(2):  # predictions may be replaced
        assert command("predict", "--ckpt_path", last, "--data.source=sample") == 0
    with open("predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "label", "prediction", "probability"]
    assert [int(row["index"]) for row in rows] == list(range(1000))
    assert sum(row["label"] == row["prediction"] for row in rows) == round(accuracy * 1000)
    assert all(0.1 <= float(row["probability"]) <= 1 for row in rows)


def test_other_images_than_the_checkpoints_are_said_and_not_logged(command, mnist_dir, capsys):
    assert command(*QUICK_FIT, "--trainer.max_epochs=1") == 0
    run = RUNS / "version_0"
    last = run / "checkpoints" / "last.ckpt"
    summary, config = (run / "summary.json").read_bytes(), (run / "config.yaml").read_bytes()
    capsys.readouterr()
    mnist = ["--data.source=mnist", f"--data.data_dir={mnist_dir}"]
    assert command("test", "--ckpt_path", last, *mnist) == 0
    assert "mnist, 10000 images, but the checkpoint was trained on sample" in capsys.readouterr().out
    assert set(scalars(run)) == BY_EPOCH | AT_THE_END

    assert command("fit", "--ckpt_path", last, *mnist, "--trainer.max_epochs=2") == 2
    assert "data.source mnist gives mnist, but the checkpoint was trained on sample" in capsys.readouterr().err
    assert (run / "summary.json").read_bytes() == summary
    assert (run / "config.yaml").read_bytes() == config


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
        ("limit_train_batches=3", "2"),
        ("accumulate_grad_batches=2", "1"),
        ("gradient_clip_val=1.0", "0.5"),
        ("check_val_every_n_epoch=2", "1"),
        ("callbacks+=lightning.pytorch.callbacks.WeightAveraging", "None"),
    ):
        assert command("fit", "--ckpt_path", last, f"--trainer.{changed}", "--trainer.max_epochs=2") == 2
        name = changed.partition("=")[0].rstrip("+")
        said = capsys.readouterr().err
        assert (
            said.splitlines()[-1].startswith(f"error: trainer.{name} is ")
            and f"the checkpoint was trained with {before}: " in said
        )
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


def test_a_summary_is_whole_or_not_there(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_summary(tmp_path, {"epochs": 1})
    assert not (tmp_path / "summary.json").exists()


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


def test_callbacks_may_be_one_and_validation_off(command, capsys):
    one = "--trainer.callbacks=lightning.pytorch.callbacks.LearningRateMonitor"
    assert command(*QUICK_FIT, one, "--trainer.limit_val_batches=0", "--trainer.max_epochs=1") == 0
    assert "Test accuracy           —" in capsys.readouterr().out
    saved = yaml.safe_load((RUNS / "version_0" / "config.yaml").read_text())
    assert "LearningRateMonitor" in str(saved["trainer"]["callbacks"])


def test_an_accuracy_over_a_part_of_the_images_says_so(command, capsys):
    assert command(*QUICK_FIT, "--trainer.limit_val_batches=1", "--trainer.max_epochs=1") == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "Test accuracy" in line)
    assert line.endswith("  (of 480 of the 1000 test images)")


def test_configs_and_options_do_what_they_say(command):
    config = PROJECT / "configs" / "1xcpu.yaml"
    assert command("fit", "--config", config, *QUICK, "--trainer.max_epochs=1", "--seed_everything=3") == 0
    assert (RUNS.with_name("seed=3") / "version_0" / "summary.json").exists()
    saved = RUNS.with_name("seed=3") / "version_0" / "config.yaml"
    assert command("fit", "--config", saved, "--data.batch_size=512", "--seed_everything=4") == 0
    other = Path("logs/1xcpu/batch_size=0512/seed=4/version_0")
    summary = json.loads((other / "summary.json").read_text())
    assert (summary["batch_size"], summary["seed"], summary["steps"]) == (512, 4, 8)


def test_a_fast_dev_run_writes_nothing(command):
    assert command(*QUICK_FIT, "--trainer.fast_dev_run=true") == 0
    assert [path for path in Path().rglob("*") if path.is_file()] == []


def test_fit_without_a_logger_trains(command, capsys):
    assert command(*QUICK_FIT, "--trainer.max_epochs=1", "--trainer.logger=false") == 0
    assert "Test accuracy" in capsys.readouterr().out
    assert os.listdir() == []  # no folder, and nothing over that of another fit
