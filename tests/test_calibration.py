"""The rates of a machine: by clocks made by hand, from several processes, and in a run's files."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mnist_lightning.measure import calibration, clock, energy
from mnist_lightning.measure.calibration import RATES, SIDE, Calibration
from mnist_lightning.measure.energy import Energy

CPU = torch.device("cpu")


def test_a_rate_is_the_work_of_the_shortest_repetition(monkeypatch):
    """A clock on which repetitions take 4, 2 and 8 ms, and the time to measure is over at once."""
    moments = iter([0.0, 1.0, 1.004, 2.0, 2.002, 3.0, 3.008, 4.0] * 2)
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    monkeypatch.setattr(clock, "perf_counter", lambda: next(moments))
    assert RATES["fp32_gflops"](CPU) == pytest.approx(2 * SIDE["cpu"] ** 3 / 0.002 / 1e9)
    assert RATES["copy_gb_per_second"](CPU) == pytest.approx(2 * calibration.COPIED / 0.002 / 1e9)


def test_nothing_is_drawn_from_the_random_stream(monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    before = torch.get_rng_state()
    assert all(rate(CPU) > 0 for rate in RATES.values())
    assert torch.equal(torch.get_rng_state(), before)


def test_processes_measure_together_and_their_rates_are_added(monkeypatch):
    """Two processes, of which the other one measures as much as this one."""
    met: list[str] = []

    def reduce(rate: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        return rate * 2

    strategy = SimpleNamespace(root_device=CPU, reduce=reduce, barrier=lambda: met.append("barrier"))
    rates = {name: lambda device, name=name: met.append(name) or 10.0 for name in RATES}
    monkeypatch.setattr(calibration, "RATES", rates)
    found = Calibration()
    found.on_fit_start(SimpleNamespace(strategy=strategy), None)
    assert found.before == dict.fromkeys(RATES, 20.0)
    # Each measurement starts when all are ready for it.
    assert met == [word for name in RATES for word in ("barrier", name)]


def test_energy_is_counted_over_a_counter_that_wraps_around(monkeypatch, tmp_path):
    monkeypatch.setattr(energy, "PACKAGES", str(tmp_path))
    told = Energy()
    told.on_train_start(None, None)
    told.on_train_epoch_end(None, None)
    assert told.joules is None

    def set_counters(*counts: int) -> None:
        for number, count in enumerate(counts):
            package = tmp_path / f"intel-rapl:{number}"
            package.mkdir(exist_ok=True)
            Path(package, "energy_uj").write_text(f"{count}\n")
            Path(package, "max_energy_range_uj").write_text("10000000\n")

    set_counters(9_000_000, 1_000_000)
    told.on_train_start(None, None)
    for counts in ((9_500_000, 2_000_000), (500_000, 2_000_000)):
        set_counters(*counts)
        told.on_train_epoch_end(None, None)
    assert told.joules == pytest.approx(0.5 + 1.0 + 1.0)
