"""What a launcher or a scheduler says about the job that this process is part of."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_lightning.errors import ALONE, SettingError
from mnist_lightning.runs.layout import LAST, SUMMARY

if TYPE_CHECKING:
    from jsonargparse import Namespace

# Numbers that launchers set and Lightning reads.
NUMBERS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_RESTART_COUNT"),
)
# A process's number, and what its launcher sets beside it.
COMPANIONS = {"RANK": "TORCHELASTIC_RUN_ID", "LOCAL_RANK": "MASTER_PORT", "SLURM_PROCID": "SLURM_NTASKS"}
OF_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
JOB = "job.txt"  # in a run's folder, which job began it


def refuse_bad_environment(environment: Mapping[str, str] = os.environ) -> None:
    """Makes sure that what launchers set in the environment is whole, since Lightning trusts a part of it as well.

    Raises:
        SettingError: If it is not: a process that takes itself for another one than the first writes and says nothing.
    """
    problem = next(_problems(environment), None)
    if problem is not None:
        error = SettingError(f"The environment variable {problem}: unset it, or start with torchrun or Slurm.")
        vars(error)[ALONE] = True  # it must be said by a process that is not the first one, too
        raise error


def _problems(environment: Mapping[str, str]) -> Iterator[str]:
    for name in NUMBERS:
        if not environment.get(name, "0").isdecimal():
            yield f"{name} is {environment[name]!r}, which is no number"
    for name, other in COMPANIONS.items():
        if int(environment.get(name, "0")) and other not in environment:
            yield f"{name} is {environment[name]}, but {other} is not set"
    if int(tasks := environment.get("SLURM_NTASKS", "1")) > 1 and "SLURM_NTASKS_PER_NODE" not in environment:
        yield f"SLURM_NTASKS is {tasks}, but SLURM_NTASKS_PER_NODE is not set"  # Lightning needs --ntasks-per-node
    if "TORCHELASTIC_RUN_ID" in environment:
        yield from (f"TORCHELASTIC_RUN_ID is set, but {name} is not" for name in OF_TORCHRUN if name not in environment)


def refuse_lonely_node(num_nodes: int, environment: Mapping[str, str] = os.environ) -> None:
    """Makes sure that a process which shall train with other machines can find them.

    Raises:
        SettingError: If nothing says where they are.
    """
    if num_nodes > 1 and not {"MASTER_ADDR", "SLURM_NTASKS", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE"} & environment.keys():
        raise SettingError(
            f"trainer.num_nodes is {num_nodes}, but nothing says where the other machines are: start with torchrun or Slurm, "
            "as docs/several-machines.md does."
        )


def follow_torchrun(settings: "Namespace", environment: Mapping[str, str] = os.environ) -> None:
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
        return named or int(environment.get("TORCHELASTIC_RESTART_COUNT") or 0) > 0
    return int(environment.get("SLURM_RESTART_COUNT") or 0) > 0


def interrupted_checkpoint(runs: Path, job: str) -> Path | None:
    """The last checkpoint of the unfinished run that a job began, if it got that far."""
    own = [path.parent for path in runs.glob(f"*/{JOB}") if path.read_text() == job]
    last = [run / LAST for run in own if not (run / SUMMARY).exists()]
    return max((path for path in last if path.exists()), key=lambda path: path.stat().st_mtime, default=None)
