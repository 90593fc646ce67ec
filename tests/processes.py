"""Runs in processes of their own, and which processes are there."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def in_folder(folder: Path) -> list[int]:
    """The processes that work in a folder: launchers give what they start sessions of its own."""
    return [each.pid for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(folder)]


def in_session(session: int) -> list[int]:
    """The processes of a session, its first one first."""
    there = []
    for each in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(each.pid) == session and each.info["status"] != "zombie":  # that is nobody's orphan
                there.append(each.pid)
    return sorted(there)


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Waits until a condition holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


class Started:
    """A fit in a session of its own, with the lines it says."""

    def __init__(self, folder: Path, *args: object, **environment: str) -> None:
        self.folder, self.said = folder, folder / f"said-{time.monotonic_ns()}"
        command = [sys.executable, "-m", "mnist_lightning", *map(str, args)]
        with self.said.open("w") as said:
            own = {"cwd": folder, "env": {**os.environ, **environment}, "start_new_session": True}
            self.process = subprocess.Popen(command, stdout=said, stderr=said, **own)

    def until_it_trains(self, epochs: int = 0) -> "Started":
        """Waits until it has trained some more epochs."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            events = self.folder.glob(f"logs/*/*/events.*.{self.process.pid}.*")
            if self.said.read_text().count("epoch ") >= epochs and any(events):
                return self
            time.sleep(0.02)
        raise AssertionError(f"does not train: {self.said.read_text()}")

    def processes(self) -> list[int]:
        """Those of its session that are there, itself first."""
        return in_session(self.process.pid)

    def trainers(self) -> list[int]:
        """The processes that train, in the order of their ranks."""
        return [pid for pid in self.processes() if b"mnist_lightning" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def end(self, within: float) -> tuple[int, str]:
        """Its exit code and what it said, once all of its processes are gone."""
        deadline = time.monotonic() + within
        try:
            code = self.process.wait(within)
            while self.processes() and time.monotonic() < deadline:
                time.sleep(0.05)
            left = self.processes()
        finally:
            self.kill()
        assert not left, f"left behind: {left}"
        return code, self.said.read_text()

    def kill(self) -> None:
        """Ends all of its processes."""
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
