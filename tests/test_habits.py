"""What users of Lightning are used to: its callbacks, profilers and loggers, a warm start, its tuner, its metrics."""

import csv
import logging
from pathlib import Path

import pytest
import torch
import yaml
from conftest import SMALL, spawn
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.tuner import Tuner
from test_fit import same_weights, scalars, summary_in, weights
from test_python import RUNS, files, make_trainer, small

from mnist_lightning import MNISTDataModule, experiment

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


def test_a_csv_beside_a_whole_run(command, capsys):
    assert command(*FIT, "--trainer.logger=CSVLogger") == 0
    assert "tensorboard --logdir" not in capsys.readouterr().out
    run = RUNS / "version_0"
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"val/accuracy", "seconds/epoch", "images_per_second", "seconds/fit"} <= set(rows[0])
    accuracies = [float(row["val/accuracy"]) for row in rows if row["val/accuracy"]]
    summary = summary_in(run)
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
    assert summary_in(tmp_path / RUNS / "version_0")["epochs"] == 2
    assert len(list(tmp_path.glob(left))) == 1 and len(list((tmp_path / RUNS / "version_0").glob("events*"))) == 1


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
