"""The C++ of a training step, compiled for a network and for this machine's processor when it is first needed."""

import ctypes
import hashlib
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from mnist_lightning.waiting import telling

SOURCE = Path(__file__).with_name("step.cpp")
KINDS = {torch.float32: "float32", torch.float64: "float64"}  # and "mixed"
# None of them lets the compiler change the order of a sum, or assume that there is no NaN. Mathematical functions set no
# errno, so that several square roots are one instruction.
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")


@cache
def library(first: int, second: int, kernel_size: int, pool_size: int) -> ctypes.CDLL:
    """step.cpp for convolutions of `first` and `second` channels; it is compiled once and kept in the user's cache.

    Raises OSError where the compiler, the cache or AVX2 is missing, or if the file is not written for such a network.
    """
    compiler = os.environ.get("CXX", "g++")
    # What the compiler knows of itself and of the processor.
    macros = _output(compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull)
    lanes = 16 if "__AVX512F__" in macros and first % 16 == second % 16 == 0 else 8
    if "__AVX2__" not in macros or first % lanes or second % lanes or kernel_size > 5 or pool_size > 4:
        raise OSError("it takes AVX2, channels in multiples of 8, kernels up to 5 and pooling up to 4 pixels wide")
    options = (*FLAGS, *f"-DIC={first} -DOC={second} -DK={kernel_size} -DP={pool_size} -DBYTES={4 * lanes}".split())
    name = hashlib.sha256("\n".join((macros, *options, SOURCE.read_text())).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    file = cache / "mnist-lightning" / f"step-{name}.so"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        # It gets its name when it is whole, since several processes may start at once.
        with TemporaryDirectory(dir=file.parent) as new, telling("compiling the training step, once on a machine"):
            _output(compiler, *options, str(SOURCE), "-o", f"{new}/step.so")
            os.replace(f"{new}/step.so", file)
    return ctypes.CDLL(str(file))


def call(functions: ctypes.CDLL, name: str, kind: str, *arguments: Tensor | Sequence[Tensor] | float) -> None:
    """Calls a function of step.cpp, of a kind in `KINDS`, in as many threads as PyTorch uses. Tensors are contiguous."""
    table = dict(zip(("forward", "backward", "adadelta"), (ctypes.c_void_p * 3).in_dll(functions, kind), strict=True))
    in_c = map(_in_c, (*arguments, torch.get_num_threads()))
    ctypes.CFUNCTYPE(None)(table[name] or 0)(*in_c)


def _in_c(argument: Tensor | Sequence[Tensor] | float) -> object:
    if isinstance(argument, float):
        return ctypes.c_double(argument)
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    return (ctypes.c_void_p * len(argument))(*(tensor.data_ptr() for tensor in argument))


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]} failed: {done.stderr}".strip().splitlines()[-1])
    return done.stdout
