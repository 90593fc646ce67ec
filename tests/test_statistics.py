"""The report's statistics, each against SciPy or its formula written out, and their coverage on made-up studies."""

import math
import statistics
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mnist_lightning import paper
from mnist_lightning.report.stats import (
    Noise,
    Ratio,
    at_usual_rate,
    cells,
    fit_line,
    late_noise,
    measured,
    ratios,
    scatter,
    unrelated,
)


def series(found: dict[tuple[str, int], list[float]]) -> pd.Series:
    """Values by column, batch size and seed."""
    index = [(*cell, seed) for cell, each in found.items() for seed in range(len(each))]
    flat = [value for each in found.values() for value in each]
    return pd.Series(flat, pd.MultiIndex.from_tuples(index, names=["column", "batch_size", "seed"]), dtype=float)


def ratio(found: dict[tuple[str, int], list[float]]) -> Ratio:
    return ratios(series(found), "one", ["two"])["two"]


def test_a_mean_has_the_scatter_of_its_column_pooled_over_the_batch_sizes():
    one, two = [1.0, 1.2, 1.1], [0.5, 0.8, 0.6]
    log = series({("one", 32): one, ("one", 64): two, ("other", 32): [5.0, 9.0], ("lone", 32): [2.0]})
    found = cells(log)[["mean", "low", "high", "n"]]
    pooled = math.sqrt(statistics.mean([statistics.variance(one), statistics.variance(two)]))
    half = stats.t.ppf(0.975, 4) * pooled / math.sqrt(3)
    assert list(found.loc[("one", 64)]) == pytest.approx(
        [math.exp(each) for each in (1.9 / 3, 1.9 / 3 - half, 1.9 / 3 + half)] + [3]
    )
    low, high = stats.ttest_1samp([5.0, 9.0], 0).confidence_interval()
    assert list(found.loc[("other", 32)]) == pytest.approx([math.exp(7), math.exp(low), math.exp(high), 2])
    assert found.loc[("lone", 32)].isna().tolist() == [False, True, True, False]
    assert scatter(series({("one", 32): one, ("one", 64): two})) == (pytest.approx(pooled), 4)


def test_two_columns_are_compared_seed_by_seed():
    """Seeds that scatter much and a difference that scatters little: the t test of pairs."""
    one, two = [1.0, 2.0, 3.0], [1.1, 2.1, 3.13]
    test = stats.ttest_rel(two, one)
    ends = np.exp([np.mean(two) - np.mean(one), *test.confidence_interval()])
    assert ratio({("one", 32): one, ("two", 32): two}) == pytest.approx((*ends, test.pvalue))
    # Over two sizes: the mean of the two means, with the scatter within the sizes.
    within = math.sqrt((2 * statistics.variance([0.1, 0.1, 0.13]) + statistics.variance([0.5, 0.7])) / 3)
    half = stats.t.ppf(0.975, 3) * within / 2 * math.sqrt(1 / 3 + 1 / 2)
    middle = (0.11 + 0.6) / 2
    both = ratio({("one", 32): one, ("two", 32): two, ("one", 64): [0.0, 0.0], ("two", 64): [0.5, 0.7]})
    assert both[:3] == pytest.approx(np.exp([middle, middle - half, middle + half]))
    # A seed a size: the scatter over the sizes. One pair alone has no interval, and no pair no ratio.
    lone = {("one", 32): [1.0], ("two", 32): [1.1], ("one", 64): [2.0], ("two", 64): [2.3]}
    test = stats.ttest_1samp([0.1, 0.3], 0)
    assert ratio(lone) == pytest.approx((*np.exp([0.2, *test.confidence_interval()]), test.pvalue))
    assert ratio({cell: lone[cell] for cell in list(lone)[:2]}) == (pytest.approx(math.exp(0.1)), 0.0, math.inf, 1.0)
    assert ratios(series({("one", 32): one, ("two", 64): two}), "one", ["two"]) == {}


def test_columns_of_other_seeds_are_compared_by_the_means_of_their_seeds():
    """Each seed moves all sizes alike, so that it counts once: Welch's t test of the seeds' means, which a size more does not change."""
    sizes, one, two = {32: 0.0, 64: 1.0}, [0.1, 0.3, 0.2], [0.0, 0.05, 0.01, 0.1]
    three, four = (series({("c", size): [b + x for x in own] for size, b in sizes.items()}) for own in (one, two))
    test = stats.ttest_ind(one, two, equal_var=False)
    expected = (*np.exp([np.mean(one) - np.mean(two), *test.confidence_interval()]), test.pvalue)
    assert unrelated(three, four) == pytest.approx(expected)
    # Beside single runs, as the paper's, their scatter over the sizes counts; it is the only one of two such columns.
    lone = series({("p", 32): [-0.2], ("p", 64): [1.1], ("p", 2048): [9.0]})
    gaps = np.array([0.4, 0.1])
    test = stats.ttest_ind(one, np.mean(one) - gaps, equal_var=False)
    assert unrelated(three, lone) == pytest.approx((*np.exp([0.25, *test.confidence_interval()]), test.pvalue))
    single = series({("c", size): [mean] for size, mean in sizes.items()})
    test = stats.ttest_1samp([0.2, -0.1], 0)
    assert unrelated(single, lone) == pytest.approx((*np.exp([0.05, *test.confidence_interval()]), test.pvalue))
    assert unrelated(single[:1], lone) == (pytest.approx(math.exp(0.2)), 0.0, math.inf, 1.0)
    assert unrelated(single[:1], lone[1:]) is None


def test_networks_are_compared_by_the_factors_network_and_seed():
    log = series({("a", 32): [1.0, 2.0, 3.0], ("b", 32): [1.2, 2.0, 3.1], ("c", 32): [0.4, 1.7, 2.5]})
    table = log.to_numpy().reshape(3, 3)
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    error = math.sqrt((rest**2).sum() / 4 * 2 / 3)
    difference = table[2].mean() - table[0].mean()
    half = stats.t.ppf(0.975, 4) * error
    p = 2 * stats.t.sf(abs(difference) / error, 4)
    expected = (*np.exp([difference, difference - half, difference + half]), p)
    assert ratios(log, "a", ["b", "c"])["c"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.91, 1.09, "equal"),
        (1.01, 1.09, "equal"),
        (0.89, 1.09, "cannot tell"),
        (1.01, 1.11, "different"),
        (0.5, 0.9, "different"),
    ],
)
def test_equal_is_what_lies_within_the_bounds_with_its_whole_interval(low, high, verdict):
    assert Ratio(1.0, low, high).verdict == verdict


def test_p_and_power_are_those_of_the_books():
    noise = Noise(0.1, 14)
    assert noise.p(0.3) == pytest.approx(2 * stats.t.sf(0.3 / (0.1 * math.sqrt(2)), 14)) and Noise().p(9.0) == 1.0
    quantiles = stats.t.ppf(0.975, 14) + stats.t.ppf(0.8, 14)
    assert noise.seen(4 / 3) == pytest.approx(math.exp(quantiles * 0.1 * math.sqrt(4 / 3)) - 1)


def test_late_epochs_scatter_between_seeds_and_count_once():
    rows = [
        (32, 9, 100, 0.02),
        (32, 9, 120, 0.03),
        (32, 10, 90, 0.02),
        (32, 10, 110, 0.02),
        (64, 9, 80, 0.01),
        (64, 9, 99, 0.02),
    ]
    late = pd.DataFrame(rows, columns=["batch_size", "epoch", "errors", "val/loss"])
    pairs = [statistics.variance(map(math.log, pair)) for pair in ((100, 120), (90, 110), (80, 99))]
    assert late_noise(late)["errors"] == (pytest.approx(math.sqrt(statistics.mean(pairs))), 1.5)
    assert late_noise(pd.DataFrame())["errors"].freedom == 0


def test_the_line_is_a_fit_to_relative_errors():
    line = fit_line(paper.STEPS, paper.SECONDS["1xgpu"])
    x, y = np.array(paper.STEPS, float), np.array(paper.SECONDS["1xgpu"])
    design = np.column_stack([np.ones_like(x), x]) / y[:, None]
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ np.ones_like(y)
    residuals = 1 - design @ found
    error = np.sqrt(np.diag(inverse) * (residuals @ residuals) / 5) * stats.t.ppf(0.975, 5)
    assert [line.params.Intercept, line.params.steps] == pytest.approx(list(found))
    assert line.conf_int().to_numpy().ravel() == pytest.approx(
        [f + s * e for f, e in zip(found, error, strict=True) for s in (-1, 1)]
    )
    assert line.scale == pytest.approx(residuals @ residuals / 5)


def timed(seconds: np.ndarray, rates: np.ndarray) -> pd.DataFrame:
    """A table of fits of two columns, [column, batch size, seed]."""
    rows = [
        {
            "column": f"c{column}",
            "batch_size": size,
            "seed": seed,
            "metric": "seconds/fit",
            "left_out": "",
            "machine": "m",
            "setup": "1xcpu",
        }
        | {"value": seconds[column, size, seed], "rate": rates[column, size, seed]}
        for column, size, seed in product(*map(range, seconds.shape))
    ]
    return pd.DataFrame(rows)


def test_seconds_are_told_at_the_usual_rate_where_they_follow_it():
    random = np.random.default_rng(0)
    rates = 300 * np.exp(0.1 * random.standard_normal((2, 4, 3)))
    work, noise = np.array([3e4, 6e4])[:, None, None], np.exp(0.001 * random.standard_normal((2, 4, 3)))
    table = timed(work * noise / rates, rates)
    assert at_usual_rate(table)[0].startswith("-1.00 [-1.0")
    expected = np.log(work * noise / np.median(rates))  # as if all had run at that rate
    assert measured(table, "seconds/fit").to_numpy() == pytest.approx(expected.ravel(), abs=1e-3)
    assert at_usual_rate(timed(work * noise, rates))[1].abs().max() == 0
    assert at_usual_rate(timed(work * noise, rates * np.nan))[0] == ""
    # Two GPUs have twice the rate of one, which is no reason to adjust.
    other = timed(work * noise, np.array([100.0, 200.0])[:, None, None] + 0 * rates)
    assert at_usual_rate(other.assign(setup=other.column))[0] == ""


@pytest.mark.slow
def test_intervals_cover_the_truth_and_equality_is_rarely_found_where_there_is_none():
    """2,000 studies of two columns that share their seeds, one of which scatters three times as much, on a machine whose rate
    drifts; and of columns with seeds of their own, each of which moves all batch sizes, and single runs beside them."""
    random, studies = np.random.default_rng(1), 2000
    sizes, seeds, own, ratio = 4, 3, np.array([0.02, 0.06])[:, None, None], 1.10
    covered = {"cell": 0, "ratio": 0, "seconds": 0, "other seeds": 0, "single runs": 0}
    equal = 0
    for _ in range(studies):
        shared = 0.05 * random.standard_normal((1, sizes, seeds))
        log = np.array([0, math.log(ratio)])[:, None, None] + shared + own * random.standard_normal((2, sizes, seeds))
        found = measured(timed(np.exp(log), np.full(log.shape, np.nan)), "seconds/fit")
        means, pair = cells(found), ratios(found, "c0", ["c1"])["c1"]
        covered["cell"] += (means.low["c1", 2] < ratio) & (ratio < means.high["c1", 2])
        covered["ratio"] += pair.low < ratio < pair.high
        equal += pair.verdict == "equal"
        rates = 300 * np.exp(0.08 * random.standard_normal(log.shape))
        table = timed(np.exp(log) * np.exp(-0.8 * (np.log(rates) - np.median(np.log(rates)))), rates)
        means = cells(measured(table, "seconds/fit"))
        covered["seconds"] += (means.low["c0", 1] < 1) & (1 < means.high["c0", 1])
        log = 0.04 * random.standard_normal((2, 1, seeds)) + 0.06 * random.standard_normal((2, 7, seeds))
        one, two = (series({("c", size): list(own) for size, own in enumerate(each)}) for each in log)
        lone = series({("p", size): [own] for size, own in enumerate(0.06 * random.standard_normal(7))})
        for name, pair in (("other seeds", unrelated(one, two)), ("single runs", unrelated(one, lone))):
            covered[name] += pair is not None and pair.low < 1 < pair.high
    assert all(0.93 <= count / studies <= 0.97 for count in covered.values()), covered
    assert equal / studies <= 0.05
