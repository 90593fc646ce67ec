"""The machine and the software that ran a fit, since a number without its machine says nothing."""

import ast
import os
import platform
import shutil
import subprocess
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

import mnist_lightning
from mnist_lightning.measure.load import cores

PACKAGES = ("lightning", "torch", "torchvision", "torchmetrics")
# What neither trains nor works while a run is timed. Any other file of the package counts as code that trains, so that a
# new one is not forgotten.
BESIDE = ("report", "study", "parsing", "commands.py", "errors.py", "paper.py", "measure/command.py")
LSCPU = {  # lscpu's name, ours
    "Model name": "processor",
    "CPU family": "family",
    "Model": "model",
    "Stepping": "stepping",
    "Hypervisor vendor": "hypervisor",
    "L1d cache": "cache_l1d",
    "L2 cache": "cache_l2",
    "L3 cache": "cache_l3",
}
# Vector extensions that matter to products of matrices, x86's and ARM's, the narrow ones first.
VECTORS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_bf16",
    "asimd",
    "sve",
    "sve2",
    "bf16",
)
PINNING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")


def describe_machine(device: torch.device, precision: str, load: float) -> dict[str, str | int | float]:
    """The machine and the software of this process, as flat names and values.

    Args:
        device: Where the network is trained.
        precision: Lightning's name of the precision.
        load: The machine's load average over the last minute, read before the run.
    """
    machine: dict[str, str | int | float] = {
        **_processor(),
        "cores": len(cores()),
        "threads": torch.get_num_threads(),
        "pinning": _pinning(cores()),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "precision": precision,
        "load_before": round(load, 2),
        "commit": _commit(),
        "code": training_code(),
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


def _processor() -> dict[str, str | int | float]:
    """The processor by lscpu, or by its name alone where there is none; the clock where the system tells it."""
    told = dict(line.split(":", 1) for line in _output("lscpu").splitlines() if ":" in line)
    told = {name.strip(): value.strip() for name, value in told.items()}
    found: dict[str, str | int | float] = {ours: told[name] for name, ours in LSCPU.items() if told.get(name)}
    flags = told.get("Flags", "").split()
    vectors = [name for name in VECTORS if name in flags]
    clock = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    return {
        "processor": platform.processor() or platform.machine(),
        **found,
        "vectors": " ".join(vectors) or torch.backends.cpu.get_cpu_capability(),
        **({"clock_mhz": round(clock.max or clock.current)} if clock else {}),
    }


def _pinning(usable: list[int]) -> str:
    """Which of the machine's cores the process may use, and what the environment says of its threads."""
    told = [f"{name}={os.environ[name]}" for name in PINNING if name in os.environ]
    every = len(usable) == os.cpu_count()
    return ", ".join(["none" if every else f"cores {' '.join(map(str, usable))}", *told])


def training_code(package: Path = Path(mnist_lightning.__file__).parent) -> str:
    """A fingerprint of the code that shapes the numbers and the times of a run, without its comments and docstrings.

    The commit does not tell this: it changes with each page of the documentation.
    """
    found = sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if not any(name.is_relative_to(other) for other in BESIDE):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found.update(f"{name.as_posix()}\n{ast.unparse(_WithoutDocstrings().visit(tree))}\n".encode())
    return found.hexdigest()[:12]


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else node


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
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=10, env={**os.environ, "LC_ALL": "C"}
        ).stdout.strip()
    except subprocess.TimeoutExpired:
        return ""
