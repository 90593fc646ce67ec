"""What a launcher or a scheduler says about the job that this process is part of."""

import os
from collections.abc import Mapping
from pathlib import Path

from jsonargparse import Namespace

from mnist_lightning.runs.layout import LAST, SUMMARY

JOB = "job.txt"  # in a run's folder, which job began it


def follow_torchrun(settings: Namespace, environment: Mapping[str, str] = os.environ) -> None:
    """Takes devices, nodes and DDP from torchrun, which has started the processes already.

    Lightning does so only if DDP is asked for. Otherwise each process would train a run of its own.
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        return
    processes, here = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
    settings.devices, settings.num_nodes = here, processes // here
    if processes > 1 and settings.strategy == "auto":
        settings.strategy = "ddp"


def job_name(environment: Mapping[str, str] = os.environ) -> str | None:
    """The job of torchrun or Slurm that this process belongs to; the same after a restart or a requeue."""
    if "TORCHELASTIC_RUN_ID" in environment:
        # What `--rdzv-id` says, which is to be the job's own; "none" if it says nothing.
        name = environment["TORCHELASTIC_RUN_ID"]
        unnamed = f"{environment['MASTER_ADDR']} {environment['MASTER_PORT']}"
        return f"torchrun {unnamed if name == 'none' else name}"
    if "SLURM_JOB_ID" in environment:
        return f"slurm {environment['SLURM_JOB_ID']}"
    return None


def may_have_begun(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a run that is there may be this job's own, from before a restart or a requeue.

    torchrun counts the restarts of its own node only. A job with a name may therefore always go on from what it left.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        named = environment["TORCHELASTIC_RUN_ID"] != "none"
        return named or int(environment["TORCHELASTIC_RESTART_COUNT"]) > 0
    return int(environment.get("SLURM_RESTART_COUNT") or 0) > 0


def interrupted_checkpoint(runs: Path, job: str) -> Path | None:
    """The last checkpoint of the unfinished run that a job began, if it got that far."""
    own = [path.parent for path in runs.glob(f"*/{JOB}") if path.read_text() == job]
    last = [run / LAST for run in own if not (run / SUMMARY).exists()]
    return max((path for path in last if path.exists()), key=lambda path: path.stat().st_mtime, default=None)
