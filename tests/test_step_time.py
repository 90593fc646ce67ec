"""The model of a run's time, on the paper's Table I and on numbers made by hand."""

import math

import numpy as np
import pytest
from handmade_runs import make_run

from mnist_lightning import paper
from mnist_lightning.report.page import make_page
from mnist_lightning.report.runs import read_runs
from mnist_lightning.report.step_time import bracket, crossover, crossover_interval, fit_line, fit_overlap
from mnist_lightning.report.two_devices import paper_fits, predicted
from mnist_lightning.report.writing import write

STEPS = [18750, 9380, 4690, 2350, 1180, 590, 300]
IMAGES = 600_000


def test_standard_errors_are_those_of_least_squares():
    # By hand: x = 0, 1, 2, 3 and y = 0, 2, 2, 4 give 0.2 + 1.2 x and a residual variance of 0.4.
    line = fit_line([0, 1, 2, 3], [0, 2, 2, 4], relative=False)
    assert (line.fixed, line.per_step) == (pytest.approx(0.2), pytest.approx(1.2))
    assert line.residuals == pytest.approx((-0.2, 0.6, -0.6, 0.2))
    assert line.per_step_error == pytest.approx((0.4 / 5) ** 0.5)
    assert line.fixed_error == pytest.approx((0.4 * (1 / 4 + 2.25 / 5)) ** 0.5)
    assert line.r2 == pytest.approx(1 - 0.8 / 8)
    assert line.leverages == pytest.approx((0.7, 0.3, 0.3, 0.7))  # 1/4 + (x - 1.5)^2 / 5


def test_relative_errors_are_weighted_by_the_seconds():
    x, y = np.array(STEPS, float), np.array(paper.SECONDS["2xgpu"])
    line = fit_line(STEPS, y)
    (slope, fixed), covariance = np.polyfit(x, y, 1, w=1 / y, cov=True)
    assert (line.fixed, line.per_step) == (pytest.approx(fixed), pytest.approx(slope))
    assert line.per_step_error == pytest.approx(math.sqrt(covariance[0, 0]))
    assert line.residuals == pytest.approx(tuple(1 - (fixed + slope * x) / y)) and sum(line.leverages) == pytest.approx(
        2
    )


def test_where_two_setups_are_equally_fast():
    cpu, one, two = (fit_line(STEPS, paper.SECONDS[setup]) for setup in paper.SETUPS)
    assert round(crossover(one, two, IMAGES)) == 491 and crossover(two, one, IMAGES) == crossover(one, two, IMAGES)
    # The bootstrap of relative residuals.
    assert crossover_interval(one, two, STEPS, IMAGES) == (pytest.approx(416, abs=5), pytest.approx(597, abs=8))
    # Lines that do not cross.
    assert crossover(cpu, one, IMAGES) is crossover(cpu, cpu, IMAGES) is None
    assert crossover_interval(cpu, one, STEPS, IMAGES) is None
    difference = np.subtract(paper.SECONDS["2xgpu"], paper.SECONDS["1xgpu"])
    assert bracket(dict(zip(paper.BATCH_SIZES, difference, strict=True))) == [(256, 512)]
    assert bracket({64: -1.0, 32: 1.0, 128: 2.0}) == [(32, 64), (64, 128)]


def test_a_host_that_runs_ahead_is_told_from_costs_that_add():
    noise = [0.001, -0.002, 0.0015, 0.0, -0.001, 0.002, -0.0015]
    overlapping = [max(2e-3 * x, 6 + 5e-4 * x) * (1 + e) for x, e in zip(STEPS, noise, strict=True)]
    found = fit_overlap(STEPS, overlapping)
    assert fit_overlap(STEPS[:4], overlapping[:4]) is fit_line([1, 1, 2], [1, 2, 3]) is None  # too few points
    assert found.preferred and found.per_step == pytest.approx(5e-4, rel=0.05)
    assert (found.host, found.fixed) == (pytest.approx(2e-3, rel=0.01), pytest.approx(6, rel=0.01))
    added = [(6 + 2e-3 * x) * (1 + e) for x, e in zip(STEPS, noise, strict=True)]
    for seconds in (added, *paper.SECONDS.values()):  # synchronous session.run: nothing overlaps
        assert not fit_overlap(STEPS, seconds).preferred


def test_a_prediction_halves_the_images_and_adds_an_exchange(tmp_path):
    (one,) = (each for each in paper_fits() if each.setup == "1xgpu")
    exchange = 4 * 1_199_882 / 10e9
    steps = dict(zip(paper.BATCH_SIZES, STEPS, strict=True))
    alone = {size: one.line.fixed + count * one.line.per_step for size, count in steps.items()}
    two = {size: alone[size] - one.line.fixed / 2 + count * exchange for size, count in steps.items()}
    assert predicted(one) == {size: pytest.approx((two[size], alone[size])) for size in steps}
    write(tmp_path, [])
    text = (tmp_path / "report.md").read_text()
    assert f"pay from batch size {min(size for size in steps if two[size] < alone[size])} on" in text


def run_both(folder, sizes):
    """One process and two: two save 6 s of the images' 60 and lose 5 ms in a step of 5; validation is 0.8 s and the rest 0.2."""
    for setup, fixed, per_step in (("1xcpu", 60.0, 0.005), ("2xcpu", 54.0, 0.010)):
        for size in sizes:
            train = fixed + per_step * 10 * -(-60_000 // size)
            epochs = {"seconds/epoch": [train / 10] * 10, "val/accuracy": [0.99] * 10}
            epochs |= {"seconds/train_epoch": [train / 10] * 10, "seconds/val_epoch": [0.08] * 10}
            make_run(folder, setup, size, 0, train + 1.0, 0.99, 0.03, summary={"by_epoch": epochs})
    return make_page(read_runs([folder])).seconds[1]


def test_what_a_step_and_an_image_cost_is_of_training_alone(tmp_path):
    found = run_both(tmp_path, paper.BATCH_SIZES)
    one = found.fits[0]
    assert (one.line.fixed, one.line.per_step, one.rest) == tuple(map(pytest.approx, (60.0, 0.005, 1.0)))
    assert one.per_image == pytest.approx(100.0)
    # Equal at 1,200 steps, 500 images a step.
    assert found.brackets == [(256, 512)]
    where, ends = found.fitted
    assert (where, *ends) == tuple(map(pytest.approx, (500, 500, 500)))
    assert found.efficiency[32] == pytest.approx((61 + 93.75) / (2 * (55 + 187.5)))
    assert found.more[32] == pytest.approx(-6 + 93.75)
