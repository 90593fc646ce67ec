"""What the tests share: a command line inside the process, one outside, and the data."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mnist_lightning import commands
from mnist_lightning.errors import tell
from mnist_lightning.measure import calibration
from mnist_lightning.sources.mnist_files import MD5

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait actively would slow the tests beside them
PROJECT = Path(__file__).parent.parent
os.environ.setdefault("XDG_CACHE_HOME", str(PROJECT / "build" / "cache"))  # and not the user's home
SMALL = ["--data.source=sample", "--data.batch_size=480", "--model.channels=[8, 16]", "--model.hidden=16"]


@pytest.fixture(autouse=True)
def own_process() -> Iterator[None]:
    """Gives back signals, which a command that ran in this process would go on to watch, and what DDP tells its children."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)
    signal.set_wakeup_fd(-1)
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture(autouse=True)
def short_calibrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fits of tests need no exact rate of the machine."""
    monkeypatch.setattr(calibration, "REPEATS", 4)
    monkeypatch.setattr(calibration, "COPIED", 1 << 20)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the 60,000 and 10,000 images."""
    raw = PROJECT / "data" / "MNIST" / "raw"
    if not all((raw / name).exists() or (raw / f"{name}.gz").exists() for name in MD5):
        pytest.skip("the four MNIST files are not in data/MNIST/raw")
    return PROJECT / "data"


def told(main: Callable[[], int]) -> int:
    """The exit code of a command, whose error is told; without the handlers of signals."""
    try:
        return main()
    except Exception as error:  # noqa: BLE001 - as at the program's boundary
        return tell(error)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command of the Trainer in this process and an empty folder; gives the exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> int:
        monkeypatch.setattr(sys, "argv", ["mnist-lightning", *map(str, args)])
        return commands.main()

    return run


def noise(said: str) -> list[str]:
    """The lines that a run without a fault should not say. torch's advice against Python 3.13.0 is the user's to read."""
    signs = ("Warning", "Tip", "Seed set")
    lines = [line for line in said.splitlines() if any(sign in line for sign in signs)]
    return [line for line in lines if "Consider upgrading to Python" not in line]


def spawn(folder: Path, *args: object, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m mnist_lightning` in a folder, for so many seconds at most."""
    command = [sys.executable, "-m", "mnist_lightning", *map(str, args)]
    own = {"cwd": folder, "env": {**os.environ, **environment}, "start_new_session": True}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **own)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        # Whatever DDP started is of the same session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
