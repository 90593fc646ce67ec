"""Each bad setting ends in one sentence that names it, and leaves nothing behind."""

import os
from pathlib import Path

import pytest
import torch
from conftest import SMALL

from mnist_lightning import commands

FIT = ["fit", *SMALL]


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["fit", "--trainer.accelerator=gpu"], "trainer.accelerator gpu"),
        ([*FIT, "--trainer.accelerator=quantum"], "trainer.accelerator"),
        ([*FIT, "--trainer.devices=7"], "data.batch_size 480 cannot be shared by 7 devices"),
        ([*FIT, "--trainer.devices=0"], "trainer.devices 0"),
        ([*FIT, "--data.batch_size=0"], "data.batch_size is 0"),
        ([*FIT, "--data.batch_size=many"], "data.batch_size"),
        ([*FIT, "--data.source=cifar"], "data.source"),
        ([*FIT, "--data.seed=1"], "seed_everything"),
        ([*FIT, "--model.dropout=[2, 0]"], "model.dropout"),
        ([*FIT, "--model.learning_rat=1"], "--model.learning_rat"),
        ([*FIT, "--trainer.logger.init_args.save_dir=a_file/logs"], "trainer.logger.init_args.save_dir"),
        ([*FIT, "--ckpt_path=nowhere.ckpt"], "ckpt_path is nowhere.ckpt"),
        ([*FIT, "--ckpt_path=last"], "ckpt_path is last"),
        ([*FIT, "--ckpt_path=a_file"], "ckpt_path is a_file"),
        ([*FIT, "--ckpt_path=other.pt"], "ckpt_path is other.pt"),
        ([*FIT, "--config=nowhere.yaml"], "config nowhere.yaml cannot be read"),
        ([*FIT, "--config=typo.yaml"], "batchsize"),
        ([*FIT, "--config=seed.yaml"], "config seed.yaml sets data.seed, which seed_everything sets"),
        ([*FIT, "--config=network.yaml"], "network is Perceptron, but this program trains MNISTClassifier"),
        ([*FIT, "--config=broken.yaml"], "config broken.yaml is no YAML"),
        ([*FIT, "--seed_everything=-1"], "seed_everything is -1"),
        ([*FIT, "--seed_everything=true"], "seed_everything"),
        ([*FIT, "--trainer.max_epochs=-5"], "max_epochs"),
        ([*FIT, "--trainer.val_check_interval=3"], "trainer.val_check_interval is 3"),
        ([*FIT, "--trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches is 0"),
        ([*FIT, "--checkpoint.monitor=foo"], "checkpoint.monitor is foo"),
        ([*FIT, "--checkpoint.every_n_epochs=2"], "checkpoint.every_n_epochs is 2"),
        ([*FIT, "--checkpoint.filename=../{epoch}"], "checkpoint.filename is ../{epoch}"),
        ([*FIT, "--checkpoint.dirpath=elsewhere"], "checkpoint.dirpath is elsewhere"),
        ([*FIT, "--trainer.max_steps=0"], "trainer.max_steps is 0"),
        ([*FIT, "--trainer.limit_train_batches=0"], "trainer.limit_train_batches is 0"),
        ([*FIT, "--trainer.limit_train_batches=0.00001"], "limit_train_batches"),
        ([*FIT, "--trainer.max_epochs=0"], "trainer.max_epochs is 0"),
        ([*FIT, "--trainer.max_epochs=many"], "trainer.max_epochs"),
        ([*FIT, "--trainer.overfit_batches=2"], "trainer.overfit_batches"),
        (["fit", "--data.source=mnist", "--data.data_dir=a_file"], "data.data_dir a_file"),
        (["test"], "test needs ckpt_path"),
        (["predict"], "predict needs ckpt_path"),
        (["validate"], "validate needs ckpt_path"),
        ([*FIT, "--data.batch_size=3.5"], "data.batch_size"),
        ([*FIT, "--data.batch_size=-128"], "data.batch_size is -128"),
        ([*FIT, "--data.batch_siz=32"], "--data.batch_siz"),
        ([*FIT, "--data.source"], "data.source has no value"),
        ([*FIT, "--trainer.max_epoch=3"], "--trainer.max_epoch"),
        ([*FIT, "--trainer.devices=two"], "trainer.devices two"),
        ([*FIT, "--trainer.precision=8"], "trainer.precision"),
        ([*FIT, "--trainer.strategy=magic"], "magic"),
        ([*FIT, "--trainer.accelerator=tpu"], "trainer.accelerator tpu"),
        ([*FIT, "--trainer.num_nodes=0"], "`num_nodes` must be a positive integer"),
        ([*FIT, "--trainer.limit_val_batches=2.5"], "limit_val_batches"),
        ([*FIT, "--trainer.check_val_every_n_epoch=0.5"], "check_val_every_n_epoch"),
        ([*FIT, "--trainer.max_time=never"], "trainer.max_time is never"),
        ([*FIT, "--trainer.use_distributed_sampler=true"], "trainer.use_distributed_sampler is True"),
        ([*FIT, "--trainer.logger=NoSuchLogger"], "trainer.logger"),
        ([*FIT, "--trainer.logger.class_path=nowhere.Logger"], "nowhere"),
        ([*FIT, "--trainer.callbacks+=NoSuchCallback"], "trainer.callbacks"),
        ([*FIT, "--trainer.callbacks+=BatchSizeFinder"], "trainer.callbacks has a BatchSizeFinder"),
        ([*FIT, "--trainer.callbacks+=LearningRateFinder"], "trainer.callbacks has a LearningRateFinder"),
        ([*FIT, "--trainer.plugins=NoSuchPlugin"], "NoSuchPlugin"),
        ([*FIT, "--trainer.fast_dev_run=-1"], "fast_dev_run"),
        ([*FIT, "--trainer.reload_dataloaders_every_n_epochs=-1"], "reload_dataloaders_every_n_epochs"),
        ([*FIT, "--trainer.detect_anomaly=7"], "trainer.detect_anomaly"),
        ([*FIT, "--trainer.gradient_clip_algorithm=shears"], "shears"),
        ([*FIT, "--model.channels=[0, 64]"], "model.channels is (0, 64)"),
        ([*FIT, "--model.channels=[32]"], "model.channels"),
        ([*FIT, "--model.channels=32"], "model.channels"),
        ([*FIT, "--model.kernel_size=0"], "model.kernel_size is 0"),
        ([*FIT, "--model.kernel_size=15"], "model.pool_size"),
        ([*FIT, "--model.pool_size=30"], "model.pool_size is 30"),
        ([*FIT, "--model.hidden=-1"], "model.hidden is -1"),
        ([*FIT, "--model.learning_rate=0"], "model.learning_rate is 0"),
        ([*FIT, "--model.learning_rate=fast"], "model.learning_rate"),
        ([*FIT, "--model.rho=2"], "model.rho is 2"),
        ([*FIT, "--model.eps=0"], "model.eps is 0"),
        ([*FIT, "--model.compile=maybe"], "model.compile"),
        ([*FIT, "--model.seed=3"], "seed_everything"),
        ([*FIT, "--tf32=perhaps"], "tf32"),
        ([*FIT, "--weights_only=false"], "--weights_only"),
        ([*FIT, "--checkpoint.save_top_k=-5"], "save_top_k"),
        ([*FIT, "--seed_everything=4294967296"], "seed_everything is 4294967296"),
        ([*FIT, "--seed_everything=1.5"], "seed_everything"),
        ([*FIT, "--config"], "config has no value"),
        ([*FIT, "--config=empty.yaml"], "config empty.yaml is empty"),
        ([*FIT, "--config=list.yaml"], "config list.yaml holds a list"),
        ([*FIT, "--config=big.yaml"], "config big.yaml has 104,857,600 bytes"),
        ([*FIT, "--config=binary.yaml"], "config binary.yaml is no YAML"),
        ([*FIT, "--config=tab.yaml"], "config tab.yaml is no YAML in line 2"),
        ([*FIT, "--config=deep.yaml"], "config deep.yaml is nested too deeply"),
        ([*FIT, "--config=."], "config . is no file"),
        ([*FIT, "--config=other_project.yaml"], "optimizer"),
        ([*FIT, "--config=other_class.yaml"], "model.class_path"),
        ([*FIT, "--config=typo.yaml", "--config=broken.yaml"], "config broken.yaml is no YAML"),
        ([*FIT, "more"], "more"),
        ([*FIT, "--ckpt_path=cut.ckpt"], "ckpt_path is cut.ckpt"),
        ([*FIT, "--ckpt_path=payload.ckpt"], "ckpt_path is payload.ckpt"),
        (["test", "--data.source=sample", "--ckpt_path=payload.ckpt"], "ckpt_path is payload.ckpt"),
        (["predict", "--data.source=sample", "--ckpt_path=payload.ckpt"], "ckpt_path is payload.ckpt"),
        (["validate", "--ckpt_path=."], "ckpt_path is ."),
        (["train"], "'train' is not a command"),
        ([], "a command is needed"),
    ],
)
def test_a_bad_setting_is_one_sentence(command, monkeypatch, capfd, args, says):
    command  # noqa: B018 - an empty folder
    with open("a_file", "w") as file:
        file.write("not a checkpoint")
    with open("typo.yaml", "w") as file:
        file.write("data:\n  batchsize: 3\n")
    with open("broken.yaml", "w") as file:
        file.write("data: [3\n")
    Path("seed.yaml").write_text("data: {seed: 3}\n")
    Path("network.yaml").write_text("network: Perceptron\nmodel: {hidden: 64}\n")
    Path("empty.yaml").write_text("# nothing\n")
    Path("list.yaml").write_text("- data\n- model\n")
    Path("binary.yaml").write_bytes(b"\x80\x04\xff\xfe")
    Path("tab.yaml").write_text("data:\n\tbatch_size: 3\n")
    Path("deep.yaml").write_text("[" * 100_000)
    Path("other_project.yaml").write_text("optimizer:\n  lr: 0.1\n")
    Path("other_class.yaml").write_text("model:\n  class_path: nowhere.Model\n")
    with open("big.yaml", "wb") as file:
        file.truncate(100 << 20)
    torch.save({"state_dict": {}}, "other.pt")
    Path("cut.ckpt").write_bytes(Path("other.pt").read_bytes()[:500])
    torch.save({"state_dict": {}, "epoch": 0, "hyper_parameters": Payload()}, "payload.ckpt")
    there = sorted(os.listdir())
    monkeypatch.setattr("sys.argv", ["mnist-lightning", *args])

    assert commands.main() == 2
    error = capfd.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("error: ")
    assert len([line for line in error.splitlines() if "usage" not in line]) <= 3 or args[:1] in (
        [],
        ["train"],
    )
    assert sorted(os.listdir()) == there


def test_what_a_checkpoint_fixes_is_refused_or_obeyed(command, capsys):
    assert command(*FIT, "--trainer.max_epochs=1", "--seed_everything=5") == 0
    runs = "logs/1xcpu/batch_size=0480/seed=5"
    last = f"{runs}/version_0/checkpoints/last.ckpt"
    capsys.readouterr()
    for setting in (
        "--model.hidden=128",
        "--model.learning_rate=0.25",
        "--data.batch_size=128",
        "--seed_everything=0",
    ):
        assert command("fit", "--data.source=sample", "--ckpt_path", last, setting) == 2
        error = capsys.readouterr().err
        name, value = setting.lstrip("-").split("=")
        assert f"{name} is {value}, but the checkpoint was trained with" in error
    assert command("fit", "--data.source=sample", "--ckpt_path", last, "--trainer.devices=2") == 2
    assert "the checkpoint's run began as 1xcpu" in capsys.readouterr().err
    assert command("fit", "--data.source=sample", "--ckpt_path", last, "--trainer.max_epochs=0") == 2
    assert "trainer.max_epochs is 0, but the checkpoint has trained 1 epochs" in capsys.readouterr().err
    precision = "--trainer.precision=64-true"
    assert command("fit", "--data.source=sample", "--ckpt_path", last, precision) == 2
    assert "the checkpoint's run began as 32-true" in capsys.readouterr().err

    # Named or not, what it was trained with goes on.
    assert (
        command("fit", "--data.source=sample", "--ckpt_path", last, "--trainer.max_epochs=2", "--model.hidden=16") == 0
    )
    assert os.listdir(runs) == ["version_0"]
    state = torch.load(last, weights_only=True)
    assert (state["epoch"], state["hyper_parameters"]["hidden"], state["hyper_parameters"]["seed"]) == (
        1,
        16,
        5,
    )
    assert state["datamodule_hyper_parameters"]["batch_size"] == 480


def test_checkpoints_that_training_cannot_go_on_from_are_refused(command, capsys):
    own = {"every_n_train_steps": 4, "save_top_k": -1, "filename": "{step}"}
    steps = ["--trainer.callbacks=lightning.pytorch.callbacks.ModelCheckpoint"]
    steps += [f"--trainer.callbacks.{name}={value}" for name, value in own.items()]
    assert command(*FIT, "--trainer.max_epochs=1", *steps) == 0
    run = Path("logs/1xcpu/batch_size=0480/seed=0/version_0")
    summary = (run / "summary.json").read_bytes()
    middle = run / "checkpoints" / "step=4.ckpt"
    whole = torch.load(middle, weights_only=True)
    torch.save({**whole, "callbacks": {}}, "weights_alone.ckpt")
    other = {**whole["state_dict"], "dense1.bias": torch.zeros(3)}
    torch.save({**whole, "state_dict": other}, "other_network.ckpt")
    torch.save({**whole, "hyper_parameters": {"layers": 3}}, "another_project.ckpt")
    capsys.readouterr()
    for evaluation, path, says in (
        ("fit", middle, "of the middle of an epoch"),
        ("fit", "weights_alone.ckpt", "holds weights alone"),
        ("test", "other_network.ckpt", "another network"),
        ("test", "another_project.ckpt", "a checkpoint of something else"),
    ):
        assert command(evaluation, "--data.source=sample", "--ckpt_path", path) == 2
        assert says in capsys.readouterr().err
    assert (run / "summary.json").read_bytes() == summary
    assert command("test", "--data.source=sample", "--ckpt_path", "weights_alone.ckpt") == 0


def test_a_run_that_is_there_is_never_written_over(command, capsys):
    assert command(*FIT, "--trainer.max_epochs=1") == 0
    run = Path("logs/1xcpu/batch_size=0480/seed=0/version_0")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert command(*FIT, "--trainer.logger.init_args.version=0") == 2
    assert "which is there already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
