"""The machine and the software that ran a fit, since a number without its machine says nothing."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

import mnist_lightning

PACKAGES = ("lightning", "torch", "torchvision", "torchmetrics")


def describe_machine(device: torch.device, precision: str, load: float) -> dict[str, str | int | float]:
    """The machine and the software of this process, as flat names and values.

    Args:
        device: Where the network is trained.
        precision: Lightning's name of the precision.
        load: The machine's load average over the last minute, read before the run.
    """
    machine: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "precision": precision,
        "load_before": round(load, 2),
        "commit": _commit(),
    }
    if device.type == "cuda":
        machine |= {
            "gpu": torch.cuda.get_device_name(device),
            "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0],
            "cuda": torch.version.cuda or "",
            "tf32": torch.backends.cuda.matmul.allow_tf32,
            "cudnn": torch.backends.cudnn.version() or 0,
        }
    return machine


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The checkout's commit, `+` if the code differs from it; empty for an installed package."""
    package = Path(mnist_lightning.__file__).parent
    if not (package.parent / ".git").exists():
        return ""
    commit = _output("git", "-C", str(package), "rev-parse", "--short=12", "HEAD")
    changed = _output("git", "-C", str(package), "status", "--porcelain", "--untracked-files=no", ".")
    return f"{commit}+" if commit and changed else commit


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=10).stdout.strip()
    except subprocess.TimeoutExpired:
        return ""
