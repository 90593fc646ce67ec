"""Each bad setting ends in one sentence that names it, and leaves nothing behind."""

import os
from pathlib import Path

import pytest
import torch
from conftest import PROJECT, SMALL

from mnist_lightning import commands

FIT = ["fit", *SMALL]


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


NUMBERS = ("many", "[]", "{}", "1.5.2", "true_")
AVERAGING = "{class_path: StochasticWeightAveraging, init_args: {swa_lrs: 0.5, device: cpu}}"
BOMB = (
    "[&a [x], "
    + ", ".join(f"&{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefg", "bcdefgh", strict=True))
    + "]"
)
WATCHING = "{class_path: EarlyStopping, init_args: {monitor: loss}}"
SAVING = "{class_path: ModelCheckpoint, init_args: {monitor: acc}}"
# What each mechanism refuses, in a setting of `fit` or a whole command line: of the words of Lightning, torch and the
# parser, one sentence stays.
MECHANISMS = {
    "the parser, its kinds": [
        ("--data.source=cifar", "data.source"),
        ("--data.seed=1", "seed_everything"),
        ("--seed_everything=-1", "seed_everything is -1"),
        ("--seed_everything=true", "seed_everything"),
        ("--trainer.max_epochs=-5", "max_epochs"),
        ("--trainer.max_epochs=many", "trainer.max_epochs"),
        ("--data.batch_size=3.5", "data.batch_size"),
        ("--data.source", "data.source has no value"),
        ("--model.channels=[32]", "model.channels"),
        ("--model.channels=32", "model.channels"),
        ("--model.learning_rate=fast", "model.learning_rate"),
        ("--model.compile=maybe", "model.compile"),
        ("--model.seed=3", "seed_everything"),
        ("--tf32=perhaps", "tf32"),
        ("--seed_everything=4294967296", "seed_everything is 4294967296"),
        ("--seed_everything=1.5", "seed_everything"),
        *((f"--data.batch_size={value}", f"data.batch_size is {value}: give a whole number") for value in NUMBERS),
        *((f"--model.rho={value}", f"model.rho is {value}: give a number") for value in NUMBERS),
        *((f"--trainer.max_steps={value}", f"trainer.max_steps is {value}: give a whole number") for value in NUMBERS),
        ("--model.hidden=1e30", "model.hidden is 1e+30: give a whole number"),
        ("--model.channels=[1,2,3]", "model.channels is [1, 2, 3]: give a list with 2 elements"),
        ("--trainer.precision=8", "trainer.precision is 8: give one of 64, 32, 16 or one of 'transformer-engine'"),
        ("--trainer.callbacks+=EarlyStopping", "trainer.callbacks cannot be EarlyStopping (the following"),
        ("--trainer.strategy={class_path: DDPStrategy, init_args: {foo: 3}}", "trainer.strategy"),
        ("--trainer.logger.init_args.bogus=3", "trainer.logger cannot be TensorBoardLogger (Option 'bogus'"),
        ("--trainer.max_epochs", "trainer.max_epochs has no value"),
    ],
    "the parser, its names": [
        ("--model.learning_rat=1", "--model.learning_rat"),
        ("--data.batch_siz=32", "--data.batch_siz"),
        ("--trainer.max_epoch=3", "--trainer.max_epoch"),
        ("--weights_only=false", "--weights_only"),
        ("more", "more"),
        ([*FIT, "", ""], "unrecognized arguments: ' '"),
        (["train"], "'train' is not a command"),
        ([], "a command is needed"),
        ("--batch_size=64", "did you mean --data.batch_size?"),
        ("--max_epochs=3", "did you mean --trainer.max_epochs?"),
        ("--hiden=3", "unrecognized arguments: --hiden=3"),
        (["study", f"--name={'x/' * 9999}", "--setups=[a]"], " … "),
        ("--optimizer=Adam", "--optimizer is no setting: it is Adadelta with model.learning_rate"),
        ("--lr_scheduler=StepLR", "--lr_scheduler is no setting: the learning rate is constant"),
        (
            "--model.class_path=my.Net",
            "--model.class_path is no setting, since the class of model cannot be chosen: name one of its settings",
        ),
        (
            "--data.init_args.batch_size=64",
            "--data.init_args.batch_size is no setting, since the class of data cannot be chosen: name one of its settings",
        ),
        ("--model=my.Net", "give a class of your own to commands.main, as docs/own_network.py does"),
        ("--data=my.Data", "data cannot be set as a whole"),
        ("--trainer=null", "trainer cannot be set as a whole"),
        ("--trainer=[]", "trainer cannot be set as a whole"),
        ("--version", "unrecognized arguments: --version"),
    ],
    "numbers that are read as others": [
        ("--seed_everything=08", "seed_everything is 08"),
        ("--seed_everything=1:30", "seed_everything is 1:30"),
        ("--data.batch_size=010", "data.batch_size is 010, which is read as 10"),
        ("--data.batch_size=1:30", "data.batch_size is 1:30, which is read as 90"),
        ("--config={seed_everything: 010}", "has 010, which YAML reads as 8"),
        ("--config={seed_everything: 1:30}", "has 1:30, which YAML reads as 90"),
        ("--config={seed_everything: 08}", "seed_everything is 08"),
    ],
    "configs": [
        ("--config=nowhere.yaml", "config nowhere.yaml cannot be read"),
        ("--config=typo.yaml", "batchsize"),
        ("--config=seed.yaml", "config seed.yaml sets data.seed, which seed_everything sets"),
        ("--config=network.yaml", "network is Perceptron, but this program trains MNISTClassifier"),
        ("--config=broken.yaml", "config broken.yaml is no YAML"),
        ("--config", "config has no value"),
        ("--config=empty.yaml", "config empty.yaml is empty"),
        ("--config=list.yaml", "config list.yaml holds a list"),
        ("--config=big.yaml", "config big.yaml has 104,857,600 bytes"),
        ("--config=binary.yaml", "config binary.yaml is no text"),
        ("--config=tab.yaml", "config tab.yaml is no YAML in line 2"),
        ("--config=deep.yaml", "nest"),
        ("--config=.", "config . is no file"),
        ("--config=other_project.yaml", "optimizer"),
        ("--config=other_class.yaml", "model.class_path"),
        ([*FIT, "--config=typo.yaml", "--config=broken.yaml"], "config broken.yaml is no YAML"),
        ("--config=twice.yaml", "config twice.yaml in line 2 sets batch_size twice"),
        ("--config={data: {batch_size: 4, batch_size: 5}}", "sets batch_size twice"),
        ("--config=bomb.yaml", "grows to more than 100,000 values"),
        ("--config=self.yaml", "contains itself"),
        ("--config=fifo", "config is fifo, which is neither a file nor a folder"),
        ("--config=/dev/zero", "config is /dev/zero, which is neither"),
        ("--trainer=/dev/zero", "trainer is /dev/zero, which is neither"),
        ("--trainer.plugins=[a_file, fifo]", "trainer.plugins is fifo, which is neither a file nor a folder"),
        ("--config={trainer: {plugins: [fifo]}}", "trainer.plugins is fifo, which is neither"),
        ("--trainer.plugins=[2026-99-99]", "trainer.plugins"),
        (f"--trainer.callbacks={BOMB}", "grows to more than 100,000 values by its aliases"),
        ("--trainer=twice.yaml", "trainer twice.yaml in line 2 sets batch_size twice"),
        ("--config=loop", "config loop cannot be read (Too many levels of symbolic links)"),
        (f"--config={'x' * 5000}", "cannot be read (File name too long)"),
        ('--config={data: {data_dir: "a\\0b"}}', "has a NUL character in data.data_dir"),
        ("--config={trainer: null}", "sets trainer to None"),
        ("--config={trainer: []}", "sets trainer to []"),
        ("--config={model: null}", "sets model to None"),
        ("--config={data: 3}", "sets data to 3"),
        ("--config={data: {batch_size: null}}", "data.batch_size is None: give a whole number"),
        ("--config={tf32: null}", "tf32 is None: give true or false"),
        ("--config={data: {seed: 3}}", "sets data.seed, which seed_everything sets"),
        ("--config={model: {seed: 3}}", "sets model.seed, which seed_everything sets"),
        ("--config={fit: {data: {batch_size: 3}}}", "did you mean --data.batch_size?"),
        ("--config={3: 4}", "3"),
        ("--config={a: 2026-99-99}", "has a value that YAML cannot read"),
        ("--config={a: !!python/name:os.system x}", "is no YAML in line 1"),
        ("--config={? [1, 2] : 3}", "is no YAML in line 1"),
        ("--config={trainer: {callbacks: [1, null]}}", "trainer.callbacks is 1: give the name of a class"),
        ("--config={trainer: {max_epochs: .inf}}", "trainer.max_epochs is inf: give a whole number"),
    ],
    "settings that cannot be used together": [
        ("--trainer.logger.init_args.save_dir=a_file/logs", "trainer.logger.init_args.save_dir"),
        ("--trainer.val_check_interval=3", "trainer.val_check_interval is 3"),
        ("--trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches is 0"),
        ("--checkpoint.monitor=foo", "checkpoint.monitor is foo"),
        ("--checkpoint.filename=../{epoch}", "checkpoint.filename is ../{epoch}"),
        ("--checkpoint.dirpath=elsewhere", "checkpoint.dirpath is elsewhere"),
        ("--trainer.max_steps=0", "trainer.max_steps is 0"),
        ("--trainer.limit_train_batches=0", "trainer.limit_train_batches is 0"),
        ([*FIT, "--model.compile=false", "--trainer.limit_train_batches=0.00001"], "limit_train_batches"),
        ("--trainer.max_epochs=0", "trainer.max_epochs is 0"),
        ("--trainer.overfit_batches=2", "trainer.overfit_batches"),
        ("--trainer.max_time=never", "trainer.max_time is never"),
        ("--trainer.use_distributed_sampler=true", "trainer.use_distributed_sampler is True"),
        ("--trainer.callbacks+=BatchSizeFinder", "trainer.callbacks has a BatchSizeFinder"),
        ("--trainer.callbacks+=LearningRateFinder", "trainer.callbacks has a LearningRateFinder"),
        ("--checkpoint.save_top_k=-5", "save_top_k"),
        (
            f"--trainer.callbacks={AVERAGING}",
            "trainer.callbacks has a StochasticWeightAveraging, whose weights come when",
        ),
        (
            f"--trainer.callbacks={WATCHING}",
            "has EarlyStopping with monitor loss, which nothing logs: name one of train/",
        ),
        (f"--trainer.callbacks={SAVING}", "has ModelCheckpoint with monitor acc, which nothing logs"),
        ("--trainer.barebones=true", "trainer.barebones is True"),
        ("--trainer.strategy=ddp_spawn", "trainer.strategy is ddp_spawn"),
        ("--trainer.strategy=ddp_fork", "trainer.strategy is ddp_fork"),
        ("--trainer.strategy=ddp_notebook", "trainer.strategy is ddp_notebook"),
        ("--trainer.strategy=fsdp", "trainer.strategy fsdp cannot be used (The strategy `fsdp` requires a GPU"),
        ("--trainer.strategy=deepspeed", "you must have DeepSpeed installed"),
        ("--trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch is 0"),
        ("--trainer.num_nodes=2", "nothing says where the other machines are"),
        ("--trainer.logger.init_args.save_dir=gs://bucket/logs", "name a folder of this machine"),
        ("--trainer.logger.init_args.save_dir=http://host/logs", "name a folder of this machine"),
        ("--trainer.logger.init_args.sub_dir=sub", "trainer.logger has a sub_dir"),
    ],
    "what libraries refuse when objects are made": [
        (["fit", "--trainer.accelerator=gpu"], "trainer.accelerator gpu"),
        ("--trainer.accelerator=quantum", "trainer.accelerator"),
        ("--trainer.devices=7", "data.batch_size 480 cannot be shared by 7 devices"),
        ("--trainer.devices=0", "trainer.devices 0"),
        ("--checkpoint.every_n_epochs=2", "checkpoint.every_n_epochs is 2"),
        ("--trainer.devices=two", "trainer.devices two"),
        ("--trainer.strategy=magic", "magic"),
        ("--trainer.accelerator=tpu", "trainer.accelerator tpu"),
        ("--trainer.num_nodes=0", "`num_nodes` must be a positive integer"),
        ("--trainer.limit_val_batches=2.5", "limit_val_batches"),
        ("--trainer.check_val_every_n_epoch=0.5", "check_val_every_n_epoch"),
        ("--trainer.logger=NoSuchLogger", "trainer.logger"),
        ("--trainer.logger.class_path=nowhere.Logger", "nowhere"),
        ("--trainer.callbacks+=NoSuchCallback", "trainer.callbacks"),
        ("--trainer.plugins=NoSuchPlugin", "NoSuchPlugin"),
        ("--trainer.fast_dev_run=-1", "fast_dev_run"),
        ("--trainer.reload_dataloaders_every_n_epochs=-1", "reload_dataloaders_every_n_epochs"),
        ("--trainer.detect_anomaly=7", "trainer.detect_anomaly"),
        ("--trainer.gradient_clip_algorithm=shears", "shears"),
        ("--model.kernel_size=15", "model.pool_size"),
        ("--trainer.precision=transformer-engine", "trainer.precision transformer-engine cannot be used (Requirement"),
        ("--trainer.callbacks+=ModelCheckpoint", "Found more than one stateful callback of type `ModelCheckpoint`"),
        (
            "--trainer.callbacks={class_path: Timer, init_args: {duration: soon}}",
            "cannot be used (`Timer(duration='soon')` is not a valid duration): give another value.",
        ),
        ("--trainer.callbacks+=RichProgressBar", "requires `rich`"),
        ("--trainer.logger=WandbLogger", "Requirement 'wandb"),
        ("--trainer.logger=MLFlowLogger", "Requirement 'mlflow"),
        ("--trainer.logger=CometLogger", "Requirement 'comet"),
        ("--model.channels=[1000000,1000000]", "model.channels (1000000, 1000000)"),
        (f"--model.hidden=1{'0' * 30}", "model.hidden 1000"),
    ],
    "the model and the data, their values": [
        ("--data.batch_size=0", "data.batch_size is 0"),
        ("--model.dropout=[2, 0]", "model.dropout"),
        ("--data.batch_size=-128", "data.batch_size is -128"),
        ("--model.channels=[0, 64]", "model.channels is (0, 64)"),
        ("--model.kernel_size=0", "model.kernel_size is 0"),
        ("--model.pool_size=30", "model.pool_size is 30"),
        ("--model.hidden=-1", "model.hidden is -1"),
        ("--model.learning_rate=0", "model.learning_rate is 0"),
        ("--model.rho=2", "model.rho is 2"),
        ("--model.eps=0", "model.eps is 0"),
        (["fit", "--data.source=mnist", "--data.data_dir=a_file"], "data.data_dir a_file"),
    ],
    "checkpoints, which are data": [
        ("--ckpt_path=nowhere.ckpt", "ckpt_path is nowhere.ckpt"),
        ("--ckpt_path=last", "ckpt_path is last"),
        ("--ckpt_path=a_file", "ckpt_path is a_file"),
        ("--ckpt_path=other.pt", "ckpt_path is other.pt"),
        (["test"], "test needs ckpt_path"),
        (["predict"], "predict needs ckpt_path"),
        (["validate"], "validate needs ckpt_path"),
        ("--ckpt_path=cut.ckpt", "ckpt_path is cut.ckpt"),
        ("--ckpt_path=payload.ckpt", "ckpt_path is payload.ckpt"),
        (["test", "--data.source=sample", "--ckpt_path=payload.ckpt"], "ckpt_path is payload.ckpt"),
        (["predict", "--data.source=sample", "--ckpt_path=payload.ckpt"], "ckpt_path is payload.ckpt"),
        (["validate", "--ckpt_path=."], "ckpt_path is ."),
    ],
}


ENVIRONMENTS = [
    ("LOCAL_RANK=abc", "LOCAL_RANK is 'abc', which is no number"),
    ("LOCAL_RANK=1", "LOCAL_RANK is 1, but MASTER_PORT is not set"),
    ("RANK=1", "RANK is 1, but TORCHELASTIC_RUN_ID is not set"),
    ("RANK=-1", "RANK is '-1', which is no number"),
    ("MASTER_PORT=abc", "MASTER_PORT is 'abc'"),
    ("NODE_RANK=one", "NODE_RANK is 'one'"),
    ("WORLD_SIZE=two", "WORLD_SIZE is 'two'"),
    ("SLURM_NTASKS=abc", "SLURM_NTASKS is 'abc'"),
    ("SLURM_NTASKS=2", "SLURM_NTASKS is 2, but SLURM_NTASKS_PER_NODE is not set"),
    ("SLURM_PROCID=3", "SLURM_PROCID is 3, but SLURM_NTASKS is not set"),
    ("SLURM_RESTART_COUNT=x", "SLURM_RESTART_COUNT is 'x'"),
    ("TORCHELASTIC_RESTART_COUNT=x", "TORCHELASTIC_RESTART_COUNT is 'x'"),
    ("TORCHELASTIC_RUN_ID=x", "TORCHELASTIC_RUN_ID is set, but RANK is not"),
]
ROWS = [row for rows in MECHANISMS.values() for row in rows]


@pytest.mark.parametrize(
    ("given", "says"), ROWS, ids=[f"{number} {str(row[0])[:60]}" for number, row in enumerate(ROWS)]
)
def test_each_mechanism_makes_one_sentence(bad_files, monkeypatch, capfd, given, says):
    refused(bad_files, monkeypatch, capfd, [*FIT, given] if isinstance(given, str) else given, says)


@pytest.mark.parametrize(("environment", "says"), ENVIRONMENTS)
def test_a_broken_environment_is_one_sentence(bad_files, monkeypatch, capfd, environment, says):
    name, _, value = environment.partition("=")
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(commands, "end_with_parent", lambda: None)  # its thread would stay
    refused(bad_files, monkeypatch, capfd, FIT, says)


def test_what_nobody_expected_is_one_sentence_with_a_file(bad_files, monkeypatch, capfd):
    def defect(**classes):
        raise KeyError("a defect")

    monkeypatch.chdir(bad_files)
    monkeypatch.setattr("mnist_lightning.cli.main", defect)
    monkeypatch.setattr("sys.argv", ["mnist-lightning", "fit"])
    assert commands.main() == 1
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith("error: KeyError: 'a defect', which is not expected: ")
    file = Path(said.split("expected: ")[1].partition(" has the traceback and the versions.")[0])
    assert "in defect" in file.read_text() and "mnist-lightning fit" in file.read_text()
    monkeypatch.setenv("MNIST_LIGHTNING_DEBUG", "1")
    assert commands.main() == 1
    assert "Traceback" in capfd.readouterr().err


def test_the_table_is_as_long_as_the_page_says():
    (row,) = [
        line for line in (PROJECT / "docs" / "faults.md").read_text().splitlines() if "Wrong command lines" in line
    ]
    assert int(row.split("|")[2]) == len(ROWS) + len(ENVIRONMENTS) >= 150


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory) -> Path:
    """A folder of files that are no configs or checkpoints."""
    folder = tmp_path_factory.mktemp("bad")
    texts = {
        "a_file": "not a checkpoint",
        "typo.yaml": "data:\n  batchsize: 3\n",
        "broken.yaml": "data: [3\n",
        "empty.yaml": "# nothing\n",
        "list.yaml": "- data\n- model\n",
        "tab.yaml": "data:\n\tbatch_size: 3\n",
        "deep.yaml": "[" * 100_000,
        "other_project.yaml": "optimizer:\n  lr: 0.1\n",
        "other_class.yaml": "model:\n  class_path: nowhere.Model\n",
        "seed.yaml": "data: {seed: 3}\n",
        "network.yaml": "network: Perceptron\nmodel: {hidden: 64}\n",
        "twice.yaml": "data:\n  batch_size: 3\n  batch_size: 4\n",
        "self.yaml": "a: &a [*a]\n",
        "bomb.yaml": "a: &a [x]\n"
        + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "binary.yaml").write_bytes(b"\x80\x04\xff\xfe")
    with (folder / "big.yaml").open("wb") as file:
        file.truncate(100 << 20)
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    torch.save({"state_dict": {}}, folder / "other.pt")
    (folder / "cut.ckpt").write_bytes((folder / "other.pt").read_bytes()[:500])
    torch.save({"state_dict": {}, "epoch": 0, "hyper_parameters": Payload()}, folder / "payload.ckpt")
    return folder


def refused(folder: Path, monkeypatch, capfd, args: list[str], says: str) -> None:
    monkeypatch.chdir(folder)
    there = sorted(os.listdir())
    monkeypatch.setattr("sys.argv", ["mnist-lightning", *args])
    assert commands.main() == 2
    error = capfd.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("error: ") and len(error) < 3000
    assert len([line for line in error.splitlines() if "usage" not in line]) <= 3 or args[:1] in ([], ["train"])
    assert sorted(os.listdir()) == there


@pytest.mark.slow
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
