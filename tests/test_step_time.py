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


@pytest.mark.parametrize(
    ("setup", "fixed", "per_step", "r2"),
    [
        ("1xcpu", "506.71", "0.015074", "0.99339"),
        ("1xgpu", "15.730", "0.005563", "0.99983"),
        ("2xgpu", "11.031", "0.008989", "0.99963"),
    ],
)
def test_the_papers_table_fits(setup, fixed, per_step, r2):
    line = fit_line(STEPS, paper.SECONDS[setup], relative=False)
    assert f"{line.fixed:.{len(fixed.split('.')[1])}f}" == fixed
    assert f"{line.per_step:.6f}" == per_step
    assert f"{line.r2:.5f}" == r2


def test_standard_errors_are_those_of_least_squares():
    # By hand: x = 0, 1, 2, 3 and y = 0, 2, 2, 4 give 0.2 + 1.2 x and a residual variance of 0.4.
    line = fit_line([0, 1, 2, 3], [0, 2, 2, 4], relative=False)
    assert (line.fixed, line.per_step) == (pytest.approx(0.2), pytest.approx(1.2))
    assert line.residuals == pytest.approx((-0.2, 0.6, -0.6, 0.2))
    assert line.per_step_error == pytest.approx((0.4 / 5) ** 0.5)
    assert line.fixed_error == pytest.approx((0.4 * (1 / 4 + 2.25 / 5)) ** 0.5)
    assert line.r2 == pytest.approx(1 - 0.8 / 8)
    # 1/4 + (x - 1.5)^2 / 5
    assert line.leverages == pytest.approx((0.7, 0.3, 0.3, 0.7))


def test_relative_errors_are_weighted_by_the_seconds():
    x, y = np.array(STEPS, float), np.array(paper.SECONDS["2xgpu"])
    line = fit_line(STEPS, y)
    slope, fixed = np.polyfit(x, y, 1, w=1 / y)
    assert (line.fixed, line.per_step) == (pytest.approx(fixed), pytest.approx(slope))
    _, covariance = np.polyfit(x, y, 1, w=1 / y, cov=True)
    assert line.per_step_error == pytest.approx(math.sqrt(covariance[0, 0]))
    assert line.residuals == pytest.approx(tuple(1 - (fixed + slope * x) / y))
    assert sum(line.leverages) == pytest.approx(2)


def test_the_papers_gpus_are_equal_at_437_images():
    one, two = (fit_line(STEPS, paper.SECONDS[setup], relative=False) for setup in ("1xgpu", "2xgpu"))
    assert round(crossover(one, two, IMAGES)) == 437
    assert crossover(two, one, IMAGES) == pytest.approx(crossover(one, two, IMAGES))


def test_the_interval_of_a_crossover_is_that_of_resampled_relative_residuals():
    one, two = (fit_line(STEPS, paper.SECONDS[setup]) for setup in ("1xgpu", "2xgpu"))
    assert round(crossover(one, two, IMAGES)) == 491
    low, high = crossover_interval(one, two, STEPS, IMAGES)
    assert (low, high) == (pytest.approx(416, abs=5), pytest.approx(597, abs=8))


def test_lines_that_do_not_cross_have_no_crossover():
    cpu, gpu = (fit_line(STEPS, paper.SECONDS[setup]) for setup in ("1xcpu", "1xgpu"))
    assert crossover(cpu, gpu, IMAGES) is None
    assert crossover_interval(cpu, gpu, STEPS, IMAGES) is None
    assert crossover(cpu, cpu, IMAGES) is None


def test_a_bracket_is_where_the_sign_changes():
    difference = dict(zip(paper.BATCH_SIZES, np.subtract(paper.SECONDS["2xgpu"], paper.SECONDS["1xgpu"]), strict=True))
    assert bracket(difference) == [(256, 512)]
    assert bracket({32: 1.0, 64: 2.0}) == []
    assert bracket({64: -1.0, 32: 1.0, 128: 2.0}) == [(32, 64), (64, 128)]


def test_too_few_points_are_not_fitted():
    assert fit_line([1, 2], [1, 2]) is None
    assert fit_line([1, 1, 2], [1, 2, 3]) is None
    assert fit_overlap(STEPS[:4], paper.SECONDS["1xgpu"][:4]) is None


def test_a_host_that_runs_ahead_is_told_from_costs_that_add():
    noise = [0.001, -0.002, 0.0015, 0.0, -0.001, 0.002, -0.0015]
    overlapping = [max(2e-3 * x, 6 + 5e-4 * x) * (1 + e) for x, e in zip(STEPS, noise, strict=True)]
    found = fit_overlap(STEPS, overlapping)
    assert found.preferred
    assert (found.host, found.fixed, found.per_step) == (
        pytest.approx(2e-3, rel=0.01),
        pytest.approx(6, rel=0.01),
        pytest.approx(5e-4, rel=0.05),
    )
    adding = [(6 + 2e-3 * x) * (1 + e) for x, e in zip(STEPS, noise, strict=True)]
    assert not fit_overlap(STEPS, adding).preferred
    for setup in paper.SETUPS:  # synchronous session.run: nothing overlaps
        assert not fit_overlap(STEPS, paper.SECONDS[setup]).preferred


def test_a_prediction_halves_the_images_and_adds_an_exchange():
    one = paper_fits()[1]
    times = predicted(one)
    assert list(times) == list(paper.BATCH_SIZES)
    exchange = 4 * 1_199_882 / 10e9
    alone = one.line.fixed + 18_750 * one.line.per_step
    assert times[32] == pytest.approx((one.line.fixed / 2 + 18_750 * (one.line.per_step + exchange), alone))


def test_the_prediction_is_marked_and_says_from_where_on_it_pays(tmp_path):
    write(tmp_path, [])
    (line,) = (line for line in (tmp_path / "report.md").read_text().splitlines() if "A prediction" in line)
    one = fit_line(STEPS, paper.SECONDS["1xgpu"])
    # Half of the images' cost against 0.48 ms a step.
    pays = [size for size, steps in zip(paper.BATCH_SIZES, STEPS, strict=True) if one.fixed / 2 > steps * 4.799528e-4]
    assert pays[0] == 64 and "would pay from batch size 64 on." in line and "It assumes that" in line


def run_both(folder, sizes, one, two):
    """One process and two, of which a step and an image cost what is given; validation is 0.8 s and the rest 0.2 s."""
    for setup, (fixed, per_step) in (("1xcpu", one), ("2xcpu", two)):
        for size in sizes:
            train = fixed + per_step * 10 * -(-60_000 // size)
            epochs = {"seconds/epoch": [train / 10] * 10, "val/accuracy": [0.99] * 10}
            epochs |= {"seconds/train_epoch": [train / 10] * 10, "seconds/val_epoch": [0.08] * 10}
            make_run(folder, setup, size, 0, train + 1.0, 0.99, 0.03, summary={"by_epoch": epochs})
    return make_page(read_runs([folder])).seconds[1]


def test_what_a_step_and_an_image_cost_is_of_training_alone(tmp_path):
    found = run_both(tmp_path, paper.BATCH_SIZES, (60.0, 0.005), (54.0, 0.010))
    one = found.fits[0]
    assert (one.line.fixed, one.line.per_step, one.rest) == tuple(map(pytest.approx, (60.0, 0.005, 1.0)))
    assert one.per_image == pytest.approx(100.0)
    # 6 s less for the images, 5 ms more a step: equal at 1,200 steps, 500 images a step.
    assert found.brackets == [(256, 512)]
    where, (low, high) = found.fitted
    assert where == pytest.approx(500) and low == pytest.approx(500) and high == pytest.approx(500)
    assert found.efficiency[32] == pytest.approx((61 + 93.75) / (2 * (55 + 187.5)))
    assert found.more[32] == pytest.approx(-6 + 93.75)


def test_a_crossover_outside_of_the_sizes_that_ran_is_not_told(tmp_path):
    found = run_both(tmp_path, (32, 64, 128, 256), (60.0, 0.005), (54.0, 0.010))
    assert found.brackets == [] and found.fitted is None
    write(tmp_path, read_runs([tmp_path]))
    text = (tmp_path / "report.md").read_text()
    ours = text.split("**Ours.** A step costs")[1].split("\n")[0]
    assert "Measured, one is faster at every batch size that ran." in ours and "cross" not in ours
