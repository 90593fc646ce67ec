"""What torchrun and Slurm say, and which run a job goes on with."""

import os

import pytest
from jsonargparse import Namespace

from mnist_lightning.runs.jobs import JOB, follow_torchrun, interrupted_checkpoint, job_name, may_have_begun

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
}


@pytest.mark.parametrize(
    ("environment", "name", "begun"),
    [
        ({}, None, False),
        ({"SLURM_JOB_ID": "17"}, "slurm 17", False),
        ({"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "2"}, "slurm 17", True),
        (TORCHRUN, "torchrun node1 29500", False),
        ({**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "1"}, "torchrun node1 29500", True),
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": "x", "SLURM_JOB_ID": "17"}, "torchrun x", True),
    ],
)
def test_the_name_of_a_job(environment, name, begun):
    assert job_name(environment) == name
    assert may_have_begun(environment) is begun


def test_torchrun_says_how_many_devices_there_are():
    settings = Namespace(devices=1, num_nodes=1, strategy="auto")
    follow_torchrun(settings, {})
    assert settings == Namespace(devices=1, num_nodes=1, strategy="auto")
    follow_torchrun(settings, TORCHRUN)
    assert settings == Namespace(devices=2, num_nodes=2, strategy="ddp")


def test_a_job_goes_on_with_its_own_unfinished_run(tmp_path):
    def run(version, job, *files):
        folder = tmp_path / f"version_{version}"
        (folder / "checkpoints").mkdir(parents=True)
        (folder / JOB).write_text(job)
        for name in files:
            (folder / name).touch()
        return folder / "checkpoints" / "last.ckpt"

    last = "checkpoints/last.ckpt"
    run(0, "slurm 17", last, "summary.json")
    run(1, "slurm 18", last)
    run(2, "slurm 17")
    assert interrupted_checkpoint(tmp_path, "slurm 17") is None
    older, newer = run(3, "slurm 17", last), run(4, "slurm 17", last)
    os.utime(older, (1, 1))
    assert interrupted_checkpoint(tmp_path, "slurm 17") == newer
    assert interrupted_checkpoint(tmp_path / "nowhere", "slurm 17") is None
