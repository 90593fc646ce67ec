"""What a checkpoint adds to a command line, and a run that an earlier version of the code wrote."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PROJECT
from jsonargparse import Namespace
from test_fit import weights

from mnist_lightning.errors import SettingError
from mnist_lightning.parsing.config_file import flat
from mnist_lightning.runs.checkpoints import read_checkpoint
from mnist_lightning.runs.jobs import JOB
from mnist_lightning.runs.resuming import effective_arguments

BEFORE = PROJECT / "tests" / "written_before"
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "mine",
    "TORCHELASTIC_RESTART_COUNT": "1",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "here",
    "MASTER_PORT": "1",
}


def parse(argv: list[str]) -> Namespace:
    """A stand-in for the parser of `fit`: options are `--name=value`, and the last one wins."""
    options = dict(option.removeprefix("--").split("=", 1) for option in argv[1:])
    trainer = Namespace(
        accelerator="cpu",
        devices=1,
        num_nodes=1,
        strategy="auto",
        logger=Namespace(init_args=Namespace(save_dir="logs", name=None)),
    )
    settings = {"ckpt_path": options.get("ckpt_path"), "config": options.get("config"), "trainer": trainer}
    model = Namespace({name.removeprefix("--model.").partition("=")[0]: None for name in FIXED})
    return Namespace({argv[0]: Namespace(**settings, model=model, data=Namespace(batch_size=480), seed_everything=0)})


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The run that was written before, where `fit` would look for it."""
    monkeypatch.chdir(tmp_path)
    run = Path("logs/1xcpu/batch_size=0480/seed=0/version_0")
    shutil.copytree(BEFORE, run)
    (run / "checkpoints" / "last.ckpt").symlink_to("epoch=00.ckpt")
    return run


FIXED = [
    "--model.channels=[2, 3]",
    "--model.kernel_size=3",
    "--model.pool_size=2",
    "--model.hidden=5",
    "--model.dropout=[0.0, 0.0]",
    "--model.learning_rate=1.0",
    "--model.rho=0.95",
    "--model.eps=1e-07",
    "--model.compile=null",
]


def test_a_command_without_a_checkpoint_is_what_was_typed(run):
    argv = ["fit", "--trainer.max_epochs=3"]
    assert effective_arguments(argv, parse, {}) == argv == ["fit", "--trainer.max_epochs=3"]


def test_a_resumed_fit_has_the_runs_settings_first_and_what_was_typed_last(run):
    typed = ["--trainer.max_epochs=3", f"--ckpt_path={run}/checkpoints/last.ckpt"]
    fixed = ["fit", *FIXED, "--data.batch_size=480", "--seed_everything=0"]
    effective = effective_arguments(["fit", *typed], parse, {})
    assert effective[: len(fixed)] == fixed and effective[-2:] == typed
    # Its config is read as data: what it names is set, one by one, but for the places of the run.
    config = flat(yaml.safe_load((run / "config.yaml").read_text()))
    assert {"--trainer.limit_train_batches=null", "--data.source=sample", "--tf32=false"} <= set(effective)
    places = ("model.", "trainer.logger.", "ckpt_path", "config", "predictions.", "seed_everything", "data.batch_size")
    assert len(effective) == len(fixed) + 2 + len([name for name in config if not name.startswith(places)])
    own = ["--config=mine.yaml", *typed]
    assert effective_arguments(["fit", *own], parse, {}) == [*fixed, *own]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("callbacks", [{"class_path": "evil.Callback"}]),
        ("callbacks", "evil.Callback"),
        ("strategy", "evil.Strategy"),
        ("plugins", {"class_path": "evil.Plugin"}),
        ("logger", {"class_path": "evil.Logger"}),
    ],
)
def test_classes_that_a_runs_config_names_are_used_only_if_the_user_names_the_config(run, name, value):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"][name] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    typed = f"--ckpt_path={run}/checkpoints/last.ckpt"
    with pytest.raises(SettingError, match=rf"names classes in trainer.{name}, .* --config {run}/config.yaml"):
        effective_arguments(["fit", typed], parse, {})
    assert effective_arguments(["fit", f"--config={run}/config.yaml", typed], parse, {})[-1] == typed
    assert effective_arguments(["test", typed], parse, {}) == ["test", *FIXED, typed]


def test_a_checkpoint_of_a_network_with_other_settings_is_named(run):
    def other(argv: list[str]) -> Namespace:
        config = parse(argv)
        config[argv[0]].model = Namespace(hidden=None, learning_rate=None)
        return config

    for command in ("fit", "test", "predict"):
        with pytest.raises(SettingError, match="a checkpoint of another network, which has channels"):
            effective_arguments([command, f"--ckpt_path={run}/checkpoints/last.ckpt"], other, {})


@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        ("optimizer_states", [], "whose optimizer_states are not whole"),
        ("optimizer_states", None, "whose optimizer_states are not whole"),
        ("epoch", "1", "a checkpoint of something else"),
        ("state_dict", 3, "a checkpoint of something else"),
        ("loops", {}, "of the middle of an epoch"),
        ("callbacks", {"RunRecord": 1, "WallClock": 2}, "holds weights alone"),
    ],
)
def test_a_checkpoint_that_was_edited_is_refused(run, part, value, says):
    last = run / "checkpoints" / "epoch=00.ckpt"
    torch.save({**torch.load(last, weights_only=True), part: value}, last)
    with pytest.raises(SettingError, match=says):
        read_checkpoint(str(last), resume=True)


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("callbacks WallClock", {}, "callbacks.WallClock.fit is missing"),
        ("callbacks WallClock fit", "x", "callbacks.WallClock.fit is x, which is not a number"),
        ("callbacks WallClock epochs", [{"seconds/epoch": None}], "WallClock.epochs.0..seconds/epoch is None"),
        ("callbacks WarmUp", {}, "callbacks.WarmUp.seconds is missing"),
        ("callbacks RunRecord metrics", None, "callbacks.RunRecord.metrics is None, which has no names"),
        ("callbacks RunRecord validations", {0: {"val/loss": "x"}}, "validations.0.val/loss is x"),
        ("callbacks RunRecord config", [1], "callbacks.RunRecord.config is .1., which is no dict"),
        ("callbacks RunRecord setup", 1, "callbacks.RunRecord.setup is 1, which is no str"),
        ("datamodule_hyper_parameters batch_size", "x", "datamodule_hyper_parameters.batch_size is x"),
        ("epoch", -5, "a checkpoint of something else .epoch is -5, which is not a whole number above -1"),
        ("epoch", 10**30, "a checkpoint of something else .epoch is 1000"),
        ("hyper_parameters seed", "a", "a checkpoint of something else .hyper_parameters.seed is a"),
        ("state_dict conv1.weight", 3, "state_dict.conv1.weight is 3, which is no Tensor"),
        ("global_step", -3, "global_step is -3"),
        ("pytorch-lightning_version", 3, "pytorch-lightning_version is 3"),
        ("loops fit_loop", None, "of the middle of an epoch"),
        ("optimizer_states", [{"state": {0: 1}, "param_groups": []}], "whose optimizer_states are not whole"),
    ],
)
def test_a_value_of_a_checkpoint_that_was_edited_is_named(run, place, value, says):
    last = run / "checkpoints" / "epoch=00.ckpt"
    checkpoint = inner = torch.load(last, weights_only=True)
    *groups, name = place.split(" ")
    for group in groups:
        inner = inner[group]
    inner[name] = value
    torch.save(checkpoint, last)
    with pytest.raises(SettingError, match=says):
        read_checkpoint(str(last), resume=True)


def test_a_state_of_the_optimizer_that_was_edited_is_refused(command, run, capsys):
    last = run / "checkpoints" / "epoch=00.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["optimizer_states"][0]["state"][0]["square_avg"] = torch.zeros(3)
    torch.save(checkpoint, last)
    assert command("fit", "--ckpt_path", last, "--trainer.max_epochs=2") == 2
    assert "whose optimizer_states are of another network" in capsys.readouterr().err
    checkpoint["optimizer_states"][0]["state"][0] = {}
    checkpoint["callbacks"]["RunRecord"]["optimizer_states"] = [len(checkpoint["optimizer_states"][0]["state"])]
    torch.save(checkpoint, last)
    with pytest.raises(SettingError, match="whose optimizer_states are not whole"):
        read_checkpoint(str(last), resume=True)


def test_an_evaluation_has_the_networks_settings_alone(run):
    typed = f"--ckpt_path={run}/checkpoints/last.ckpt"
    assert effective_arguments(["test", typed], parse, {}) == ["test", *FIXED, typed]
    with pytest.raises(SettingError, match="predict needs ckpt_path"):
        effective_arguments(["predict"], parse, {})


def test_a_job_that_is_started_again_goes_on_from_what_it_left(run):
    (run / "summary.json").unlink()
    assert effective_arguments(["fit"], parse, TORCHRUN) == ["fit"]
    (run / JOB).write_text("torchrun mine")
    assert effective_arguments(["fit"], parse, TORCHRUN)[-1] == f"--ckpt_path={run}/checkpoints/last.ckpt"
    assert effective_arguments(["fit"], parse, {**TORCHRUN, "TORCHELASTIC_RUN_ID": "other"}) == ["fit"]


def test_a_run_of_earlier_code_is_rerun_and_resumed(command, run):
    recorded = json.loads((run / "summary.json").read_text())["metrics"]
    assert command("fit", "--config", run / "config.yaml", "--trainer.max_epochs=2") == 0
    again = run.with_name("version_1")
    first = json.loads((again / "summary.json").read_text())["by_epoch"]["val/loss"][0]
    # Another processor rounds otherwise.
    assert first == pytest.approx(recorded["val/loss"], rel=1e-4)

    assert command("fit", "--ckpt_path", run / "checkpoints" / "last.ckpt", "--trainer.max_epochs=2") == 0
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["epochs"], summary["steps"], summary["resumed"]) == (2, 18, True)
    for name, weight in weights(run).items():
        torch.testing.assert_close(weight, weights(again)[name], rtol=1e-3, atol=1e-4)
