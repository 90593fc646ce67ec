"""What makes a run fast changes nothing in it."""

import ctypes
import subprocess
import sys

import pytest
import torch
from conftest import PROJECT, SMALL
from test_fit import RUNS, SMALL_FIT, results, scalars, summary_in, weights


@pytest.mark.parametrize("compiled", ["null", pytest.param("true", marks=pytest.mark.slow)])
def test_compiled_and_uncompiled_runs_agree(command, compiled):
    options = ["--trainer.max_epochs=1", "--trainer.precision=64-true"]
    for value in ("false", compiled):
        assert command(*SMALL_FIT, *options, f"--model.compile={value}") == 0
    ours, theirs = (weights(RUNS / f"version_{n}") for n in range(2))
    assert 0 < max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-12
    assert len({str(results(RUNS / f"version_{n}")["val/accuracy"]) for n in range(2)}) == 1


@pytest.mark.slow
def test_bf16_learns_as_fp32_does(command):
    """After nine steps, in which rounding has not grown; ten equal guesses have a loss of 2.30."""
    assert command(*SMALL_FIT, "--trainer.max_epochs=1") == 0
    fast = ["--config", PROJECT / "configs" / "fast.yaml"]
    assert command("fit", *fast, "--trainer.accelerator=cpu", *SMALL, "--trainer.max_epochs=1") == 0
    exact, rounded = (scalars(RUNS / f"version_{n}")["val/loss"][-1][1] for n in range(2))
    summary = summary_in(RUNS / "version_1")
    assert summary["machine"]["precision"] == "bf16-mixed"
    assert exact < 2 and 0 < abs(rounded - exact) < 0.02


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_freed_memory_is_kept(monkeypatch):
    """A tensor of 64 MB, freed and made again, faults no new pages in."""
    code = """
import resource
from mnist_lightning.speed.allocator import keep_freed_memory
{}keep_freed_memory()
import torch
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
before = faults()
for _ in range(5):
    torch.ones(2**24)
print(faults() - before)
"""
    for prefix, least, most in (("", 0, 8_000), ("#", 5 * 16_000, 10**6)):
        monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0" if prefix else "1")  # as the commands do
        command = [sys.executable, "-c", code.format(prefix)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert least <= int(done.stdout) < most


def test_tf32_is_a_setting_and_off_and_deterministic_fills_no_tensor(command):
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    for tf32 in (True, False):
        options = ["--tf32=true"] * tf32
        assert command(*SMALL_FIT, "--trainer.fast_dev_run=true", "--trainer.deterministic=true", *options) == 0
        assert [each.allow_tf32 for each in flags] == [tf32, tf32]
        assert torch.utils.deterministic.fill_uninitialized_memory is False
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_a_process_at_batch_2048_stays_under_one_and_a_quarter_gigabytes(tmp_path, mnist_dir):
    # Not `getrusage`, whose peak goes over from the process of the tests.
    code = "from mnist_lightning import commands; assert commands.main() == 0"
    code += "; print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    options = ["--trainer.limit_train_batches=8", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    fit = [sys.executable, "-c", code, "fit", "--data.batch_size=2048", f"--data.data_dir={mnist_dir}", *options]
    done = subprocess.run(fit, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    assert 1e5 < int(done.stdout.splitlines()[-1]) < 1.25e9 / 1024
