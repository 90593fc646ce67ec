"""`machine`: its rates beside those of recorded runs, and the time that it foretells."""

import sys

import pytest
import torch
from handmade_runs import make_run

from mnist_lightning import commands, paper
from mnist_lightning.measure import calibration
from mnist_lightning.measure.command import NAMES


@pytest.fixture
def machine(tmp_path, monkeypatch, capsys):
    """Runs the command on a machine without a GPU that gives 50 GFLOP/s in fp32; what it prints."""
    rates = {"fp32_gflops": 50.0, "bf16_gflops": 120.0, "copy_gb_per_second": 12.34}
    monkeypatch.setattr(calibration, "RATES", {name: lambda _, rate=rate: rate for name, rate in rates.items()})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)

    def run() -> str:
        monkeypatch.setattr(sys, "argv", ["mnist-lightning", "machine"])
        assert commands.main() == 0
        return capsys.readouterr().out

    return run


def test_a_machine_without_recorded_runs_says_so(machine, tmp_path):
    for seed in range(2):
        said = machine()
        assert "There is no calibrated run in results," in said and "minutes" not in said
        assert f"threads     {torch.get_num_threads()}\n" in said
        (row,) = (line for line in said.splitlines() if line.startswith("this machine"))
        assert row.split()[2:] == ["50.0", "120.0", "12.3"]
        make_run(tmp_path / "results", "1xcpu", 128, seed, 100.0, 0.99, 0.03)  # is not calibrated


def test_the_time_of_the_grid_is_that_of_the_records_at_the_rate_of_this_machine(machine, tmp_path):
    results = tmp_path / "results"
    for number, size in enumerate(paper.BATCH_SIZES):
        for seed, factor in enumerate((1.0, 1.0, 7.0)):  # the median counts
            seconds = factor * (600.0 - 60 * number)
            make_run(results / "fp32", "1xcpu", size, seed, seconds, 0.99, 0.03, rates=(100.0, 100.0))
    bf16 = {"precision": "bf16-mixed"}
    make_run(results / "bf16", "2xcpu", 32, 0, 60.0, 0.99, 0.03, rates=(100.0, 100.0), machine=bf16)
    make_run(results / "gpu", "1xgpu", 32, 0, 60.0, 0.99, 0.03, rates=(9000.0, 9000.0))
    make_run(results / "wide", "1xcpu", 32, 0, 9e3, 0.99, 0.03, rates=(100.0, 100.0), model_hidden=9)
    make_run(results / "disturbed", "2xcpu", 64, 0, 9e3, 0.99, 0.03, rates=(100.0, 80.0), machine=bf16)
    said = machine()
    # 600 + 540 + ... + 240 s at 100 GFLOP/s; in bf16 60 s at 200 GFLOP/s, and here are 120.
    assert f"  1xcpu, fp32: about {2940 * 100 / 50 / 60:.0f} minutes a seed\n" in said
    assert (
        f"  2xcpu, bf16: about {60 * 200 / 120 / 60:.0f} minutes a seed, for the 1 batch sizes that were recorded"
        in said
    )
    assert "gpu:" not in said and said.count("minutes") == 2
    (row,) = (line for line in said.splitlines() if line.startswith("machine 1 of the results, Z80"))
    assert row.split()[-len(NAMES) :] == ["100.0", "200.0", "10.0"]
