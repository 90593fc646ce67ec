"""Processes that are killed, stopped, lost or hindered: nothing hangs, nothing is lost, nothing is left behind."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from conftest import PROJECT, SMALL
from processes import Started, wait_for
from test_fit import results, same_weights, weights

from mnist_lightning.durability.checkpoint_file import CheckpointFile
from mnist_lightning.errors import SettingError

LONG = [*SMALL, "--trainer.accelerator=cpu", "--trainer.max_epochs=60"]


@pytest.fixture
def start():
    """Starts a fit; what it leaves is killed at the end of the test."""
    started: list[Started] = []

    def one(*args: object, **environment: str) -> Started:
        started.append(Started(*args, **environment))
        return started[-1]

    yield one
    for each in started:
        for pid in each.processes():
            os.kill(pid, signal.SIGKILL)
        each.process.wait()


def run(folder: Path, version: int = 0, setup: str = "1xcpu") -> Path:
    return folder / f"logs/{setup}/batch_size=0480/seed=0/version_{version}"


def last(folder: Path, setup: str = "1xcpu") -> Path:
    return run(folder, setup=setup) / "checkpoints" / "last.ckpt"


def end_of_epoch(epoch: int) -> dict[str, object]:
    """What a checkpoint holds that training can go on from, as far as a save looks at it."""
    progress = {"ready": epoch + 1, "started": epoch + 1, "processed": epoch + 1, "completed": epoch}
    loop = {"epoch_progress": {"current": progress}, "epoch_loop.batch_progress": {"is_last_batch": True}}
    return {"epoch": epoch, "loops": {"fit_loop": loop}}


@pytest.mark.parametrize("fails", ["write_bytes", "replace", "symlink_to", "second replace"])
def test_last_ckpt_is_whole_wherever_a_save_is_cut_off(tmp_path, monkeypatch, fails):
    files, folder = CheckpointFile(), tmp_path / "checkpoints"
    files.save_checkpoint(end_of_epoch(0), folder / "epoch=00.ckpt")

    class Cut(BaseException):
        pass

    replaced = []

    def cut(*args):
        replaced.append(args)
        if fails != "second replace" or len(replaced) == 2:
            raise Cut
        return real(*args)

    real = os.replace
    place = os if "replace" in fails else Path
    with monkeypatch.context() as patch:
        patch.setattr(place, fails.split()[-1], cut)
        with pytest.raises(Cut):
            files.save_checkpoint(end_of_epoch(1), folder / "epoch=01.ckpt")
    assert torch.load(folder / "last.ckpt") == end_of_epoch(0)
    files.save_checkpoint(end_of_epoch(1), folder / "epoch=01.ckpt")
    assert torch.load(folder / "last.ckpt") == end_of_epoch(1)
    assert os.readlink(folder / "last.ckpt") == "epoch=01.ckpt"
    assert {path.name for path in folder.iterdir()} == {"epoch=00.ckpt", "epoch=01.ckpt", "last.ckpt"}


def test_a_checkpoint_that_cannot_be_written_leaves_the_others(tmp_path, monkeypatch):
    files, folder = CheckpointFile(), tmp_path / "checkpoints"
    files.save_checkpoint(end_of_epoch(0), folder / "epoch=00.ckpt")

    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SettingError, match="epoch=01.ckpt cannot be written .No space left on device"):
        files.save_checkpoint(end_of_epoch(1), folder / "epoch=01.ckpt")
    assert torch.load(folder / "last.ckpt") == end_of_epoch(0)
    assert {path.name for path in folder.iterdir()} == {"epoch=00.ckpt", "last.ckpt"}


@pytest.mark.parametrize(("sent", "code", "name"), [("SIGINT", 130, "Ctrl-C"), ("SIGTERM", 143, "SIGTERM")])
def test_a_signal_keeps_the_epoch_and_says_how_to_go_on(tmp_path, start, sent, code, name):
    started = start(tmp_path, "fit", *LONG, "--model.compile=false").until_it_trains(epochs=2)
    os.kill(started.process.pid, signal.Signals[sent])
    ended, said = started.end(within=60)
    assert ended == code
    assert f"stopped by {name}. Go on with python -m mnist_lightning fit --ckpt_path" in said
    advice = said.split("--ckpt_path ")[1].split()[0]
    assert torch.load(tmp_path / advice, weights_only=True)["epoch"] >= 0
    assert not (run(tmp_path) / "summary.json").exists()
    assert "Traceback" not in said


def test_a_signal_before_the_first_epoch_leaves_nothing(tmp_path, start):
    started = start(tmp_path, "fit", *LONG, "--trainer.limit_train_batches=1.0")
    # It sets its handlers before it imports torch, which is in its memory seconds before it trains.
    wait_for(lambda: "libtorch" in Path(f"/proc/{started.process.pid}/maps").read_text(), 120)
    os.kill(started.process.pid, signal.SIGINT)
    code, said = started.end(within=60)
    assert code == 130
    assert said.splitlines()[-1] == "stopped by Ctrl-C."
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("to", ["all", "first", "second"])
def test_a_signal_ends_both_processes(tmp_path, start, sent, to):
    started = start(tmp_path, "fit", *LONG, "--trainer.devices=2").until_it_trains(epochs=2)
    signum = signal.Signals[sent]
    if to == "all":
        os.killpg(started.process.pid, signum)
    else:
        os.kill(started.trainers()[to == "second"], signum)
    code, said = started.end(within=10)
    assert code == (1 if to == "second" else 128 + signum)
    assert ("process 1 of 2 was stopped by a signal" if to == "second" else "stopped by") in said
    assert "Traceback" not in said
    assert weights(run(tmp_path, setup="2xcpu"))


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(tmp_path, start):
    started = start(tmp_path, "fit", *LONG, "--trainer.devices=2").until_it_trains(epochs=2)
    # The other process stands still, so that the first one waits for it where no handler runs.
    os.kill(started.trainers()[1], signal.SIGSTOP)
    time.sleep(2)
    os.kill(started.process.pid, signal.SIGINT)
    time.sleep(0.5)
    os.kill(started.process.pid, signal.SIGINT)
    begin = time.monotonic()
    assert started.process.wait(5) == 130
    assert time.monotonic() - begin < 2
    os.kill(started.trainers()[0], signal.SIGCONT)
    started.end(within=10)


LOST = {
    "killed": (signal.SIGKILL, "was lost"),
    "stopped": (signal.SIGSTOP, "has not answered for 30 seconds"),
}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("how", LOST)
def test_a_lost_process_is_named_and_the_other_ends(tmp_path, start, rank, how):
    signum, says = LOST[how]
    started = start(tmp_path, "fit", *LONG, "--trainer.max_epochs=2000", "--trainer.devices=2")
    started.until_it_trains(epochs=2)
    begin = time.monotonic()
    os.kill(started.trainers()[rank], signum)
    other = started.trainers()[-1 if how == "killed" else 1 - rank]
    while time.monotonic() - begin < 60 and other in started.trainers():
        time.sleep(0.1)
    assert other not in started.trainers()
    assert f"error: process {rank} of 2 {says}" in started.said.read_text()
    if how == "stopped" and rank == 0:
        os.kill(started.process.pid, signal.SIGCONT)
    code, said = started.end(within=20)
    assert code == (-9 if (how, rank) == ("killed", 0) else 1)
    assert "Traceback" not in said
    assert weights(run(tmp_path, setup="2xcpu"))


FAULTY = """
from lightning.pytorch import Callback

class Faulty(Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.global_rank in {ranks} and trainer.current_epoch == 2:
            raise ArithmeticError("a defect")
"""


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [(0,), (1,), (0, 1)])
def test_a_process_that_raises_ends_the_other_and_is_told_once(tmp_path, start, ranks):
    (tmp_path / "faulty.py").write_text(FAULTY.format(ranks=ranks))
    started = start(
        tmp_path,
        *("fit", *LONG, "--trainer.devices=2", "--trainer.callbacks+=faulty.Faulty"),
        PYTHONPATH=f"{tmp_path}:{PROJECT}",
    )
    code, said = started.end(within=120)
    assert code == 1
    # If both have it, the one that raises first tells it, and the other counts as its victim.
    (file,) = run(tmp_path, setup="2xcpu").glob("error*.txt")
    rank = 1 if file.name == "error-1.txt" else 0
    assert rank in ranks
    told = f"error: ArithmeticError: a defect, which is not expected: {file.relative_to(tmp_path)} has the traceback"
    assert said.count("a defect") == said.count(told) == 1
    assert said.count(f"process {rank} of 2 has failed with an error of its own") == 1
    assert "Traceback" not in said
    kept = file.read_text()
    assert 'raise ArithmeticError("a defect")' in kept
    assert "--trainer.callbacks+=faulty.Faulty" in kept and f"torch {torch.__version__.partition('+')[0]}" in kept


EARLY = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping",
    *(f"--trainer.callbacks.{each}" for each in ("monitor=val/loss", "patience=100", "min_delta=0.0")),
]
KINDS = {
    "as it is": [],
    "validated every second epoch": ["--trainer.check_val_every_n_epoch=2"],
    "with accumulation": ["--trainer.accumulate_grad_batches=2"],
    "with EarlyStopping": EARLY,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_killed_ten_times_ends_as_if_it_had_not_been(tmp_path, start, devices, kind):
    setup = f"{devices}xcpu"
    options = [
        *SMALL,
        "--trainer.accelerator=cpu",
        f"--trainer.devices={devices}",
        "--trainer.max_epochs=120",
        *KINDS[kind],
    ]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    assert start(whole, "fit", *options).end(within=200)[0] == 0
    training = json.loads((run(whole, setup=setup) / "summary.json").read_text())["metrics"]["seconds/fit"]

    # What shapes the numbers is taken from the run; a callback is a class, and asks for its config by name.
    named = ["--config", run(broken, setup=setup) / "config.yaml"] if KINDS[kind] is EARLY else []
    go_on = ["fit", *named, "--ckpt_path", last(broken, setup)]
    moments, kills, reached = random.Random(0), 0, []
    while kills < 10:
        started = start(broken, *(go_on if last(broken, setup).exists() else ["fit", *options]))
        # Some while it starts or warms up, most while it trains, validates or saves.
        started.until_it_trains(epochs=moments.choice([0, 1, 1, 1]))
        time.sleep(moments.uniform(0, training / 15))
        os.kill(moments.choice(started.trainers()), signal.SIGKILL)
        kills += 1
        assert started.end(within=60)[0] != 0
        if last(broken, setup).is_symlink():
            reached.append(torch.load(last(broken, setup), weights_only=True)["epoch"])
    assert reached == sorted(reached)
    assert 1 < reached[-1] < 119
    assert start(broken, *go_on).end(within=200)[0] == 0
    assert same_weights(run(whole, setup=setup), run(broken, setup=setup))
    assert results(run(whole, setup=setup)) == results(run(broken, setup=setup))
    seconds = json.loads((run(broken, setup=setup) / "summary.json").read_text())["metrics"]["seconds/fit"]
    assert seconds < training * 3


@pytest.mark.slow
def test_ten_starts_together_make_ten_runs(tmp_path, start, mnist_dir):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in sorted(mnist_dir.glob("MNIST/raw/*.gz")):
        (raw / name.name).write_bytes(name.read_bytes())
    limits = ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--trainer.max_epochs=1"]
    options = ["--data.source=mnist", *SMALL[1:], "--trainer.accelerator=cpu", "--model.compile=false"]
    started = [start(tmp_path, "fit", *options, *limits) for _ in range(10)]
    assert [each.end(within=300)[0] for each in started] == [0] * 10
    runs = sorted(run(tmp_path).parent.iterdir())
    assert [path.name for path in runs] == sorted(f"version_{n}" for n in range(10))
    assert all((path / "summary.json").exists() for path in runs)
    assert all(len(list(path.glob("events.*"))) == 1 for path in runs)
    assert all(same_weights(runs[0], path) for path in runs)


@pytest.mark.slow
def test_a_full_disk_is_said_and_what_was_there_stays(tmp_path, start):
    disk = tmp_path / "logs"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        started = start(tmp_path, "fit", *LONG).until_it_trains(epochs=2)
        (disk / "filler").write_bytes(b"") or fill(disk / "filler")
        code, said = started.end(within=60)
        assert code == 2
        assert "No space left on device" in said.splitlines()[-1]
        assert "Go on with python -m mnist_lightning fit --ckpt_path" in said.splitlines()[-1]
        assert "Traceback" not in said
        assert torch.load(last(tmp_path), weights_only=True)["epoch"] >= 0
        assert results(run(tmp_path))["val/loss"]
        (disk / "filler").unlink()
        assert start(tmp_path, "fit", *LONG, "--ckpt_path", last(tmp_path)).end(within=100)[0] == 0
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.slow
def test_a_folder_that_turns_read_only_is_said_and_what_was_there_stays(tmp_path, start):
    logs = tmp_path / "logs"
    started = start(tmp_path, "fit", *LONG).until_it_trains(epochs=2)
    if subprocess.run(["mount", "--bind", logs, logs], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", logs], check=True)
        code, said = started.end(within=60)
        assert code == 2
        assert "Read-only file system" in said.splitlines()[-1]
        assert "Go on with python -m mnist_lightning fit --ckpt_path" in said.splitlines()[-1]
        assert "Traceback" not in said
        assert torch.load(last(tmp_path), weights_only=True)["epoch"] >= 0
        assert results(run(tmp_path))["val/loss"]
    finally:
        subprocess.run(["umount", "-l", logs], check=True)
    assert start(tmp_path, "fit", *LONG, "--ckpt_path", last(tmp_path)).end(within=100)[0] == 0


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            return
