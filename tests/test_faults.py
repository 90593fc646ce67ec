"""Processes that are killed, stopped, lost or hindered: nothing hangs, nothing is lost, nothing is left behind."""

import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import PROJECT, SMALL
from processes import Started, wait_for
from test_fit import AT_THE_END, results, same_weights, scalars, weights

from mnist_lightning.durability.checkpoint_file import CheckpointFile
from mnist_lightning.errors import tell

LONG = [*SMALL, "--trainer.accelerator=cpu", "--trainer.max_epochs=2000"]  # as long as a test needs it
TWO = [*LONG, "--trainer.devices=2"]


@pytest.fixture
def start():
    """Starts a fit; what it leaves is killed at the end of the test."""
    started = []
    yield lambda *args, **environment: started.append(Started(*args, **environment)) or started[-1]
    for each in started:
        each.kill()


def run(folder: Path, version: int = 0, setup: str = "1xcpu") -> Path:
    return folder / f"logs/{setup}-b0480-s0/version_{version}"


def last(folder: Path, setup: str = "1xcpu") -> Path:
    return run(folder, setup=setup) / "checkpoints" / "last.ckpt"


def how_to_go_on(said: str, setup: str = "1xcpu") -> bool:
    """Whether a run's last words name its checkpoint."""
    return f"--ckpt_path {last(Path(), setup)}" in said.strip().splitlines()[-1]


def end_of_epoch(epoch: int) -> dict[str, object]:
    """What a checkpoint holds that training can go on from, as far as a save looks at it."""
    progress = {"current": dict.fromkeys(("ready", "started", "processed"), epoch + 1)}
    loop = {"epoch_progress": progress, "epoch_loop.batch_progress": {"is_last_batch": True}}
    return {"epoch": epoch, "loops": {"fit_loop": loop}}


@pytest.mark.parametrize("fails", ["write_bytes", "replace", "symlink_to", "second replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_last_ckpt_is_whole_wherever_a_save_is_cut_off(tmp_path, monkeypatch, capsys, fails, error):
    save, folder, replace = CheckpointFile().save_checkpoint, tmp_path / "checkpoints", os.replace
    save(end_of_epoch(0), folder / "epoch=00.ckpt")

    def cut(*args):
        if fails == "second replace" and args[1].name != "last.ckpt":
            return replace(*args)
        raise error

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(os if "replace" in fails else Path, fails.split()[-1], cut)
        save(end_of_epoch(1), folder / "epoch=01.ckpt")
    assert torch.load(folder / "last.ckpt") == end_of_epoch(0)
    if isinstance(error, OSError) and fails in ("write_bytes", "replace"):  # the system names the link by itself
        assert tell(error) == 1 and f"{folder}/epoch=01.ckpt" in capsys.readouterr().err
    save(end_of_epoch(1), folder / "epoch=01.ckpt")
    assert torch.load(folder / "last.ckpt") == end_of_epoch(1)
    assert {path.name for path in folder.iterdir()} == {"epoch=00.ckpt", "epoch=01.ckpt", "last.ckpt"}


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), pytest.param("SIGTERM", 143, marks=pytest.mark.slow)])
def test_a_signal_keeps_the_epoch_and_says_how_to_go_on(tmp_path, start, sent, code):
    started = start(tmp_path, "fit", *LONG, *SMALL).until_it_trains(epochs=2)
    os.kill(started.process.pid, signal.Signals[sent])
    ended, said = started.end(within=60)
    assert ended == code and how_to_go_on(said) and "Traceback" not in said
    assert torch.load(last(tmp_path), weights_only=True)["epoch"] >= 1
    assert not (run(tmp_path) / "summary.json").exists() and not AT_THE_END & set(scalars(run(tmp_path)))


def test_a_signal_before_the_first_epoch_leaves_nothing(tmp_path, start):
    started = start(tmp_path, "fit", *LONG)
    # It sets its handlers before it imports torch, which is in its memory seconds before it trains.
    wait_for(lambda: "libtorch" in Path(f"/proc/{started.process.pid}/maps").read_text(), 120)
    os.kill(started.process.pid, signal.SIGINT)
    code, said = started.end(within=60)
    assert code == 130 and "--ckpt_path" not in said and "Traceback" not in said
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
def test_an_error_that_both_processes_have_is_told_once(tmp_path, start):
    code, said = start(tmp_path, "fit", *TWO, *SMALL, "--data.batch_size=481").end(within=100)
    assert code == 2 and said.count("error: ") == 1 and "data.batch_size" in said.splitlines()[-1]
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("to", ["both", "first", "second", "stuck", "stuck, twice"])
def test_a_signal_ends_both_processes(tmp_path, start, sent, to):
    started, signum = start(tmp_path, "fit", *TWO).until_it_trains(epochs=2), signal.Signals[sent]
    first, second = started.trainers()
    if "stuck" in to:  # the second one stands still, and the first one waits for it where no handler runs
        os.kill(second, signal.SIGSTOP)
        time.sleep(2)
    for pid in {"both": [first, second], "second": [second], "stuck, twice": [first, first]}.get(to, [first]):
        os.kill(pid, signum)
        time.sleep(0.5 if "twice" in to else 0)
    code, said = started.end(within=3 if "twice" in to else 15)
    assert code == (1 if to == "second" else 128 + signum)
    assert how_to_go_on(said, "2xcpu") and "Traceback" not in said
    assert ("process 1 of 2" in said) == (to == "second")
    assert weights(run(tmp_path, setup="2xcpu"))


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_run_whose_words_nobody_reads(tmp_path):
    _, write = os.pipe()
    os.write(write, bytes(fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)))
    fit = [sys.executable, "-m", "mnist_lightning", "fit", *LONG, *SMALL]
    process = subprocess.Popen(fit, cwd=tmp_path, stdout=write, stderr=write)
    wait_for(lambda: "pipe_write" in Path(f"/proc/{process.pid}/wchan").read_text(), 100)
    for seconds in (1, 5):
        process.send_signal(signal.SIGINT)
        time.sleep(seconds)
    process.kill()  # in vain
    assert process.wait() == 130


FAULTY = """
import signal
from lightning.pytorch import Callback
def fail(*_):
    raise ArithmeticError("a defect")
class Faulty(Callback):
    def setup(self, trainer, module, stage):
        signal.signal(signal.SIGUSR1, fail)
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("sent", ["SIGKILL", "SIGSTOP", "SIGUSR1"])
def test_a_lost_process_is_named_and_the_other_ends(tmp_path, start, rank, sent):
    (tmp_path / "faulty.py").write_text(FAULTY)
    faulty, paths = "--trainer.callbacks+=faulty.Faulty", f"{tmp_path}:{PROJECT}"
    started = start(tmp_path, "fit", *TWO, faulty, PYTHONPATH=paths).until_it_trains(epochs=2)
    lost, other = started.trainers()[rank], started.trainers()[1 - rank]
    os.kill(lost, signal.Signals[sent])
    wait_for(lambda: other not in started.processes(), 60)
    if sent == "SIGSTOP" and rank == 0:
        os.kill(lost, signal.SIGCONT)
    code, said = started.end(within=20)
    assert code == (-9 if (sent, rank) == ("SIGKILL", 0) else 1)
    assert f"error: process {rank} of 2" in said and f"--ckpt_path {last(Path(), '2xcpu')}" in said
    assert said.count("Traceback") == said.count("ArithmeticError: a defect") == (sent == "SIGUSR1")
    assert weights(run(tmp_path, setup="2xcpu"))


OTHERS = ["--trainer.check_val_every_n_epoch=2", "--trainer.accumulate_grad_batches=2"]
OTHERS += ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"]
OTHERS += ["--trainer.callbacks.patience=100", "--trainer.callbacks.min_delta=0.0"]


@pytest.mark.slow
@pytest.mark.parametrize("settings", [[], OTHERS], ids=["plain", "others"])
@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_killed_ten_times_ends_as_if_it_had_not_been(tmp_path, start, devices, settings):
    setup = f"{devices}xcpu"
    whole, broken, kept = (tmp_path / name for name in ("whole", "broken", last(Path("broken"), setup)))
    whole.mkdir(), broken.mkdir()
    fit = ["fit", *LONG, f"--trainer.devices={devices}", "--trainer.max_epochs=120", *settings]
    assert start(whole, *fit).end(within=200)[0] == 0
    training = scalars(run(whole, setup=setup))["seconds/fit"][-1][1]
    moments, reached = random.Random(0), []
    for _ in range(10):
        started = start(broken, *(["fit", "--ckpt_path", kept] if kept.exists() else fit))
        # Some while it starts or warms up, most while it trains, validates or saves.
        started.until_it_trains(epochs=moments.choice([0, 1, 1, 1]))
        time.sleep(moments.uniform(0, training / 15))
        os.kill(moments.choice(started.trainers()), signal.SIGKILL)
        assert started.end(within=60)[0] != 0
        reached += [torch.load(kept, weights_only=True)["epoch"]] if kept.exists() else []
    assert reached == sorted(reached) and 1 < reached[-1] < 119
    assert start(broken, "fit", "--ckpt_path", kept).end(within=200)[0] == 0
    ours, theirs = run(whole, setup=setup), run(broken, setup=setup)
    assert same_weights(ours, theirs) and results(ours) == results(theirs)
    assert scalars(theirs)["seconds/fit"][-1][1] < 3 * training


@pytest.mark.slow
def test_ten_starts_together_make_ten_runs(tmp_path, start, mnist_dir):
    unpacked = "*ubyte" if list(mnist_dir.glob("MNIST/raw/*.gz")) else ""
    shutil.copytree(mnist_dir / "MNIST", tmp_path / "data" / "MNIST", ignore=shutil.ignore_patterns(unpacked))
    limits = ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--trainer.max_epochs=1"]
    fit = ["fit", *LONG, *SMALL, "--data.source=mnist", *limits]
    started = [start(tmp_path, *fit) for _ in range(10)]
    assert [each.end(within=300)[0] for each in started] == [0] * 10
    runs = sorted(run(tmp_path).parent.glob("version_*"))
    assert [path.name for path in runs] == [f"version_{n}" for n in range(10)]
    assert all((path / "summary.json").exists() and len(list(path.glob("events.*"))) == 1 for path in runs)
    assert all(same_weights(runs[0], path) for path in runs)


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["No space left on device", "Operation not permitted"])
def test_a_disk_that_takes_nothing_more_is_said_and_what_was_there_stays(tmp_path, start, reason):
    disk = tmp_path / "logs"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        started = start(tmp_path, "fit", *LONG).until_it_trains(epochs=2)
        fill = ["dd", "if=/dev/zero", f"of={disk}/filler", "bs=1k"]
        # No system turns read-only while a file of it is open for writing, as the run's lock is.
        hinder = fill if reason.startswith("No space") else ["chattr", "-R", "+i", disk]
        subprocess.run(hinder, check=False, capture_output=True)
        code, said = started.end(within=60)
        assert code == 1 and how_to_go_on(said) and "Traceback" not in said
        assert reason in said.splitlines()[-1] and f"'{run(Path())}" in said.splitlines()[-1]
        assert results(run(tmp_path))["val/loss"] and weights(run(tmp_path))
        subprocess.run(["chattr", "-R", "-i", disk], check=False, capture_output=True)
        (disk / "filler").unlink(missing_ok=True)
        go_on = ["fit", "--ckpt_path", last(tmp_path), "--trainer.max_epochs=40"]
        assert start(tmp_path, *go_on).end(within=100)[0] == 0
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
