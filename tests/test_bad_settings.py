"""Each wrong setting ends in one line that names it, and leaves nothing behind: a row for each way to be wrong."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import PROJECT, SMALL, spawn

FIT = ["fit", *SMALL, "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
RUN = "logs/1xcpu-b0480-s0/version_0"
OLD = f"--ckpt_path={RUN}/checkpoints/epoch=00.ckpt"
# Settings of `fit`, each of which the error names.
OPTIONS = """
--data.batch_size=many --data.batch_size=3.5 --data.batch_size=0 --data.source=Sample --data.seed=3 --data.images=.
--model.channels=[32] --model.channels=[0,64] --model.compile=maybe --model.hidden=1e30 --model.hidden=-1
--model.seed=3 --model.hidden=1000000000000 --model.pool_size=0 --model.dropout=[1,0] --model.learning_rate=nan
--model.rho=[] --model.rho=2 --model.eps=0 --model.learning_rat=1 --model.class_path=my.Net --batch_size=64
--optimizer=Adam --seed_everything=-1 --seed_everything=4294967296 --seed_everything=1.5 --tf32=perhaps
--config=nowhere.yaml --trainer.max_epochs=many --trainer.max_epochs --trainer.max_epochs=0
--trainer.limit_train_batches=some --trainer.limit_val_batches=2.5 --trainer.precision=8
--trainer.precision=transformer-engine --trainer.max_time=never --trainer.accelerator=gpu
--trainer.accelerator=quantum --trainer.devices=0 --trainer.strategy=magic --trainer.strategy=fsdp
--trainer.strategy=ddp_spawn --trainer.strategy=ddp_fork --trainer.logger=NoSuchLogger --trainer.plugins=NoSuchPlugin
--trainer.overfit_batches=2 --trainer.val_check_interval=3 --trainer.max_steps=3 --trainer.barebones=true
--trainer.accumulate_grad_batches=0 --trainer.check_val_every_n_epoch=0 --checkpoint.save_top_k=-5
--ckpt_path=nowhere.ckpt --ckpt_path=. --ckpt_path=other.pt --ckpt_path=payload.ckpt
"""
# The same, or whole command lines, with what the error names instead.
NAMED = [
    ([], "fit, validate, test, predict"),
    (["train"], "train"),
    (["fit", "more"], "more"),
    ("--config=typo.yaml", "data.batchsize"),
    ("--config=network.yaml", "Perceptron"),
    ("--config=broken.yaml", "config"),
    ("--config=list.yaml", "config"),
    ("--config={data: {batch_size: null}}", "config"),
    ("--model.kernel_size=15", "model.pool_size"),  # nothing is left of the image
    ("--trainer.callbacks+=NoSuchCallback", "trainer.callbacks"),
    ("--trainer.callbacks+=BatchSizeFinder", "trainer.callbacks"),
    ("--trainer.callbacks+=LearningRateFinder", "trainer.callbacks"),
    ("--trainer.callbacks={class_path: Timer, init_args: {duration: soon}}", "trainer.callbacks"),
    ("--trainer.callbacks={class_path: ModelCheckpoint, init_args: {monitor: acc}}", "monitor"),
    ("--trainer.logger.init_args.version=0", "trainer.logger"),  # which is there
    ("--trainer.limit_train_batches=0", "limit_train_batches"),
    ("--trainer.max_time=00:00:00:00", "max_time"),
    (["test", "--data.source=sample", "--ckpt_path=payload.ckpt"], "ckpt_path"),
    (["test", "--data.source=sample", OLD, "--model.hidden=6"], "ckpt_path"),
    (["validate"], "ckpt_path"),
    (["predict", "--data.source=sample", OLD, "--predictions.path=typo.yaml"], "predictions.path"),
    (["predict", "--data.source=sample", OLD, "--predictions.path=other.csv"], "predictions.path"),
]
# What the system refuses has another exit code, and names a path.
OF_THE_SYSTEM = ["--trainer.logger.init_args.save_dir=typo.yaml/logs", "--trainer.logger.init_args.sub_dir=sub"]


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.fixture
def there(tmp_path, monkeypatch):
    """Where no wrong command may change anything: files that are no configs or checkpoints, and a run of earlier code."""
    monkeypatch.chdir(tmp_path)
    Path("typo.yaml").write_text("data:\n  batchsize: 3\n")
    Path("network.yaml").write_text("network: Perceptron\n")
    Path("broken.yaml").write_text("data: [3\n")
    Path("list.yaml").write_text("- data\n- model\n")
    Path("other.csv").write_text("name,age\n")
    torch.save({"state_dict": {}}, "other.pt")
    torch.save({"state_dict": {}, "epoch": 0, "hyper_parameters": Payload()}, "payload.ckpt")
    shutil.copytree(PROJECT / "tests" / "written_before", RUN)
    paths = lambda: (path for path in Path().rglob("*") if path.name != ".lock")
    return lambda: {path: path.is_file() and path.stat().st_mtime_ns for path in paths()}


@pytest.mark.parametrize(
    ("given", "named", "code"),
    [(option, option.strip("-").partition("=")[0], 2) for option in OPTIONS.split()]
    + [(*row, 2) for row in NAMED]
    + [(option, option.partition("=")[2], 1) for option in OF_THE_SYSTEM],
    ids=lambda value: str(value)[:60],
)
def test_a_wrong_setting_is_named_in_one_line_and_leaves_nothing(there, command, capfd, given, named, code):
    before = there()
    assert command(*([*FIT, given] if isinstance(given, str) else given)) == code
    said = capfd.readouterr().err
    assert said.splitlines()[-1].startswith("error: ") and named in said.splitlines()[-1]
    assert said.count("error: ") == 1 and "Traceback" not in said
    assert there() == before


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--data.batch_size=479"])
def test_what_two_devices_cannot_share_is_named(tmp_path, option):
    done = spawn(tmp_path, *FIT, "--trainer.devices=2", option)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and last.startswith("error: ") and option.strip("-").partition("=")[0] in last
    assert list(tmp_path.iterdir()) == []
