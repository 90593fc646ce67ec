import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from conftest import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")]


def generated(folder, **environment):
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(folder), "TRITON_CACHE_DIR": str(folder / "triton")}
    program = [sys.executable, PROJECT / "tests" / "generated_gpu_code.py"]
    done = subprocess.run(
        program, check=False, env={**os.environ, **caches, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return {line["formula"]: line["kernels"] for line in map(json.loads, done.stdout.splitlines())}


def test_every_formula_comes_down_to_machine_code_for_a_gpu(tmp_path):
    """Nothing runs: Triton and NVIDIA's assembler take what PyTorch's compiler writes, and each kernel has some code."""
    found = generated(tmp_path)
    assert {name: len(sizes) for name, sizes in found.items()} == {
        "pooling": 2,
        "its gradient": 1,
        "words": 1,
        "dropout .5": 2,
        "dropout .3": 2,
        "Adadelta": 2,
    }
    assert min(size for sizes in found.values() for size in sizes) > 1000  # bytes


def test_the_words_of_the_dropout_are_the_same_bits_in_triton(tmp_path):
    assert generated(tmp_path, TRITON_INTERPRET="1") == {"words": [True]}
