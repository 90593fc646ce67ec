"""Two hosts, as two network namespaces joined by a cable, and torchrun on each."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import SMALL, spawn
from processes import in_folder, wait_for
from test_faults import last, run
from test_fit import results, same_weights

pytestmark = pytest.mark.slow

FIT = [*SMALL, "--trainer.accelerator=cpu", "--trainer.num_nodes=2"]


class Hosts:
    """Two hosts with the addresses 10.77.0.1 and 10.77.0.2."""

    def __init__(self) -> None:
        mark = secrets.token_hex(3)
        self.names, self.cables = ([f"{kind}-{mark}-{n}" for n in (1, 2)] for kind in ("host", "c"))
        self.processes: list[subprocess.Popen] = []
        self.folders: set[Path] = set()

    def connect(self) -> None:
        (one, two), (here, there) = self.names, self.cables
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", here, "netns", one, "type", "veth", "peer", "name", there, "netns", two)
        for n, (name, cable) in enumerate(zip(self.names, self.cables, strict=True), start=1):
            ip("-n", name, "address", "add", f"10.77.0.{n}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")

    def remove(self) -> None:
        for pid in {pid for folder in self.folders for pid in in_folder(folder)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def torchrun(self, folder: Path, *args: object, restarts: int = 0, each: Sequence[str] = ("", "")) -> None:
        """Starts a fit on both, each with an option of its own; what they say is in `said-0` and `said-1`."""
        self.folders.add(folder)
        for node, (name, cable) in enumerate(zip(self.names, self.cables, strict=True)):
            launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
            if restarts:  # both hosts must restart together; in a network namespace a host does not know its address
                launcher += ["--rdzv-backend=c10d", "--rdzv-endpoint=10.77.0.1:29500", "--rdzv-id=mnist"]
                launcher += [f"--local-addr=10.77.0.{node + 1}", f"--rdzv-conf=is_host={1 - node}"]
            else:
                launcher += [f"--node-rank={node}", "--master-addr=10.77.0.1", "--master-port=29500"]
            launcher += [f"--max-restarts={restarts}", "-m", "mnist_lightning", "fit"]
            own = {"cwd": folder, "start_new_session": True}
            own["env"] = {**os.environ, "GLOO_SOCKET_IFNAME": cable, "OMP_NUM_THREADS": "1"}
            command = ["ip", "netns", "exec", name, *launcher, *map(str, args), *filter(None, [each[node]])]
            with (folder / f"said-{node}").open("w") as said:
                self.processes.append(subprocess.Popen(command, stdout=said, stderr=said, **own))

    def end(self, within: float) -> list[int]:
        """The exit codes of both."""
        return [process.wait(timeout=within) for process in self.processes]


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)


def words(folder: Path) -> list[str]:
    return [(folder / f"said-{node}").read_text() for node in (0, 1)]


def worker(folder: Path, rank: int) -> int:
    """The process that trains with a rank."""
    (pid,) = [
        pid
        for pid in in_folder(folder)
        if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        and b"mnist_lightning" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return pid


@pytest.fixture
def hosts():
    if shutil.which("ip") is None:
        pytest.skip("needs the program ip")
    both = Hosts()
    try:
        try:
            both.connect()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"needs the right to make network namespaces: {error.stderr.decode().strip()}")
        yield both
    finally:
        both.remove()


def test_two_hosts_train_as_two_processes_do_and_go_on_after_a_kill(hosts, tmp_path):
    one, two, epochs = tmp_path / "one", tmp_path / "two", "--trainer.max_epochs=100"
    one.mkdir(), two.mkdir()
    done = spawn(one, "fit", *FIT[:-1], "--trainer.devices=2", epochs, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    hosts.torchrun(two, *FIT, epochs, restarts=2)
    wait_for(lambda: last(two, "2xcpu").exists(), 120)
    time.sleep(1)
    os.kill(worker(two, rank=1), signal.SIGKILL)
    assert hosts.end(within=300) == [0, 0], words(two)
    assert "process 1 of 2" in words(two)[0]
    reference, run_of_two = run(one, setup="2xcpu"), run(two, setup="2xcpu")
    assert [path.name for path in run_of_two.parent.glob("version_*")] == ["version_0"]
    assert same_weights(reference, run_of_two) and results(reference) == results(run_of_two)


def test_a_cut_cable_ends_both_hosts(hosts, tmp_path):
    hosts.torchrun(tmp_path, *FIT, "--trainer.max_epochs=5000")
    wait_for(lambda: last(tmp_path, "2xcpu").exists(), 120)
    ip("-n", hosts.names[0], "link", "set", hosts.cables[0], "down")
    assert all(hosts.end(within=90)) and not in_folder(tmp_path)
    for node, said in enumerate(words(tmp_path)):
        assert f"error: process {1 - node} of 2" in said and "--ckpt_path" in said


def test_hosts_with_other_data_stop(hosts, tmp_path, mnist_dir):
    folders = [f"--data.data_dir={folder}" for folder in (mnist_dir, tmp_path / "empty")]
    hosts.torchrun(tmp_path, *FIT, "--data.source=auto", "--trainer.max_epochs=1", each=folders)
    assert all(hosts.end(within=120))
    assert all("error: data.data_dir" in said for said in words(tmp_path))
    assert not list(tmp_path.glob("logs/**/*.ckpt"))
