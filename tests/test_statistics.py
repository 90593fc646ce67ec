"""Scatter between seeds, means, paired ratios and exclusions, against SciPy or a formula written out."""

import math
import re
import statistics
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from handmade_runs import make_run
from scipy import stats

from mnist_lightning.report.columns import left_out, machines, tidy, values
from mnist_lightning.report.networks import grids, growths
from mnist_lightning.report.page import judged, make_page
from mnist_lightning.report.reproduction import alone
from mnist_lightning.report.runs import mflop, read_runs
from mnist_lightning.report.seeds import Estimate, average, mean, paired, spread
from mnist_lightning.report.writing import write


def series(cells: dict[tuple[str, int], list[float]]) -> pd.Series:
    """Values by column, batch size and seed."""
    index = [(*cell, seed) for cell, each in cells.items() for seed in range(len(each))]
    flat = [value for each in cells.values() for value in each]
    return pd.Series(flat, pd.MultiIndex.from_tuples(index, names=["column", "batch_size", "seed"]))


EVEN = {("one", 32): [1.0, 1.2, 1.1], ("one", 64): [0.5, 0.8, 0.6], ("two", 32): [1.4, 1.5, 1.7]}


def test_a_deviation_is_pooled_unless_bartlett_finds_cells_unequal():
    known = spread(series(EVEN))
    assert known.p == pytest.approx(stats.bartlett(*EVEN.values()).pvalue) and known.p > 0.05
    pooled = math.sqrt(statistics.mean(statistics.variance(each) for each in EVEN.values()))
    assert known.at(32) == known.at(64) == (pytest.approx(pooled), 6)
    half = mean(series(EVEN), known, "one", 32).half()
    assert half == pytest.approx(stats.t.ppf(0.975, 6) * pooled / math.sqrt(3))
    uneven = spread(series({**EVEN, ("two", 64): [1.0, 9.0, 20.0]}))
    of_32 = statistics.mean(statistics.variance(EVEN[name, 32]) for name in ("one", "two"))
    assert uneven.p < 0.05 and uneven.at(32) == (pytest.approx(math.sqrt(of_32)), 4)
    # Cells that do not scatter are compared by Levene's test.
    known = spread(series({("one", 32): [1.0, 1.0, 1.0], ("one", 64): [1.0, 1.1, 1.3]}))
    assert known.p == pytest.approx(stats.levene([1.0, 1.0, 1.0], [1.0, 1.1, 1.3]).pvalue)
    assert spread(series({("one", 32): [1.0, 1.0], ("one", 64): [2.0, 2.0]})).p is None


def test_setups_are_compared_seed_by_seed():
    """Seeds that scatter much and a difference that scatters little: the t test of pairs."""
    one, two = [1.0, 2.0, 3.0], [1.1, 2.1, 3.13]
    both = series({("one", 32): one, ("two", 32): two})
    found = paired(both, spread(both), "one", "two")[32]
    test = stats.ttest_rel(two, one)
    interval = test.confidence_interval()
    ends = found.log - found.half(), found.log + found.half()
    assert ends == (pytest.approx(interval.low), pytest.approx(interval.high)) and found.judge() == 1
    # Only the seed that both have, with the noise of two independent runs.
    both = series({("one", 32): [1.0, 5.0, 9.0], ("two", 32): [1.5]})
    found = paired(both, spread(both), "one", "two")[32]
    assert (found.log, found.error, found.freedom) == (pytest.approx(0.5), pytest.approx(4.0 * math.sqrt(2)), 2)
    assert paired(both, spread(both), "one", "three") == {}


def test_an_estimate_is_judged_by_its_interval():
    each = Estimate(math.log(1.2), 0.05, 10)
    t = stats.t.ppf(0.975, 10)
    assert each.interval() == (pytest.approx(1.2 * math.exp(-t * 0.05)), pytest.approx(1.2 * math.exp(t * 0.05)))
    assert (each.judge(), each.judge(1.2), each.judge(1.4)) == (1, 0, -1)
    # Of 20 comparisons one is wrong by chance, which Bonferroni's interval allows for.
    assert each.half(20) == pytest.approx(0.05 * stats.t.ppf(1 - 0.025 / 20, 10)) and each.judge(1.0, 200) == 0
    assert each.seen() == pytest.approx(math.exp(0.05 * (t + stats.t.ppf(0.8, 10))) - 1)
    assert Estimate(1.0, math.nan, 0).interval() == (0.0, math.inf) and Estimate(1.0, math.nan, 0).judge() == 0
    both = average([Estimate(0.1, 0.3, 6), Estimate(0.3, 0.4, 6)])
    assert (both.log, both.error, both.freedom) == (pytest.approx(0.2), pytest.approx(0.25), 6)


def of(folder: Path) -> list:
    return read_runs([folder])


def test_disturbed_runs_are_left_out_of_times_and_named_but_not_out_of_accuracy(tmp_path):
    neighbours = {"own_cores": 1.0, "other_cores": 0.06, "stolen_cores": 0.0}
    runs = [
        ({}, ""),
        ({"summary": {"neighbours": neighbours}}, "0.06 cores"),
        ({"rates": (100.0, 94.0)}, "100 GFLOP/s in fp32 before it and 94 after"),
        ({"summary": {"resumed": True}}, "interrupted"),
        ({"machine": {"code": "c2", "commit": "late"}}, "late"),
        ({"machine": {"code": "c1", "torch": "9"}}, "torch 9"),
    ]
    for seed, (how, _) in enumerate(runs):
        made = {"machine": {"code": "c1", "torch": "2"}, "rates": (100.0, 100.0), **how}
        make_run(tmp_path, "1xcpu", 128, seed, 500.0 if how else 100.0, 0.98 if how else 0.99, 0.03, **made)
    reasons = {run.summary["seed"]: reason for run, reason in left_out(of(tmp_path)).items()}
    assert reasons.keys() == {1, 2, 3, 4, 5} and all(runs[seed][1] in reason for seed, reason in reasons.items())
    table = tidy(of(tmp_path))
    assert list(values(table, "seconds/fit")) == [100.0]
    assert sorted(values(table, "errors")) == [100, 200, 200, 200, 200, 200]
    names = [f"1xcpu at batch size 128, seed {seed}" for seed in reasons]
    assert make_page(of(tmp_path)).left_out == list(zip(names, reasons.values(), strict=True))


def test_two_machines_of_one_name_are_told_apart_by_their_rate(tmp_path):
    for seed, rate in enumerate((100.0, 104.0, 108.0, 160.0)):
        machine = {"code": "old" if rate > 150 else "new"}  # most runs on its machine have the same
        make_run(tmp_path, "1xcpu", 128, seed, 1e4 / rate, 0.99, 0.03, rates=(rate, rate), machine=machine)
    make_run(tmp_path, "2xcpu", 128, 0, 90.0, 0.99, 0.03, rates=(105.0, 105.0), machine={"threads": 1})
    make_run(tmp_path, "2xcpu", 128, 1, 90.0, 0.99, 0.03, machine={"threads": 1})  # it was not calibrated
    table = tidy(of(tmp_path))
    assert left_out(of(tmp_path)) == {}
    found = dict(table[table.metric == "seconds/fit"].column.value_counts())
    (fast,) = (name for name, count in found.items() if count == 1)
    assert sorted(found.values()) == [1, 2, 3] and fast.startswith("1xcpu, machine ")
    # The share of the rate: 71.6 MFLOP an image at 540,000 images in the run's seconds.
    share = values(table, "share").loc[fast, 128].iloc[0]
    assert share == pytest.approx(71.57 * 540_000 / (1e4 / 160.0) / (1000 * 160.0), rel=1e-3)


def test_setups_of_one_machine_are_not_told_apart_by_the_rates_that_they_reach(tmp_path):
    """Two GPUs give twice as much as one, and two processes of one thread less than one process of two."""

    def run(folder: str, setup: str, gflops: float) -> None:
        rates = {"fp32_gflops": gflops, "host_gflops": 100.0}
        summary = {"calibration": {"before": rates, "after": rates}}
        make_run(tmp_path / folder, setup, 128, int(folder == "other"), 10.0, 0.99, 0.03, summary=summary)

    for setup, gflops in (("1xcpu", 100.0), ("2xcpu", 70.0), ("1xgpu", 9000.0), ("2xgpu", 18_000.0)):
        run("one", setup, gflops)
    assert set(tidy(of(tmp_path)).column) == {"1xcpu", "2xcpu", "1xgpu", "2xgpu"}
    run("other", "2xgpu", 16_000.0)  # a GPU of the same name on the same host
    found = {(run.summary["setup"], run.summary["seed"]): number for run, number in machines(of(tmp_path)).items()}
    assert found["1xgpu", 0] == found["2xgpu", 0] != found["2xgpu", 1]


def test_repeats_of_a_seed_are_other_times_of_the_same_numbers(tmp_path):
    for version, seconds in enumerate((100.0, 104.0)):
        make_run(tmp_path, "1xcpu", 128, 0, seconds, 0.99, 0.03, version=version)
    table = tidy(of(tmp_path))
    assert sorted(table[table.metric == "seconds/fit"].repeat) == [0, 1]
    assert list(values(table, "seconds/fit")) == [102.0] and list(values(table, "val/accuracy")) == [0.99]
    # A folder that is named twice is read once.
    assert len(read_runs([tmp_path, tmp_path / "1xcpu"])) == 2


def test_our_cells_are_compared_with_the_papers(tmp_path):
    for size, accuracy, loss in ((512, 0.9909, 0.02679), (2048, 0.9841, 0.04666)):  # of its one GPU
        for seed, factor in enumerate((0.95, 1.0, 1.05)):
            make_run(tmp_path, "1xcpu", size, seed, 100.0 * factor, 1 - factor * (1 - accuracy), loss * factor)
    found = make_page(of(tmp_path)).agreements
    apart = {each.setup: each.apart for each in found}
    cells = [(metric, size) for metric in ("errors", "val/loss") for size in (512, 2048)]
    assert apart["1xgpu"] == [] and set(apart["1xcpu"]) == set(cells)
    assert {("1xcpu", metric, size) for metric, size in cells} <= set(alone(found))
    one = next(each for each in found if each.setup == "1xcpu").ratios["val/loss", 512]
    x = [math.log(0.02679 * factor) for factor in (0.95, 1.0, 1.05)]
    assert one.log == pytest.approx(statistics.mean(x) - math.log(0.04480))
    assert one.error == pytest.approx(statistics.stdev(x) * math.sqrt(1 / 3 + 1)) and one.freedom == 4


MODEL = {"model.kernel_size": 3, "model.pool_size": 2, "model.hidden": 128}
NINE = [((first, 2 * first), hidden) for first in (16, 32, 64) for hidden in (64, 128, 256)]


def power_of_the_work(growth, logs: dict[tuple[tuple[int, int], int], list[float]]) -> None:
    """Checks how a gain grows: logarithms of gains by network, seed by seed, over those of MFLOP an image."""
    settings = {name: MODEL | {"model.channels": name[0], "model.hidden": name[1]} for name in logs}
    x = [math.log(mflop(settings[name])) for name, each in logs.items() for _ in each]
    fit = stats.linregress(x, [y for each in logs.values() for y in each])
    found = growth.exponent
    assert (found.log, found.error) == (pytest.approx(fit.slope), pytest.approx(fit.stderr))
    assert found.freedom == sum(map(len, logs.values())) - 2


def test_nine_networks_have_a_table_sorted_by_size_and_do_not_fill_the_papers(tmp_path):
    for channels, hidden in NINE:
        for seed, (setup, slower) in product(range(3), (("1xcpu", 1.0), ("2xcpu", 2.0 / channels[0] ** 0.25))):
            cost = 2.0 * channels[0] + 0.05 * hidden + seed
            errors = 1e-4 * (100 + 3 * seed - (30 if channels[0] == 64 else 0))
            size = {"model_channels": list(channels), "model_hidden": hidden}
            folder = tmp_path / f"{channels[0]}-{hidden}"
            make_run(folder, setup, 128, seed, cost * slower, 1 - errors, 0.03 + 0.001 * seed, **size)
    page = make_page(of(tmp_path))
    assert set(page.main.column) == {"1xcpu", "2xcpu"} and list(grids(page.main, page.noise)) == []
    one, _ = page.networks
    work = [network.mflop for network in one.networks]
    assert len(work) == 9 and work == sorted(work)
    real = [network.name for network in one.networks if network.real("errors", 8)]
    assert real == [f"channels [64, 128], hidden {hidden}" for hidden in (64, 128, 256)]
    # Each setting by itself, over the paper's value, in nine pairs.
    by_setting, _ = page.effects
    values = ["channels [16, 32]", "channels [64, 128]", "hidden 64", "hidden 256"]
    assert [each.value.partition(" instead")[0] for each in by_setting] == values
    assert [each.pairs for each in by_setting] == [9] * 4
    wide = by_setting[1].ratios["errors"]
    fewer = [math.log((70 + 3 * seed) / (100 + 3 * seed)) for seed in range(3)] * 3
    # The narrow networks have exactly the errors of the paper's, so that half of the pooled variance is theirs.
    error = statistics.stdev(fewer) / math.sqrt(2) / 3
    assert (wide.log, wide.error, wide.freedom) == (pytest.approx(statistics.mean(fewer)), pytest.approx(error), 16)
    more = [math.log((2 * w + 12.8 + seed) / (2 * w + 6.4 + seed)) for w in (16, 32, 64) for seed in range(3)]
    assert by_setting[3].ratios["seconds/fit"].log == pytest.approx(statistics.mean(more))
    (growth,) = growths(page.table)
    assert growth.second and growth.exponent.judge() == 1 and len(growth.gains) == 9
    power_of_the_work(growth, {(c, h): [math.log(c[0] ** 0.25 / 2.0)] * 3 for c, h in NINE})
    write(tmp_path, of(tmp_path))
    text = (tmp_path / "report.md").read_text()
    assert len(re.findall(r"^\| \d \| (channels|the paper's)", text, re.MULTILINE)) == 2 * 9
    assert "| channels [64, 128] instead of channels [32, 64] | 9 | **0.71 [" in text and "| **yes** |" in text


def test_gains_are_seed_by_seed_and_their_growth_is_a_power_of_the_work(tmp_path):
    """Three networks, two batch sizes, two setups and three seeds: as configs/architecture_gain.yaml runs them."""
    seconds = {}
    for width, seed, setup, size in product((8, 16, 32), range(3), ("1xcpu", "2xcpu"), (128, 512)):
        # A larger batch gains least where there is most to do; a second process gains nothing but scatter.
        each = (10 + width) * (1 + 0.1 * seed) + (512 / size) * (2 + 0.1 * seed)
        each *= 1.0 if setup == "1xcpu" else 1.2 + 0.01 * ((seed + width // 8) % 3)
        seconds[width, setup, size, seed] = each
        make_run(tmp_path / str(width), setup, size, seed, each, 0.99, 0.03, model_channels=[width, 2 * width])
    found = {growth.what: growth for growth in growths(make_page(of(tmp_path)).table)}
    # What is judged: a second process at 128 and at 512, and a larger batch on one and on two.
    assert [growth.exponent.judge() for growth in found.values()] == [0, 0, -1, -1]
    growth, places = found["batch size 512 instead of 128 on `2xcpu`"], [("2xcpu", 128), ("2xcpu", 512)]
    small, large = ({w: [seconds[w, *place, s] for s in range(3)] for w in (8, 16, 32)} for place in places)
    gained = {w: np.log(np.divide(small[w], large[w])) for w in small}
    assert growth.names == ("channels [8, 16]", "channels [16, 32]", "the paper's")
    pooled = math.sqrt(np.mean([each.var(ddof=1) for each in gained.values()]))
    for gain, each in zip(growth.gains.values(), gained.values(), strict=True):
        assert gain.log == pytest.approx(each.mean())
        assert gain.half() == pytest.approx(stats.t.ppf(0.975, 6) * pooled / math.sqrt(3))
    power_of_the_work(growth, {((width, 2 * width), 128): each for width, each in gained.items()})


def test_what_two_devices_gain_with_the_data_is_the_share_of_the_start(tmp_path):
    """Two processes take 3 s to warm up and one takes 1 s; an epoch takes 10 s on one and 6 s on two."""
    starts = {"1xcpu": [], "2xcpu": []}
    for seed, (setup, start, epoch) in product(range(3), (("1xcpu", 1.0, 10.0), ("2xcpu", 3.0, 6.0))):
        metrics = {"val/accuracy": 0.99, "val/loss": 0.03, "seconds/fit": 10 * epoch}
        metrics["seconds/warm_up"] = start * (1 + 0.02 * seed * start)
        starts[setup].append(metrics["seconds/warm_up"] / epoch + 1)
        make_run(tmp_path, setup, 128, seed, 10 * epoch, 0.99, 0.03, summary={"metrics": metrics})
    page = make_page(of(tmp_path))
    (verdict,) = (verdict for claim, verdict in judged(page)[1][1] if claim.reading.startswith("data"))
    gained = np.log(np.divide(starts["2xcpu"], starts["1xcpu"]))
    half = stats.t.ppf(0.975, 2) * gained.std(ddof=1) / math.sqrt(3)
    ends = (math.exp(gained.mean() + each) for each in (0, -half, half))
    assert verdict.word == "supported" and "{:.3f} ({:.3f} to {:.3f})".format(*ends) in verdict.found
    assert next(v for claim, v in judged(page)[0][1] if claim.reading.startswith("data")).word is None
