"""Slurm itself: a controller and two nodes on this machine run the sbatch file that is shipped."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PROJECT, SMALL, spawn
from processes import wait_for
from test_faults import run
from test_fit import results, same_weights

pytestmark = pytest.mark.slow

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=5
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port=17001 CPUs=2 State=UNKNOWN
NodeName={host}2 NodeHostname={host} NodeAddr=127.0.0.1 Port=17002 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
"""
EPOCHS = 40


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A cluster of two nodes, both of them this machine."""
    needed = ("slurmctld", "slurmd", "sbatch", "scontrol", "munged", "munge")
    if missing := [program for program in needed if shutil.which(program) is None]:
        pytest.skip(f"needs Slurm and munge (Debian's slurm-wlm): no {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("needs the rights of root, to start Slurm's nodes")
    if subprocess.run(["munge", "-n"], check=False, capture_output=True).returncode:
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        subprocess.run(["runuser", "-u", "munge", "--", "munged"], check=False, capture_output=True)
    if subprocess.run(["munge", "-n"], check=False, capture_output=True).returncode:
        pytest.skip("munged cannot be started")
    folder, host = tmp_path / "slurm", socket.gethostname().partition(".")[0]
    for name in ("state", f"spool-{host}", f"spool-{host}2"):
        (folder / name).mkdir(parents=True)
    (folder / "slurm.conf").write_text(CONF.format(folder=folder, host=host))
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    daemons = [
        subprocess.Popen([*command, "-D"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in (["slurmctld"], ["slurmd", "-N", host], ["slurmd", "-N", f"{host}2"])
    ]
    try:
        wait_for(lambda: _said("sinfo", "--noheader", "--format=%T %D") == "idle 2", 30)
        yield
    finally:
        _said("scancel", "--user=root", "--signal=KILL", "--full")
        _said("scancel", "--user=root")
        time.sleep(1)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def _said(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stdout.strip()


def test_the_shipped_job_trains_and_goes_on_when_it_is_requeued(slurm, tmp_path, monkeypatch):
    settings = [*SMALL, f"--trainer.max_epochs={EPOCHS}"]
    whole, job_folder, bin = tmp_path / "whole", tmp_path / "job", tmp_path / "bin"
    for folder in (whole, job_folder, bin):
        folder.mkdir()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = spawn(whole, "fit", *settings, "--trainer.devices=2", "--trainer.accelerator=cpu", timeout=200)
    assert done.returncode == 0, done.stderr

    # The job's `python` is this one, with a smaller experiment.
    (bin / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@" {shlex.join(settings)}\n')
    (bin / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    job = _said("sbatch", "--parsable", f"--chdir={job_folder}", str(PROJECT / "configs" / "two_nodes.sbatch"))
    said = job_folder / f"slurm-{job}.out"

    wait_for(lambda: said.exists() and said.read_text().count("epoch ") >= 5, 120)
    assert _said("scontrol", "requeue", job) == ""
    before = said.read_text().count("epoch ")
    # Slurm lets a requeued job wait, for two minutes at most.
    wait_for(lambda: _said("squeue", "--noheader", "--format=%T", f"--jobs={job}") == "PENDING", 30)
    _said("scontrol", "update", f"JobId={job}", "StartTime=now")
    ours, theirs = run(job_folder, setup="2xcpu"), run(whole, setup="2xcpu")
    wait_for(lambda: "Training time" in said.read_text(), 240)
    assert before < said.read_text().count("epoch ") < 2 * EPOCHS - 1, said.read_text()
    assert [path.name for path in ours.parent.glob("version_*")] == ["version_0"]
    assert results(ours) == results(theirs) and same_weights(ours, theirs)
