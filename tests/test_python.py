"""The same run from Python as from the command line."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import PROJECT, SMALL
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from test_fit import results, same_weights

from mnist_lightning import MNISTClassifier, MNISTDataModule, experiment
from mnist_lightning.data import Digits
from mnist_lightning.errors import SettingError
from mnist_lightning.report.columns import labelled
from mnist_lightning.report.runs import read_runs

RUNS = Path("logs/1xcpu/batch_size=0480/seed=0")
ONE = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu"]


def small(compile: bool | None = False) -> tuple[MNISTClassifier, MNISTDataModule]:
    """As the command line makes them of SMALL; nothing is compiled where that makes no difference to a test."""
    network = MNISTClassifier(channels=(4, 8), hidden=16, compile=compile)
    return network, MNISTDataModule(source="sample", batch_size=480)


def make_trainer(**changes: object) -> Trainer:
    settings = experiment.trainer_settings(accelerator="cpu", **{"max_epochs": 1, **changes})
    return Trainer(**settings, callbacks=experiment.callbacks())


def shape(value: object) -> object:
    """A summary's names, without its numbers."""
    return {name: shape(each) for name, each in value.items()} if isinstance(value, dict) else type(value)


def test_python_leaves_the_run_that_fit_leaves(command, capsys):
    assert command("fit", *SMALL, *ONE) == 0
    make_trainer().fit(*small(compile=None))
    typed, called = RUNS / "version_0", RUNS / "version_1"
    assert same_weights(typed, called)
    assert results(typed) == results(called)
    kinds = [{path.name.split(".")[0] for path in run.iterdir()} for run in (typed, called)]
    assert kinds[0] == kinds[1] == {"checkpoints", "config", "events", "hparams", "summary"}
    summaries = [json.loads((run / "summary.json").read_text()) for run in (typed, called)]
    assert shape(summaries[0]) == shape(summaries[1])
    assert summaries[1]["command"].startswith("python ")
    assert capsys.readouterr().out.count("Training time") == 2
    # They stand in one column of a report, though the config of the one names fewer settings.
    labels = [re.sub(r", machine \d", "", label) for label, _, _ in labelled(read_runs([Path("logs")]))]
    assert labels == ["1xcpu", "1xcpu"]
    # Its config makes the same run on the command line.
    assert command("fit", "--config", called / "config.yaml") == 0
    assert same_weights(RUNS / "version_2", called)


def test_a_run_from_python_goes_on_in_its_folder(command):
    make_trainer(max_epochs=2).fit(*small())
    make_trainer().fit(*small())
    whole, resumed = RUNS / "version_0", RUNS / "version_1"
    last = resumed / "checkpoints" / "last.ckpt"
    late = make_trainer(max_epochs=2)
    with pytest.raises(SettingError, match="set trainer.ckpt_path before"):
        late.fit(*small(), ckpt_path=last)
    assert sorted(os.listdir(RUNS)) == ["version_0", "version_1"]
    trainer = make_trainer(max_epochs=2)
    trainer.ckpt_path = last
    trainer.fit(*small())
    assert sorted(os.listdir(RUNS)) == ["version_0", "version_1"]
    assert same_weights(whole, resumed) and results(whole) == results(resumed)
    assert yaml.safe_load((resumed / "config.yaml").read_text())["trainer"]["max_epochs"] == 2
    assert json.loads((resumed / "summary.json").read_text())["resumed"]


def test_what_the_commands_refuse_python_refuses(command):
    data = MNISTDataModule(source="sample", batch_size=480)
    for devices, deals, words in (
        (7, False, "cannot be shared by 7 devices"),
        (2, True, "use_distributed_sampler is True"),
    ):
        connector = SimpleNamespace(use_distributed_sampler=deals)
        data.trainer = SimpleNamespace(world_size=devices, _accelerator_connector=connector)
        with pytest.raises(SettingError, match=words):
            data.setup("fit")
    for settings, words in (
        ({"overfit_batches": 2}, "trainer.overfit_batches is 2"),
        ({"val_check_interval": 0.5}, "trainer.val_check_interval is 0.5"),
        ({"max_steps": 0}, "trainer.max_steps is 0"),
        ({"limit_train_batches": 0}, "trainer.limit_train_batches is 0"),
    ):
        with pytest.raises(SettingError, match=words):
            make_trainer(**settings).fit(*small())
    assert os.listdir() == []


def test_images_that_the_network_would_divide_again_are_refused(command):
    class Floats(MNISTDataModule):
        def load(self) -> tuple[Digits, Digits]:
            train, test = super().load()
            return Digits(train.images / 255, train.labels), test

    with pytest.raises(SettingError, match=r"The images are torch.float32: give torch.uint8"):
        make_trainer().fit(small()[0], Floats(source="sample", batch_size=480))
    assert os.listdir() == []


def test_a_fit_without_our_data_is_refused_and_leaves_nothing(command):
    data = small()[1]
    data.setup("fit")
    with pytest.raises(SettingError, match="has no data module"):
        make_trainer().fit(small()[0], data.train_dataloader(), data.val_dataloader())
    assert os.listdir() == []


def test_the_callbacks_are_in_their_order():
    names = [type(callback).__name__ for callback in experiment.callbacks()]
    assert names == [
        "StopSignals",
        "Heartbeat",
        "RunFolder",
        "Calibration",
        "SharedGradients",
        "WarmUp",
        "Neighbours",
        "Energy",
        "StepParts",
        "FitProgress",
        "WallClock",
        "WholeEpochs",
        "RunRecord",
        "Board",
        "ModelCheckpoint",
    ]
    mine = Callback()
    given = experiment.with_callbacks(mine, [], progress=False, step_parts=False)
    assert [type(each).__name__ for each in given] == ["Callback", *names[:9], *names[10:14]]


def test_the_clock_starts_after_all_others_and_reads_before_the_record(command, monkeypatch):
    """In a real fit, by the moments at which the hooks end."""
    order: list[tuple[str, str]] = []
    callbacks = experiment.callbacks()
    for callback in callbacks:
        name = type(callback).__name__
        for hook in ("on_fit_start", "on_train_start", "on_train_epoch_end", "on_train_end", "on_fit_end"):
            if hook in vars(type(callback)):
                told = getattr(callback, hook)

                def call(*args, told=told, name=name, hook=hook):
                    told(*args)
                    order.append((hook, name))

                monkeypatch.setattr(callback, hook, call)
    trainer = Trainer(**experiment.trainer_settings(max_epochs=1, accelerator="cpu"), callbacks=callbacks)
    trainer.fit(*small())
    prepared = [name for hook, name in order if hook == "on_fit_start"]
    assert prepared.index("Calibration") < prepared.index("RunRecord")  # which logs the rates
    starts = [name for hook, name in order if hook == "on_train_start"]
    assert starts[-2:] == ["WallClock", "ModelCheckpoint"]  # which Lightning puts last; it notes the time
    assert {"WarmUp", "StepParts", "FitProgress", "Neighbours"} <= set(starts)
    ends = [name for hook, name in order if hook == "on_train_epoch_end"]
    assert ends.index("StepParts") < ends.index("WallClock") < ends.index("ModelCheckpoint")
    stops = [name for hook, name in order if hook == "on_train_end"]
    assert stops.index("Calibration") < stops.index("Board")  # whose row has a rate
    clocks = [place for place, (_, name) in enumerate(order) if name == "WallClock"]
    calibrations = [place for place, (_, name) in enumerate(order) if name == "Calibration"]
    # Before the clock starts, and after its last reading.
    assert len(calibrations) == 2 and calibrations[0] < clocks[0] and clocks[1] < calibrations[1]
    assert order[-1] == ("on_fit_end", "RunRecord")


def test_a_trainer_makes_one_run_and_keeps_it(command):
    """Whatever comes after: nothing is written over, and nothing is removed."""
    callbacks, trained = experiment.callbacks(), small()[0]
    trainer = Trainer(**experiment.trainer_settings(max_epochs=1, accelerator="cpu"), callbacks=callbacks)
    trainer.fit(trained, small()[1])
    with pytest.raises(SettingError, match="The model was trained before"):
        make_trainer().fit(trained, small()[1])
    before = {path: path.stat().st_mtime_ns for path in RUNS.rglob("*")}
    again = Trainer(**experiment.trainer_settings(max_epochs=2, accelerator="cpu"), callbacks=callbacks)
    for other in (trainer, again):
        with pytest.raises(SettingError, match="A Trainer makes one run"):
            other.fit(*small())
    own = Trainer(**experiment.trainer_settings(logger=CSVLogger("own")), callbacks=experiment.callbacks())
    with pytest.raises(SettingError, match="loggers to experiment.callbacks"):
        own.fit(*small())
    network = MNISTClassifier(channels=(4, 8), hidden=16, compile=False, seed=3)
    with pytest.raises(SettingError, match="The model has seed 3 and the data module 0"):
        make_trainer().fit(network, small()[1])
    last = RUNS / "version_0" / "checkpoints" / "last.ckpt"
    for changed, words in (
        (MNISTClassifier(channels=(4, 8), hidden=16, compile=False, dropout=(0, 0)), "model.dropout is"),
        (MNISTClassifier(channels=(4, 8), hidden=32, compile=False), "model.hidden is 32"),
    ):
        resumed = make_trainer(max_epochs=2)
        resumed.ckpt_path = last
        with pytest.raises(SettingError, match=words):
            resumed.fit(changed, small()[1])
    averaging = Trainer(**experiment.trainer_settings(), callbacks=[WeightAveraging(), *experiment.callbacks()])
    for resumed, words in (
        (make_trainer(max_epochs=2, gradient_clip_val=1.0), "trainer.gradient_clip_val is 1.0"),
        (averaging, "trainer.callbacks are lightning.*WeightAveraging, but the checkpoint was trained with none"),
    ):
        resumed.ckpt_path = last
        with pytest.raises(SettingError, match=words):
            resumed.fit(*small())
    assert {path: path.stat().st_mtime_ns for path in RUNS.rglob("*")} == before


def test_an_evaluation_before_the_fit_leaves_the_checkpoints_where_they_belong(command):
    trainer, (network, data) = make_trainer(), small()
    trainer.validate(network, data, verbose=False)
    trainer.fit(network, data)
    assert (RUNS / "version_0" / "checkpoints" / "last.ckpt").exists()
    assert not Path("checkpoints").exists()


def test_signals_are_given_back(command):
    import signal

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        make_trainer().fit(*small())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_fit_that_fails_in_its_first_epoch_leaves_nothing_and_says_so(command):
    class Fails(Callback):
        def on_train_batch_end(self, *_: object) -> None:
            raise RuntimeError("on purpose")

    settings = experiment.trainer_settings(max_epochs=1, accelerator="cpu")
    with pytest.raises(RuntimeError, match="on purpose") as failed:
        Trainer(**settings, callbacks=[*experiment.callbacks(), Fails()]).fit(*small())
    assert failed.value.__notes__ == ["No epoch was finished, and nothing is kept."]
    assert os.listdir() == []


def test_the_public_form_is_that_of_the_readme():
    assert (
        "trainer = Trainer(**experiment.trainer_settings(max_epochs=1), callbacks=experiment.callbacks())"
        in (PROJECT / "README.md").read_text()
    )
