"""Slurm itself: a controller and two nodes on this machine run the sbatch file that is shipped."""

import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from conftest import PROJECT, SMALL
from processes import wait_for
from test_faults import last, run
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
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
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
    whole = tmp_path / "whole"
    whole.mkdir()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "mnist_lightning",
            "fit",
            *settings,
            "--trainer.devices=2",
            "--trainer.accelerator=cpu",
        ],
        cwd=whole,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=200,
    )

    # The job's `python` is this one, with a smaller experiment.
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@" {" ".join(map(_quoted, settings))}\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job_folder = tmp_path / "job"
    job_folder.mkdir()
    job = _said("sbatch", "--parsable", f"--chdir={job_folder}", str(PROJECT / "configs" / "two_nodes.sbatch"))
    said = job_folder / f"slurm-{job}.out"
    state = lambda: _said("squeue", "--noheader", "--format=%T", f"--jobs={job}")

    wait_for(lambda: said.exists() and said.read_text().count("epoch ") >= 5, 120)
    assert last(job_folder, setup="2xcpu").exists()
    assert _said("scontrol", "requeue", job) == ""
    before = said.read_text().count("epoch ")
    # Slurm lets a requeued job wait, for two minutes at most.
    wait_for(lambda: state() == "PENDING", 30)
    _said("scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_for(lambda: (run(job_folder, setup="2xcpu") / "summary.json").exists(), 240)
    text = said.read_text()
    assert before < text.count("epoch ") < 2 * EPOCHS - 1, text
    assert text.count("Training time") == 1, textwrap.shorten(text, 2000)
    assert [path.name for path in run(job_folder, setup="2xcpu").parent.glob("version_*")] == ["version_0"]
    assert results(run(job_folder, setup="2xcpu")) == results(run(whole, setup="2xcpu"))
    assert same_weights(run(job_folder, setup="2xcpu"), run(whole, setup="2xcpu"))


def _quoted(option: str) -> str:
    return f"'{option}'"
