"""Which run a command goes on with, and which settings it takes from the checkpoint."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from jsonargparse import Namespace

from mnist_lightning.errors import SettingError
from mnist_lightning.run_files import CONFIG, LAST, SUMMARY, run_of_checkpoint
from mnist_lightning.runs.checks import read_checkpoint
from mnist_lightning.runs.config import plain

JOB = "job.txt"  # in a run's folder, which job began it


def with_settings_of_checkpoint(argv: Sequence[str], config: Namespace) -> list[str]:
    """A command line with the settings of its checkpoint first. What the user gives comes after them, and is compared.

    A run goes on with its own config; an evaluation needs the network's settings alone. A job that a launcher has started
    again goes on from the checkpoint that it left.
    """
    command, *rest = argv
    path, logger = config.ckpt_path, config.trainer.logger
    if command == "fit" and path is None and isinstance(logger, Namespace):
        path = interrupted_checkpoint(Path(logger.init_args.get("save_dir", "logs")))
        rest += [f"--ckpt_path={path}"] * (path is not None)
    if path is None:
        if command != "fit":
            raise SettingError(f"{command} needs ckpt_path: name a file such as <run>/checkpoints/last.ckpt.")
        return list(argv)
    checkpoint, run = read_checkpoint(str(path), command == "fit"), run_of_checkpoint(path)
    if command == "fit" and run is not None:
        return [command, "--config", str(run / CONFIG), *rest]
    settings = {f"model.{name}": value for name, value in plain(checkpoint["hyper_parameters"]).items()}
    if command == "fit":
        settings["data.batch_size"] = checkpoint["datamodule_hyper_parameters"]["batch_size"]
        settings["seed_everything"] = checkpoint["datamodule_hyper_parameters"]["seed"]
    first = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()]
    return [command, *first, *rest]


def follow_torchrun(settings: Namespace, environment: Mapping[str, str] = os.environ) -> None:
    """Takes devices, nodes and DDP from torchrun, since otherwise each of its processes would train a run of its own."""
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


def interrupted_checkpoint(logs: Path, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The last checkpoint of the unfinished run that this job began, before a restart or a requeue."""
    job = job_name(environment)
    if "TORCHELASTIC_RUN_ID" in environment:
        # It counts the restarts of its own node only. A job with a name may always go on from what it left.
        restarts = environment.get("TORCHELASTIC_RESTART_COUNT") or 0
        again = environment["TORCHELASTIC_RUN_ID"] != "none" or int(restarts) > 0
    else:
        again = int(environment.get("SLURM_RESTART_COUNT") or 0) > 0
    own = [path.parent for path in logs.rglob(JOB) if path.read_text() == job] if again else []
    last = [run / LAST for run in own if not (run / SUMMARY).exists() and (run / LAST).exists()]
    return max(last, key=lambda path: path.stat().st_mtime, default=None)
