"""The rates of a machine: by clocks made by hand, from several processes, and in a run's files."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import PROJECT

from mnist_lightning.measure import calibration, clock, energy
from mnist_lightning.measure.calibration import HOST, RATES, SIDE, Calibration
from mnist_lightning.measure.energy import Energy
from mnist_lightning.measure.machine import BESIDE, training_code

CPU = torch.device("cpu")


def tick(monkeypatch, *repetitions: tuple[float, float, float]) -> None:
    """A clock on which the repetitions of each measurement take these seconds, and the time to measure is then over.

    There is one set of matrices.
    """
    moments = [
        moment
        for first, second, third in repetitions
        for moment in (0.0, 1.0, 1.0 + first, 2.0, 2.0 + second, 3.0, 3.0 + third, 4.0)
    ]
    monkeypatch.setattr(clock, "perf_counter", iter(moments).__next__)
    monkeypatch.setattr(calibration, "SECONDS", 0.06)
    monkeypatch.setattr(calibration, "SETS", {})


def test_a_rate_is_the_work_of_the_shortest_repetition(monkeypatch):
    """A product of a quarter of the side tells first that a whole one is short enough."""
    tick(monkeypatch, (4e-5, 2e-5, 8e-5), (0.004, 0.002, 0.008), (0.004, 0.002, 0.008))
    assert RATES["fp32_gflops"](CPU) == pytest.approx(2 * SIDE["cpu"] ** 3 / 0.002 / 1e9)
    assert RATES["copy_gb_per_second"](CPU) == pytest.approx(2 * calibration.COPIED / 0.002 / 1e9)


def test_a_product_that_would_take_too_long_is_one_of_a_quarter_of_the_side(monkeypatch):
    tick(monkeypatch, (0.004, 0.001, 0.008))  # 64 times a millisecond
    assert RATES["bf16_gflops"](CPU) == pytest.approx(2 * (SIDE["cpu"] // 4) ** 3 / 0.001 / 1e9)


def test_a_hiccup_of_three_repetitions_does_not_make_the_product_smaller(monkeypatch):
    """Another program may have the core for as long as the first three repetitions."""
    monkeypatch.setattr(calibration, "SECONDS", 40.0)  # a tenth of it is for the quarter
    monkeypatch.setattr(calibration, "SETS", {})
    quarter = [0.0, 1.0, 1.9, 2.0, 2.9, 3.0, 3.9, 3.91, 3.92, 3.92001, 4.1]
    whole = [5.0, 6.0, 6.002, 7.0, 7.002, 8.0, 8.002, 45.1]
    monkeypatch.setattr(clock, "perf_counter", iter([*quarter, *whole]).__next__)
    assert RATES["fp32_gflops"](CPU) == pytest.approx(2 * SIDE["cpu"] ** 3 / 0.002 / 1e9)


def test_a_processor_multiplies_matrices_in_several_places_of_its_memory_and_the_best_counts(monkeypatch):
    """On this clock, a repetition takes 4 ms with the first set of matrices that is made and 2 ms with the second."""
    places: dict[int, float] = {}
    clock_now = [0.0]

    def product(one: torch.Tensor, other: torch.Tensor, out: torch.Tensor) -> None:
        assert one is other
        clock_now[0] += places.setdefault(one.data_ptr(), (0.004, 0.002)[len(places) % 2])

    monkeypatch.setattr(torch, "mm", product)
    monkeypatch.setattr(calibration, "now", lambda device: clock_now[0])
    monkeypatch.setattr(calibration, "SECONDS", 0.02)
    monkeypatch.setattr(calibration, "SETS", {"cpu": 2})
    assert calibration._product_seconds(64, CPU, torch.float32, 0.02) == pytest.approx(0.002)
    assert len(places) == 2
    places.clear()
    # A quarter takes 2 ms as well, so a whole product is thought to take 128 ms, which is too long.
    assert RATES["fp32_gflops"](CPU) == pytest.approx(2 * (SIDE["cpu"] // 4) ** 3 / 0.002 / 1e9)


def test_nothing_is_drawn_from_the_random_stream(monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    before = torch.get_rng_state()
    assert all(rate(CPU) > 0 for rate in RATES.values())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("first", [True, False])
def test_processes_measure_together_and_their_rates_are_added(monkeypatch, first):
    """Two processes, of which the other one measures as much as this one. The first one alone measures the host."""
    met: list[str] = []

    def reduce(rate: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        return rate * 2

    def rate_of(name: str) -> float:
        met.append(name)
        return {1: 10.0, 2: 30.0}.get(met.count(name), 20.0)  # in the first round, the second and the others

    monkeypatch.setattr(calibration, "ROUNDS", 3)
    strategy = SimpleNamespace(root_device=CPU, reduce=reduce, barrier=lambda: met.append("barrier"))
    monkeypatch.setattr(calibration, "RATES", {name: lambda _, name=name: rate_of(name) for name in RATES})
    found = Calibration()
    found.on_fit_start(SimpleNamespace(strategy=strategy, is_global_zero=first), None)
    # The best of the rounds is kept, and another program that had a core in the first round does not show.
    assert found.before == dict.fromkeys(RATES, 60.0) | ({} if first else {HOST: 0.0})
    # Each measurement starts when all are ready for it, and the measurements take turns.
    measured = [name for name in RATES if first or name != HOST]
    words = [word for name in RATES for word in (("barrier", name) if name in measured else ("barrier",))]
    assert met == words * 3


def test_the_host_is_measured_with_all_cores_whatever_the_run_uses(monkeypatch):
    used = []
    monkeypatch.setattr(calibration, "product_rate", lambda *_: used.append(torch.get_num_threads()) or 1.0)
    before = torch.get_num_threads()
    monkeypatch.setattr(calibration, "cores", lambda: [0, 1, 2])
    assert calibration.host_rate() == 1.0 and used == [3] and torch.get_num_threads() == before


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


def test_the_fingerprint_is_of_the_code_that_shapes_a_run(tmp_path):
    for name in ("report/page.py", "errors.py", "model.py", "speed/pooling.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    first = training_code(tmp_path)
    for name, text, same in (
        ("report/page.py", "x = 2\n", True),
        ("errors.py", "x = 2\n", True),
        ("model.py", '"""A page of documentation."""\nx = 1  # a comment\n', True),
        ("model.py", "x = 2\n", False),
        ("model.py", "x = 1\n", True),
        ("speed/new.py", "x = 1\n", False),
    ):
        (tmp_path / name).write_text(text)
        assert (training_code(tmp_path) == first) == same, (name, text)


def test_the_fingerprint_leaves_out_files_that_there_are():
    package = PROJECT / "mnist_lightning"
    assert all((package / name).exists() for name in BESIDE)
