"""What users of Lightning are used to: each row of the table in docs/use.md is run by a test, here or elsewhere."""

import logging
import re
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PROJECT, SMALL
from lightning.pytorch import Trainer
from test_fit import weights
from test_python import make_trainer, small

from mnist_lightning import MNISTClassifier, MNISTDataModule, experiment
from mnist_lightning.errors import SettingError
from mnist_lightning.runs.setups import refuse_unsupported_trainer

# The test of each row, by the row's first cell.
ROWS = {
    "callbacks of your own, without the command line": "test_python::test_python_leaves_the_run_that_fit_leaves",
    "a plain `Trainer`, without the experiment's callbacks": "test_habits::test_a_plain_trainer_trains",
    "a subclass with another network": "test_own_classes::test_another_network_has_its_clock_its_record_its_study_and_its_report",
    "a subclass with other images": "test_own_classes::test_other_images_with_the_same_batches",
    '`EarlyStopping(monitor="val_loss")`': "test_habits::test_lightnings_own_callbacks_and_profilers_work",
    '`ModelCheckpoint(monitor="val_acc")`': "test_habits::test_lightnings_own_callbacks_and_profilers_work",
    "`LearningRateMonitor` and other callbacks": "test_fit::test_callbacks_may_be_one_and_validation_off",
    '`profiler="simple"`, `"advanced"` or `"pytorch"`': "test_habits::test_lightnings_own_callbacks_and_profilers_work",
    '`strategy="ddp_spawn"`, `"ddp_fork"` or `"ddp_notebook"`': "test_habits::test_what_cannot_run_is_refused",
    '`strategy="fsdp"` on a CPU, `precision="transformer-engine"` without its package': "test_habits::test_what_cannot_run_is_refused",
    "`fast_dev_run=True`": "test_fit::test_a_fast_dev_run_writes_nothing",
    "`overfit_batches`, `val_check_interval`": "test_bad_settings::test_each_mechanism_makes_one_sentence",
    '`precision="bf16-mixed"`': "test_speed::test_bf16_learns_as_fp32_does",
    '`precision="64-true"`': "test_speed::test_compiled_and_uncompiled_runs_agree",
    "a warm start from weights, with other settings": "test_habits::test_a_warm_start_has_other_settings",
    "`torch.compile(model)`": "test_habits::test_a_compiled_model_is_refused_with_the_setting_that_compiles",
    '`logger=CSVLogger("logs")`': "test_python::test_a_trainer_makes_one_run_and_keeps_it",
    "`--trainer.logger=CSVLogger`": "test_other_loggers::test_csv",
    "Weights & Biases": "test_other_loggers::test_weights_and_biases_offline",
    "MLflow": "test_other_loggers::test_mlflow",
}


def test_each_row_of_the_table_has_its_test():
    table = (PROJECT / "docs" / "use.md").read_text().split("## What you are used to")[1].split("\n## ")[0]
    cells = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")]
    assert cells[2:] == list(ROWS)
    for place in ROWS.values():
        module, test = place.split("::")
        assert re.search(rf"^def {test}\(", (PROJECT / "tests" / f"{module}.py").read_text(), re.MULTILINE), place


def test_lightnings_own_callbacks_and_profilers_work(command, tmp_path, capsys, caplog):
    callbacks = [
        {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss", "patience": 1, "stopping_threshold": 9.0}},
        {"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/accuracy", "mode": "max", "filename": "best"}},
    ]
    config = {"trainer": {"callbacks": callbacks, "profiler": "simple", "max_epochs": 3}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    options = [*SMALL, "--model.compile=false", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu"]
    with caplog.at_level(logging.INFO):
        assert command("fit", "--config=mine.yaml", *options) == 0
    # The loss is below the threshold after the first epoch.
    assert "seed 0, 1 epoch " in capsys.readouterr().out
    assert "FIT Profiler Report" in caplog.text
    (run,) = tmp_path.glob("logs/*/*/*/version_0")
    assert {path.name for path in run.glob("checkpoints/*")} == {"best.ckpt", "epoch=00.ckpt", "last.ckpt"}


def test_a_plain_trainer_trains(command):
    trainer = Trainer(max_epochs=1, limit_train_batches=2, logger=False, accelerator="cpu", enable_checkpointing=False)
    trainer.fit(*small())
    assert trainer.callback_metrics.keys() >= {"train/loss", "val/accuracy"}
    assert list(Path().iterdir()) == []


def test_a_warm_start_has_other_settings(command):
    make_trainer(limit_train_batches=2).fit(*small())
    run = Path("logs/1xcpu/batch_size=0480/seed=0/version_0")
    network = MNISTClassifier(channels=(4, 8), hidden=16, compile=False, learning_rate=1e-9)
    network.load_state_dict(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    make_trainer(limit_train_batches=2).fit(network, MNISTDataModule(source="sample", batch_size=240))
    before, after = weights(run), weights(Path("logs/1xcpu/batch_size=0240/seed=0/version_0"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_a_compiled_model_is_refused_with_the_setting_that_compiles(command):
    network, data = small()
    with pytest.raises(SettingError, match="make it with compile=True"):
        make_trainer().fit(torch.compile(network), data)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (
            "--trainer.strategy=ddp_spawn",
            "trainer.strategy is ddp_spawn, whose processes would be copies of this one: use ddp",
        ),
        ("--trainer.strategy=ddp_fork", "use ddp, on the command line or in a script"),
        ("--trainer.strategy=ddp_notebook", "use ddp, on the command line or in a script"),
        ("--trainer.strategy=fsdp", "trainer.strategy"),
        ("--trainer.precision=transformer-engine", "transformer"),
    ],
)
def test_what_cannot_run_is_refused(command, capsys, option, says):
    assert command("fit", *SMALL, "--trainer.accelerator=cpu", "--trainer.devices=2", option) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and says in said[0]
    assert list(Path().iterdir()) == []


def test_a_strategy_that_copies_the_process_is_refused_from_python():
    with pytest.raises(SettingError, match="trainer.strategy is ddp_notebook.*use ddp, on the command line"):
        experiment.trainer_settings(devices=2, strategy="ddp_notebook")
    trainer = make_trainer()
    trainer.strategy._start_method = "fork"  # as Lightning chooses in a notebook
    with pytest.raises(SettingError, match="trainer.strategy is ddp_fork"):
        refuse_unsupported_trainer(trainer)
