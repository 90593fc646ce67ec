"""A fit in this process: its folder and its numbers."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PROJECT, SMALL
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

RESULTS = {"train/loss", "train/accuracy", "val/loss", "val/accuracy"}
TIMES = {"seconds/train_epoch", "seconds/val_epoch", "seconds/epoch", "images_per_second"}
BY_EPOCH = RESULTS | TIMES | {"at a glance/test accuracy", "at a glance/test loss"}
AT_THE_END = {"seconds/fit", "seconds/warm_up", "summary/fp32_gflops"}
RUNS = Path("logs/1xcpu-b0480-s0")
SMALL_FIT = ["fit", "--trainer.accelerator=cpu", *SMALL]


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    points = {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    # Files of the same second are read in the order of their names.
    return {tag: sorted(values) for tag, values in points.items()}


def results(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves that do not depend on the time of day."""
    return {tag: points for tag, points in scalars(run).items() if tag.startswith(("train/", "val/"))}


def summary_in(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


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
    assert sum(value for _, value in curves["seconds/epoch"]) <= curves["seconds/fit"][0][1]
    for tag, whole in (("train/accuracy", 4000), ("val/accuracy", 1000)):
        for _, accuracy in curves[tag]:
            assert accuracy * whole == pytest.approx(round(accuracy * whole), abs=1e-2)

    summary = summary_in(run)
    assert summary["metrics"].keys() == RESULTS | {"seconds/fit", "seconds/warm_up"}
    assert summary["by_epoch"].keys() == TIMES | {"val/loss", "val/accuracy"}
    for tag, value in summary["metrics"].items():
        assert value == pytest.approx(curves[tag][-1][1], rel=1e-6), tag
    for tag, values in summary["by_epoch"].items():
        assert values == pytest.approx([value for _, value in curves[tag]], rel=1e-6), tag
    named = {"setup": "1xcpu", "batch_size": 480, "seed": 0, "epochs": 3, "steps": 27, "resumed": False}
    named |= {
        "convolutions": "step.cpp",
        "data": "sample",
        "train_images": 4000,
        "test_images": 1000,
        "validated_images": 1000,
    }
    assert summary.items() >= named.items()
    rates = summary["calibration"]
    for moment in ("before", "after"):
        assert rates[moment].keys() == {"fp32_gflops", "bf16_gflops", "copy_gb_per_second"}
        assert min(rates[moment].values()) > 0
    assert summary["neighbours"]["own_cores"] > 0
    assert summary["machine"]["torch"] == torch.__version__.split("+")[0]
    assert summary["machine"]["threads"] == torch.get_num_threads()
    hparams = yaml.safe_load((run / "hparams.yaml").read_text())
    for name in ("machine", "data", "train_images", "test_images", "data_fingerprint"):
        assert hparams[name] == summary[name] != "", name
    assert (hparams["calibration"]["before"], hparams["rho"]) == (rates["before"], 0.95)

    table, metrics = capsys.readouterr().out, summary["metrics"]
    assert f"Training time  {metrics['seconds/fit']:10.2f} s" in table
    assert f"Test loss      {metrics['val/loss']:10.5f}\n  Test accuracy  {metrics['val/accuracy']:10.4f}" in table
    assert f"tensorboard --logdir {run}" in table and f"fit --config {run}/config.yaml" in table


def test_test_and_validate_log_into_the_run_and_predict_writes_a_csv(command, capsys):
    assert command(*SMALL_FIT, "--trainer.max_epochs=2") == 0
    run = RUNS / "version_0"
    last = run / "checkpoints" / "last.ckpt"
    _, loss = scalars(run)["val/loss"][-1]
    _, accuracy = scalars(run)["val/accuracy"][-1]
    capsys.readouterr()

    for evaluation, group in (("test", "test"), ("validate", "val")):
        assert command(evaluation, "--ckpt_path", last, "--data.source=sample", "--data.batch_size=333") == 0
        printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
        said = {f"{group}/accuracy": f"{accuracy:.5f}", f"{group}/loss": f"{loss:.5f}"}
        assert printed == {"data": "sample, 1000 images", **said}
    # A part of the images says what it is, and is no point of the run's curves.
    assert command("test", "--ckpt_path", last, "--data.source=sample", "--trainer.limit_test_batches=1") == 0
    assert capsys.readouterr().out.startswith("data          sample, 128 images of 1000: not logged\n")
    curves = scalars(run)
    assert curves["test/accuracy"] == [(2, accuracy)]
    assert curves["test/loss"][0][1] == pytest.approx(loss, rel=1e-5)
    assert len(list(RUNS.glob("version_*"))) == 1

    for _ in range(2):  # predictions may be replaced
        assert command("predict", "--ckpt_path", last, "--data.source=sample") == 0
    with open("predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "label", "prediction", "probability"]
    assert [int(row["index"]) for row in rows] == list(range(1000))
    assert sum(row["label"] == row["prediction"] for row in rows) == round(accuracy * 1000)
    assert all(0.1 <= float(row["probability"]) <= 1 for row in rows)


def test_other_images_than_the_checkpoints_are_said_and_not_logged(command, mnist_dir, capsys):
    assert command(*SMALL_FIT, "--trainer.max_epochs=1") == 0
    run = RUNS / "version_0"
    last = run / "checkpoints" / "last.ckpt"
    summary, config = (run / "summary.json").read_bytes(), (run / "config.yaml").read_bytes()
    capsys.readouterr()
    mnist = ["--data.source=mnist", f"--data.data_dir={mnist_dir}"]
    assert command("test", "--ckpt_path", last, *mnist) == 0
    assert "mnist, 10000 images: not logged" in capsys.readouterr().out
    assert set(scalars(run)) == BY_EPOCH | AT_THE_END

    assert command("fit", "--ckpt_path", last, *mnist, "--trainer.max_epochs=2") == 2
    assert "data.source" in capsys.readouterr().err.splitlines()[-1]
    assert (run / "summary.json").read_bytes() == summary
    assert (run / "config.yaml").read_bytes() == config


@pytest.mark.parametrize(("batches", "said"), [(0, "—"), (1, "(of 480 of the 1000 test images)")])
def test_an_accuracy_over_a_part_of_the_images_or_none_says_so(command, capsys, batches, said):
    assert command(*SMALL_FIT, f"--trainer.limit_val_batches={batches}", "--trainer.max_epochs=1") == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "Test accuracy" in line)
    assert line.endswith(f" {said}")


def test_configs_and_options_do_what_they_say(command):
    config = PROJECT / "configs" / "1xcpu.yaml"
    assert command("fit", "--config", config, *SMALL, "--trainer.max_epochs=1", "--seed_everything=3") == 0
    assert (RUNS.with_name("1xcpu-b0480-s3") / "version_0" / "summary.json").exists()
    saved = RUNS.with_name("1xcpu-b0480-s3") / "version_0" / "config.yaml"
    assert command("fit", "--config", saved, "--data.batch_size=512", "--seed_everything=4") == 0
    other = Path("logs/1xcpu-b0512-s4/version_0")
    summary = summary_in(other)
    assert (summary["batch_size"], summary["seed"], summary["steps"]) == (512, 4, 8)


@pytest.mark.parametrize("given", ["--trainer.fast_dev_run=true", "--trainer.logger=false"])
def test_a_fit_that_is_to_leave_nothing_leaves_nothing(command, capsys, given):
    assert command(*SMALL_FIT, "--trainer.max_epochs=1", given) == 0
    assert ("Test accuracy" in capsys.readouterr().out) == ("logger" in given)
    assert [path for path in Path().rglob("*") if path.is_file()] == []
