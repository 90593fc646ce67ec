"""The model of a run's time, on the paper's Table I and on numbers made by hand."""

import pytest

from mnist_lightning import paper
from mnist_lightning.report.step_time import crossover, crossover_interval, fit_line, fit_overlap

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
    line = fit_line(STEPS, paper.SECONDS[setup])
    assert f"{line.fixed:.{len(fixed.split('.')[1])}f}" == fixed
    assert f"{line.per_step:.6f}" == per_step
    assert f"{line.r2:.5f}" == r2


def test_standard_errors_are_those_of_least_squares():
    line = fit_line(STEPS, paper.SECONDS["1xgpu"])
    assert line.fixed_error == pytest.approx(0.263, abs=0.0005)
    assert line.per_step_error == pytest.approx(0.032e-3, abs=0.0005e-3)
    # By hand: x = 0, 1, 2, 3 and y = 0, 2, 2, 4 give 0.2 + 1.2 x and a residual variance of 0.4.
    line = fit_line([0, 1, 2, 3], [0, 2, 2, 4])
    assert (line.fixed, line.per_step) == (pytest.approx(0.2), pytest.approx(1.2))
    assert line.residuals == pytest.approx((-0.2, 0.6, -0.6, 0.2))
    assert line.per_step_error == pytest.approx((0.4 / 5) ** 0.5)
    assert line.fixed_error == pytest.approx((0.4 * (1 / 4 + 2.25 / 5)) ** 0.5)
    assert line.r2 == pytest.approx(1 - 0.8 / 8)


def test_the_papers_gpus_are_equal_at_437_images():
    one, two = (fit_line(STEPS, paper.SECONDS[setup]) for setup in ("1xgpu", "2xgpu"))
    assert round(crossover(one, two, IMAGES)) == 437
    assert crossover(two, one, IMAGES) == pytest.approx(crossover(one, two, IMAGES))
    low, high = crossover_interval(one, two, STEPS, IMAGES)
    assert (low, high) == (pytest.approx(350, abs=5), pytest.approx(594, abs=8))


def test_lines_that_do_not_cross_have_no_crossover():
    cpu, gpu = (fit_line(STEPS, paper.SECONDS[setup]) for setup in ("1xcpu", "1xgpu"))
    assert crossover(cpu, gpu, IMAGES) is None
    assert crossover_interval(cpu, gpu, STEPS, IMAGES) is None
    assert crossover(cpu, cpu, IMAGES) is None


def test_too_few_points_are_not_fitted():
    assert fit_line([1, 2], [1, 2]) is None
    assert fit_line([1, 1, 2], [1, 2, 3]) is None
    assert fit_overlap(STEPS[:4], paper.SECONDS["1xgpu"][:4]) is None


def test_a_host_that_runs_ahead_is_told_from_costs_that_add():
    noise = [0.01, -0.02, 0.015, 0.0, -0.01, 0.02, -0.015]
    overlapping = [max(2e-3 * x, 6 + 5e-4 * x) + e for x, e in zip(STEPS, noise, strict=True)]
    found = fit_overlap(STEPS, overlapping)
    assert found.preferred
    assert (found.host, found.fixed, found.per_step) == (
        pytest.approx(2e-3, rel=0.01),
        pytest.approx(6, rel=0.01),
        pytest.approx(5e-4, rel=0.05),
    )
    adding = [6 + 2e-3 * x + e for x, e in zip(STEPS, noise, strict=True)]
    assert not fit_overlap(STEPS, adding).preferred
    for setup in paper.SETUPS:  # synchronous session.run: nothing overlaps
        assert not fit_overlap(STEPS, paper.SECONDS[setup]).preferred
