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
from conftest import SMALL
from processes import in_folder, wait_for
from test_faults import last, run
from test_fit import results, same_weights

pytestmark = pytest.mark.slow

FIT = [*SMALL, "--trainer.accelerator=cpu", "--trainer.num_nodes=2"]


class Hosts:
    """Two hosts with the addresses 10.77.0.1 and 10.77.0.2."""

    def __init__(self) -> None:
        mark = secrets.token_hex(3)
        self.names = [f"host-{mark}-{n}" for n in (1, 2)]
        self.cables = [f"c{mark}{n}" for n in (1, 2)]
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

    def cut(self) -> None:
        ip("-n", self.names[0], "link", "set", self.cables[0], "down")

    def remove(self) -> None:
        for pid in {pid for folder in self.folders for pid in in_folder(folder)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def torchrun(
        self, folder: Path, *args: object, restarts: int = 0, each: Sequence[Sequence[str]] = ((), ())
    ) -> list[subprocess.Popen]:
        """Starts a fit on both; what each says is in `said-0` and `said-1`."""
        started = []
        for node, (name, cable) in enumerate(zip(self.names, self.cables, strict=True)):
            said = (folder / f"said-{node}").open("w")
            launcher = [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"),
                *(f"--node-rank={node}", "--master-addr=10.77.0.1", "--master-port=29500"),
                *(f"--max-restarts={restarts}", "-m", "mnist_lightning", "fit"),
            ]
            process = subprocess.Popen(
                ["ip", "netns", "exec", name, *launcher, *map(str, args), *each[node]],
                cwd=folder,
                env={**os.environ, "GLOO_SOCKET_IFNAME": cable, "OMP_NUM_THREADS": "1"},
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            started.append(process)
        self.processes += started
        self.folders.add(folder)
        return started


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)


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


def one_host(folder: Path, *args: object) -> Path:
    """The same run on this host, with two processes."""
    folder.mkdir()
    command = [sys.executable, "-m", "mnist_lightning", "fit", *SMALL, "--trainer.accelerator=cpu"]
    subprocess.run(
        [*command, "--trainer.devices=2", *map(str, args)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    return run(folder, setup="2xcpu")


def test_two_hosts_train_as_two_processes_do_and_go_on_after_a_kill(hosts, tmp_path):
    epochs = "--trainer.max_epochs=100"
    reference = one_host(tmp_path / "one", epochs)
    two = tmp_path / "two"
    two.mkdir()
    started = hosts.torchrun(two, *FIT, epochs, restarts=2)
    wait_for(lambda: last(two, "2xcpu").exists(), 120)
    time.sleep(1)
    os.kill(worker(two, rank=1), signal.SIGKILL)
    codes = [process.wait(timeout=200) for process in started]
    said = [(two / f"said-{node}").read_text() for node in (0, 1)]
    assert codes == [0, 0], said
    assert "process 1 of 2 was lost" in said[0]
    assert [path.name for path in run(two, setup="2xcpu").parent.iterdir()] == ["version_0"]
    assert same_weights(reference, run(two, setup="2xcpu"))
    assert results(reference) == results(run(two, setup="2xcpu"))


def test_a_cut_cable_ends_both_hosts(hosts, tmp_path):
    started = hosts.torchrun(tmp_path, *FIT, "--trainer.max_epochs=5000")
    wait_for(lambda: last(tmp_path, "2xcpu").exists(), 120)
    hosts.cut()
    begin = time.monotonic()
    codes = [process.wait(timeout=120) for process in started]
    assert all(codes)
    assert time.monotonic() - begin < 90
    for node in (0, 1):
        said = (tmp_path / f"said-{node}").read_text()
        assert f"error: process {1 - node} of 2 has not answered for 30 seconds" in said
    assert not in_folder(tmp_path)


def test_hosts_with_other_data_stop(hosts, tmp_path, mnist_dir):
    options = [*SMALL[1:], "--trainer.accelerator=cpu", "--trainer.num_nodes=2", "--trainer.max_epochs=1"]
    folders = [f"--data.data_dir={mnist_dir}"], [f"--data.data_dir={tmp_path}/empty"]
    started = hosts.torchrun(tmp_path, *options, each=folders)
    codes = [process.wait(timeout=120) for process in started]
    assert all(codes)
    said = (tmp_path / "said-0").read_text()
    assert "MNIST IS NOT HERE" in (tmp_path / "said-1").read_text()
    assert f"error: data.data_dir {tmp_path}/empty cannot be read" in said
    assert "(process 1)" in said
    assert not list(tmp_path.glob("logs/**/*.ckpt"))
