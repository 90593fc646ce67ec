"""What torchrun and Slurm say, and which run a job goes on with."""

import os

import pytest
from jsonargparse import Namespace

from mnist_lightning.runs.resuming import JOB, follow_torchrun, interrupted_checkpoint, job_name

SLURM = {"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": "2"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0", "MASTER_ADDR": "node1"}
TORCHRUN |= {"MASTER_PORT": "29500", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}


@pytest.mark.parametrize(
    ("environment", "name", "again"),
    [
        ({}, None, False),
        ({"SLURM_JOB_ID": "17"}, "slurm 17", False),
        (SLURM, "slurm 17", True),
        (TORCHRUN, "torchrun node1 29500", False),
        ({**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "1"}, "torchrun node1 29500", True),
        ({**TORCHRUN, "TORCHELASTIC_RUN_ID": "x", "SLURM_JOB_ID": "17"}, "torchrun x", True),
    ],
)
def test_a_job_that_was_started_again_goes_on_with_its_own_unfinished_run(tmp_path, environment, name, again):
    def run(version, job, *files):
        folder = tmp_path / "1xcpu" / f"version_{version}"
        (folder / "checkpoints").mkdir(parents=True)
        (folder / JOB).write_text(str(job))
        for file in files:
            (folder / file).touch()
        return folder / "checkpoints" / "last.ckpt"

    assert job_name(environment) == name
    last = "checkpoints/last.ckpt"
    run(0, name, last, "summary.json")
    run(1, "slurm 18", last)
    run(2, name)
    assert interrupted_checkpoint(tmp_path, environment) is None
    older, newer = run(3, name, last), run(4, name, last)
    os.utime(older, (1, 1))
    assert interrupted_checkpoint(tmp_path, environment) == (newer if again else None)
    assert interrupted_checkpoint(tmp_path / "nowhere", environment) is None


def test_torchrun_says_how_many_devices_there_are():
    settings = Namespace(devices=1, num_nodes=1, strategy="auto")
    follow_torchrun(settings, {})
    assert settings == Namespace(devices=1, num_nodes=1, strategy="auto")
    follow_torchrun(settings, TORCHRUN)
    assert settings == Namespace(devices=2, num_nodes=2, strategy="ddp")
