"""The machine and the software that ran a fit, since a number without its machine says nothing."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

import mnist_lightning
from mnist_lightning.measure.disturbance import cores

PACKAGES = ("lightning", "torch", "torchvision", "torchmetrics")
LSCPU = ("Model name", "CPU family", "Model", "Stepping", "Hypervisor vendor", "L1d cache", "L2 cache", "L3 cache")
OURS = ("processor", "family", "model", "stepping", "hypervisor", "cache_l1d", "cache_l2", "cache_l3")


def describe_machine(device: torch.device, precision: str, load: float) -> dict[str, str | int | float]:
    """The machine and the software of this process, as flat names and values; the load average is read before the run."""
    told = dict(line.split(":", 1) for line in _output("lscpu").splitlines() if ":" in line)
    processor = {ours: told[name].strip() for name, ours in zip(LSCPU, OURS, strict=True) if name in told}
    package = Path(mnist_lightning.__file__).parent
    changed = "+" if _output("git", "-C", str(package), "status", "--porcelain", "--untracked-files=no", ".") else ""
    commit, tree = (_output("git", "-C", str(package), "rev-parse", name)[:12] for name in ("HEAD", "HEAD:./"))
    machine: dict[str, str | int | float] = {
        "processor": platform.processor() or platform.machine(),
        **processor,
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cores": len(cores()),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "precision": precision,
        "load_before": round(load, 2),
        "commit": commit + changed if tree else "",
        # The package's tree in git. The commit changes with each page of the documentation.
        "code": tree + changed if tree else version("mnist-lightning"),
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


def _output(*command: str) -> str:
    """What a program prints; nothing where it is missing or fails."""
    try:
        environment = {**os.environ, "LC_ALL": "C"}
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, env=environment, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip()
