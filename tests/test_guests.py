"""Programs that bring a Trainer, a network or images of their own."""

import csv
import json
import runpy
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from conftest import PROJECT, SMALL
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from test_fit import same_weights, scalars, summary_in, weights
from test_python import ONE, RUNS, files, make_trainer, small
from torch import Tensor

from mnist_lightning import MNISTClassifier, MNISTDataModule, commands, experiment
from mnist_lightning.data import Batch, Digits
from mnist_lightning.run_files import PROGRAM

LAST = "checkpoints/last.ckpt"
OWN = PROJECT / "docs" / "own_network.py"


def plain_trainer(**settings: object) -> Trainer:
    """A Trainer that has nothing of ours but the callbacks."""
    return Trainer(**{"max_epochs": 1, "accelerator": "cpu", **settings}, callbacks=experiment.callbacks())


@pytest.mark.parametrize("logger", [None, "csv"])
def test_our_callbacks_alone_make_the_run_where_lightnings_loggers_write(command, recwarn, logger):
    make_trainer().fit(*small())
    trainer = plain_trainer(logger=CSVLogger("mine") if logger else None)
    trainer.fit(*small())
    run = Path("mine/lightning_logs/version_0" if logger else "lightning_logs/version_0")
    assert same_weights(run, RUNS / "version_0") and summary_in(run)["epochs"] == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["hidden"] == 16
    if logger:
        with (run / "metrics.csv").open(newline="") as file:
            assert {"val/accuracy", "seconds/fit"} <= set(next(csv.reader(file)))
        assert not [each for each in recwarn if "not empty" in str(each.message)]
    else:
        assert scalars(run)["val/loss"] == scalars(RUNS / "version_0")["val/loss"]


def test_a_run_goes_on_by_lightnings_own_argument_in_a_new_version(command):
    make_trainer(max_epochs=2).fit(*small())
    make_trainer().fit(*small())
    half = RUNS / "version_1" / LAST
    make_trainer(max_epochs=2).fit(*small(), ckpt_path=half)
    assert same_weights(RUNS / "version_2", RUNS / "version_0")
    resumed = summary_in(RUNS / "version_2")
    assert (resumed["resumed"], resumed["epochs"], len(resumed["by_epoch"]["seconds/epoch"])) == (True, 2, 2)
    before = files()
    with pytest.raises(ValueError, match="model.dropout"):
        make_trainer(max_epochs=2).fit(*small(dropout=(0, 0)), ckpt_path=half)
    half.write_bytes(half.read_bytes()[:2000] + b"x" + half.read_bytes()[2001:])
    with pytest.raises(ValueError, match="ckpt_path"):
        make_trainer(max_epochs=2).fit(*small(), ckpt_path=half)
    assert files().keys() == before.keys()


@pytest.mark.parametrize("training", [True, False])
def test_images_are_classified_with_and_without_a_channel(training):
    network = MNISTClassifier(compile=False).train(training)
    images = torch.randint(0, 256, (5, 28, 28), dtype=torch.uint8)
    logits = network(images)
    assert logits.shape == (5, 10)
    for same in (images.float(), images[:, None], images[:, None].float()):
        assert torch.equal(network(same), logits)


class Linear(LightningModule):
    """A network that knows nothing of this project but its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(28 * 28, 10)

    def loss(self, batch: Batch, name: str) -> Tensor:
        loss = F.cross_entropy(self.layer(batch.images.flatten(1) / 255), batch.labels)
        self.log(name, loss, batch_size=len(batch.labels), on_epoch=True, on_step=False)
        return loss

    def training_step(self, batch: Batch, index: int) -> Tensor:
        return self.loss(batch, "train/loss")

    def validation_step(self, batch: Batch, index: int) -> None:
        self.loss(batch, "val/loss")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_module_that_is_not_ours_has_a_clock_a_summary_a_board_and_a_report(command, capsys):
    make_trainer().fit(Linear(), small()[1])
    run = RUNS / "version_0"
    summary = summary_in(run)
    assert summary["network"] == "Linear" and summary["parameters"] == 7850 and summary["metrics"]["val/loss"] < 2.3
    assert {"val/loss", "train/loss", "seconds/fit", "images_per_second"} <= scalars(run).keys()
    make_trainer(max_epochs=2, last=run / LAST).fit(Linear(), small()[1])
    assert summary_in(run)["epochs"] == 2
    assert command("report", "--logs", "logs") == 0
    assert "| 480 |" in Path("report/report.md").read_text()


class Negatives(MNISTDataModule):
    """The sample with dark digits on light ground."""

    def load(self) -> tuple[Digits, Digits]:
        train, test = super().load()
        return Digits(255 - train.images, train.labels), Digits(255 - test.images, test.labels)


def test_other_images_with_the_same_batches(command):
    make_trainer().fit(*small())
    make_trainer().fit(small()[0], Negatives(source="sample", batch_size=480))
    light, dark = (summary_in(RUNS / f"version_{n}") for n in (0, 1))
    assert light["data_fingerprint"] != dark["data_fingerprint"]
    assert not same_weights(RUNS / "version_0", RUNS / "version_1")
    # A run goes on with its own images only.
    last = RUNS / "version_1" / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match="other images"):
        make_trainer(max_epochs=2, last=last).fit(*small())
    make_trainer(max_epochs=2, last=last).fit(small()[0], Negatives(source="sample", batch_size=480))
    assert summary_in(RUNS / "version_1")["epochs"] == 2


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
    summary = summary_in(own)
    assert (summary["network"], summary["parameters"]) == ("Perceptron", 64 * 785 + 10 * 65)
    assert summary["command"].startswith(f"python {OWN} fit --config ")
    # A run of the paper's network beside it is another column.
    assert command("fit", *SMALL, *ONE) == 0
    assert "of 2 runs" in run("report")
    text = Path("report/report.md").read_text()
    assert "| MNISTClassifier | 1xcpu, fp32 | 480 |" in text and "| Perceptron | 1xcpu, fp32 | 480 |" in text


def write_idx(path: Path, values: Tensor) -> None:
    """A file of the format of MNIST's."""
    path.write_bytes(bytes([0, 0, 8, values.dim()]) + struct.pack(f">{values.dim()}I", *values.shape))
    with path.open("ab") as file:
        file.write(values.to(torch.uint8).numpy().tobytes())


def test_the_example_with_other_images_fits_goes_on_tests_reports_and_is_rerun(command, monkeypatch, capsys):
    example = str(PROJECT / "docs" / "own_data.py")
    own, program = runpy.run_path(example)["FashionMNIST"], list(PROGRAM)
    raw = Path("data/FashionMNIST/raw")
    raw.mkdir(parents=True)
    random = torch.Generator().manual_seed(0)
    for name, count in (("train", 600), ("t10k", 200)):
        labels = torch.randint(0, 10, (count,), generator=random)
        noise = torch.randint(0, 100, (count, 28, 28), generator=random)
        write_idx(raw / f"{name}-images-idx3-ubyte", noise + 15 * labels[:, None, None])
        write_idx(raw / f"{name}-labels-idx1-ubyte", labels)

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", [example, *map(str, words)])
        try:
            assert commands.main(data=own) == 0
        finally:
            PROGRAM[:] = program
        return capsys.readouterr().out

    network = ["--model.channels=[8, 16]", "--model.hidden=16", "--data.batch_size=120"]
    assert "FashionMNIST" in run("fit", *network, "--trainer.max_epochs=1", "--trainer.accelerator=cpu")
    first, again = (Path(f"logs/1xcpu-b0120-s0/version_{n}") for n in (0, 1))
    assert (summary_in(first)["data"], summary_in(first)["train_images"]) == ("FashionMNIST", 600)
    assert f"python {example} fit --config" in run("fit", "--config", first / "config.yaml")
    assert same_weights(first, again)
    run("fit", "--ckpt_path", first / LAST, "--trainer.max_epochs=2")
    assert summary_in(first)["epochs"] == 2
    assert "FashionMNIST, 200 images" in run("test", "--ckpt_path", first / LAST)
    assert scalars(first).keys() >= {"test/loss"}
    run("report")
    report = Path("report/report.md").read_text()
    assert "| 120 |" in report and "FashionMNIST" in report and "sample of MNIST" not in report
    # Another program has other images: an evaluation is not the run's, and a rerun would train on them.
    before = scalars(first)
    assert command("test", "--ckpt_path", first / LAST, "--data.source=sample") == 0
    assert "not logged" in capsys.readouterr().out and scalars(first) == before
    assert command("fit", "--config", first / "config.yaml", "--data.source=sample") == 2
    assert "data_module" in capsys.readouterr().err.splitlines()[-1]


def test_the_callbacks_say_what_they_miss(command):
    data = MNISTDataModule(source="sample", batch_size=480)
    data.setup("fit")
    with pytest.raises(ValueError, match="data module"):
        plain_trainer().fit(small()[0], data.train_dataloader())


SCRIPT = """
import sys
from lightning.pytorch import Trainer
from mnist_lightning import MNISTClassifier, MNISTDataModule, experiment

if __name__ == "__main__":
    epochs, last = int(sys.argv[1]), sys.argv[2] if sys.argv[2:] else None
    network = MNISTClassifier(channels=(8, 16), hidden=16)
    trainer = Trainer(max_epochs=epochs, accelerator="cpu", devices=2, callbacks=experiment.callbacks())
    trainer.fit(network, MNISTDataModule(source="sample", batch_size=480), ckpt_path=last)
    trainer.test(network, datamodule=trainer.datamodule, verbose=False)
"""


@pytest.mark.slow
def test_two_devices_have_a_run_by_our_callbacks_alone_and_go_on_by_lightnings_argument(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)

    def run(*words: object) -> None:
        command = [sys.executable, "script.py", *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr

    runs = tmp_path / "lightning_logs"
    run(2)
    run(1)
    run(2, runs / "version_1" / LAST)
    assert same_weights(runs / "version_0", runs / "version_2")
    assert [summary_in(runs / f"version_{n}")["epochs"] for n in range(3)] == [2, 1, 2]
    assert summary_in(runs / "version_2")["setup"] == "2xcpu"
    assert scalars(runs / "version_2")["test/loss"][0][0] == 2
