"""Lightning's habits beside our callbacks, and programs with a network or images of their own."""

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
from conftest import PROJECT
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from test_fit import same_weights, scalars
from test_python import RUNS, files, make_trainer, small
from torch import Tensor

from mnist_lightning import MNISTClassifier, MNISTDataModule, commands, experiment
from mnist_lightning.data import Batch
from mnist_lightning.run_files import PROGRAM

LAST = "checkpoints/last.ckpt"


def summary_in(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


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


def test_lightnings_tuner_finds_a_rate_and_a_batch_size_that_the_run_takes(command):
    network, data = small()
    trainer = make_trainer(max_epochs=5)
    # A decrease of the loss must be seen within 45 batches.
    rate = Tuner(trainer).lr_find(network, data, num_training=40, early_stop_threshold=None).suggestion()
    assert network.hparams.learning_rate == rate != 1.0 and files() == {}
    trainer.fit_loop.max_epochs = 1
    trainer.fit(network, data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == rate
    assert yaml.safe_load((RUNS / "version_0" / "config.yaml").read_text())["model"]["learning_rate"] == rate
    assert not summary_in(RUNS / "version_0")["resumed"]

    network, data = small()
    size = Tuner(make_trainer()).scale_batch_size(network, data, init_val=240, max_trials=2)
    make_trainer().fit(small()[0], data)
    assert summary_in(Path(f"logs/1xcpu-b{size:04d}-s0/version_0"))["batch_size"] == size == data.batch_size == 480


def test_a_rate_set_in_the_hyperparameters_is_the_optimisers(command):
    network, data = small()
    network.hparams.learning_rate = 0.4
    trainer = make_trainer(enable_progress_bar=False)
    trainer.fit(network, data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.4


@pytest.mark.slow
def test_a_compiled_model_is_trained(command):
    make_trainer(limit_train_batches=2).fit(*small())
    network, data = small()
    make_trainer(limit_train_batches=2).fit(torch.compile(network), data)
    one, other = (summary_in(RUNS / f"version_{n}")["metrics"]["train/loss"] for n in (0, 1))
    assert one == pytest.approx(other, rel=1e-5)


class Reader(Callback):
    """Reads what was logged when an epoch ends."""

    def __init__(self) -> None:
        self.read: dict[str, list[float]] = {"train/loss": [], "val/loss": []}

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.read["train/loss"].append(float(trainer.callback_metrics["train/loss"]))

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.read["val/loss"].append(float(trainer.callback_metrics["val/loss"]))


def test_a_callback_reads_the_metrics_of_the_epoch_that_ends(command):
    reader = Reader()
    settings = {**experiment.trainer_settings(max_epochs=2), "accelerator": "cpu"}
    Trainer(**settings, callbacks=[*experiment.callbacks(), reader]).fit(*small())
    for name, read in reader.read.items():
        assert read == [value for _, value in scalars(RUNS / "version_0")[name]]
    # Batches of Lightning's sanity check are none of the epoch's.
    Trainer(**{**settings, "num_sanity_val_steps": 1}, callbacks=experiment.callbacks()).fit(*small())
    for name in reader.read:
        assert scalars(RUNS / "version_1")[name] == scalars(RUNS / "version_0")[name]
    images = small()[0]
    with pytest.raises(RuntimeError, match="shape"):
        images(torch.zeros(2, 3, 28, 28, dtype=torch.uint8))  # three channels are not three images


def test_a_run_with_callbacks_of_ones_own_is_not_rerun_without_them(command, capsys):
    stop = EarlyStopping("val/accuracy", mode="max", stopping_threshold=0.0)
    settings = {**experiment.trainer_settings(max_epochs=3), "accelerator": "cpu"}
    Trainer(**settings, callbacks=[*experiment.callbacks(), stop]).fit(*small())
    assert summary_in(RUNS / "version_0")["epochs"] == 1
    assert "rerun  python " in (told := capsys.readouterr().out) and "--config" not in told
    assert command("fit", "--config", RUNS / "version_0/config.yaml") == 2
    assert "trainer.callbacks" in capsys.readouterr().err.splitlines()[-1]
    assert not (RUNS / "version_1").exists()


def test_an_evaluation_after_the_fit_is_of_the_epoch_that_was_trained(command):
    network, data = small()
    trainer = make_trainer(max_epochs=2)
    trainer.fit(network, data)
    (found,) = trainer.test(network, data, verbose=False)
    (same,) = trainer.validate(network, data, verbose=False)
    assert found.keys() == {"test/loss", "test/accuracy"} and same["val/loss"] == found["test/loss"]
    points = scalars(RUNS / "version_0")
    assert [step for step, _ in points["test/loss"]] == [2] and [step for step, _ in points["val/loss"]] == [1, 2, 2]


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
