"""Scatter between seeds, means, paired ratios and exclusions, against SciPy or a formula written out."""

import json
import math
import re
import statistics
from pathlib import Path

import pandas as pd
import pytest
from handmade_runs import make_run
from scipy import stats

from mnist_lightning.report.columns import gflops, left_out, machines, tidy, values
from mnist_lightning.report.networks import grids, growths
from mnist_lightning.report.page import agreements, judged, make_page
from mnist_lightning.report.reproduction import alone
from mnist_lightning.report.runs import mflop, read_runs
from mnist_lightning.report.seeds import Estimate, average, contrasts, logs, mean, paired, spread
from mnist_lightning.report.writing import write


def series(cells: dict[tuple[str, int], list[float]]) -> pd.Series:
    """Values by column, batch size and seed."""
    index = [(*cell, seed) for cell, each in cells.items() for seed in range(len(each))]
    flat = [value for each in cells.values() for value in each]
    return pd.Series(flat, pd.MultiIndex.from_tuples(index, names=["column", "batch_size", "seed"]))


EVEN = {("one", 32): [1.0, 1.2, 1.1], ("one", 64): [0.5, 0.8, 0.6], ("two", 32): [1.4, 1.5, 1.7]}


def test_a_deviation_is_pooled_over_cells_that_bartlett_does_not_find_unequal():
    known = spread(series(EVEN))
    assert known.p == pytest.approx(stats.bartlett(*EVEN.values()).pvalue) and known.p > 0.05 and known.pooled
    pooled = math.sqrt(statistics.mean(statistics.variance(each) for each in EVEN.values()))
    assert known.at(32) == known.at(64) == (pytest.approx(pooled), 6)
    half = mean(series(EVEN), known, "one", 32).half()
    assert half == pytest.approx(stats.t.ppf(0.975, 6) * pooled / math.sqrt(3))


def test_a_deviation_is_of_its_batch_size_where_bartlett_forbids_pooling():
    uneven = {**EVEN, ("two", 64): [1.0, 9.0, 20.0]}
    known = spread(series(uneven))
    assert known.p < 0.05 and not known.pooled
    assert known.at(32) == (
        pytest.approx(math.sqrt((statistics.variance(EVEN["one", 32]) + statistics.variance(EVEN["two", 32])) / 2)),
        4,
    )


def test_cells_that_do_not_scatter_are_compared_by_levene():
    known = spread(series({("one", 32): [1.0, 1.0, 1.0], ("one", 64): [1.0, 1.1, 1.3]}))
    assert known.p == pytest.approx(stats.levene([1.0, 1.0, 1.0], [1.0, 1.1, 1.3]).pvalue)
    same = spread(series({("one", 32): [1.0, 1.0], ("one", 64): [2.0, 2.0]}))
    assert (same.deviation, same.p) == (0.0, None)


def test_setups_are_compared_seed_by_seed():
    """Seeds that scatter much and a difference that scatters little: the t test of pairs."""
    one, two = [1.0, 2.0, 3.0], [1.1, 2.1, 3.13]
    both = series({("one", 32): one, ("two", 32): two})
    found = paired(both, spread(both), "one", "two")[32]
    test = stats.ttest_rel(two, one)
    interval = test.confidence_interval()
    assert found.log - found.half() == pytest.approx(interval.low) and found.log + found.half() == pytest.approx(
        interval.high
    )
    assert found.judge() == 1 and test.pvalue < 0.05


def test_only_seeds_that_both_have_are_compared():
    """Three runs against one: the two of the same seed, with the noise of two independent runs."""
    both = series({("one", 32): [1.0, 5.0, 9.0], ("two", 32): [1.5]})
    known = spread(both)
    found = paired(both, known, "one", "two")[32]
    assert found.log == pytest.approx(0.5) and found.freedom == 2
    assert found.error == pytest.approx(4.0 * math.sqrt(2))
    assert paired(both, known, "one", "three") == {}


def test_networks_are_compared_with_one_by_the_scatter_of_all_their_differences():
    a, b, c = [1.0, 2.0, 3.0], [1.3, 2.1, 3.2], [0.9, 2.0, 2.8]
    found = contrasts(series({("a", 32): a, ("b", 32): b, ("c", 32): c}), spread(series(EVEN)), "a", 32)
    differences = [[y - x for x, y in zip(a, each, strict=True)] for each in (b, c)]
    deviation = math.sqrt(statistics.mean(statistics.variance(each) for each in differences))
    assert set(found) == {"b", "c"} and found["b"].log == pytest.approx(0.2)
    assert (found["c"].error, found["c"].freedom) == (pytest.approx(deviation / math.sqrt(3)), 4)


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


def test_no_errors_have_a_logarithm_too():
    errors = pd.Series([0.0, 100.0], name="errors")
    assert list(logs(errors)) == pytest.approx([math.log(0.5), math.log(100)])


def test_a_training_image_of_the_papers_network_costs_72_mflop():
    settings = {"model.channels": [32, 64], "model.kernel_size": 3, "model.pool_size": 2, "model.hidden": 128}
    assert mflop(settings) == pytest.approx(71.6, abs=0.05)
    assert mflop({}) is None


def of(folder: Path) -> list:
    return read_runs([folder])


def test_disturbed_runs_are_left_out_of_times_and_named_but_not_out_of_accuracy(tmp_path):
    make_run(tmp_path, "1xcpu", 128, 0, 100.0, 0.99, 0.03, machine={"code": "c1"}, rates=(100.0, 100.0))
    neighbours = {"own_cores": 1.0, "other_cores": 0.06, "stolen_cores": 0.0}
    disturbed = {
        1: {"summary": {"neighbours": neighbours}, "machine": {"code": "c1"}, "rates": (100.0, 100.0)},
        2: {"rates": (100.0, 94.0), "machine": {"code": "c1"}},
        3: {"summary": {"resumed": True}, "machine": {"code": "c1"}, "rates": (100.0, 100.0)},
        4: {"machine": {"code": "c2", "commit": "late"}, "rates": (100.0, 100.0)},
    }
    for seed, how in disturbed.items():
        make_run(tmp_path, "1xcpu", 128, seed, 500.0, 0.98, 0.03, **how)
    reasons = {run.summary["seed"]: reason for run, reason in left_out(of(tmp_path)).items()}
    assert reasons == {
        1: "other programs kept 0.06 cores while it used 1.00",
        2: "the machine gave 100 GFLOP/s in fp32 before it and 94 after it",
        3: "it was interrupted and went on",
        4: "other code trained it than most runs (commit late)",
    }
    table = tidy(of(tmp_path))
    assert list(values(table, "seconds/fit")) == [100.0]
    assert sorted(values(table, "errors")) == [100, 200, 200, 200, 200]
    write(tmp_path, of(tmp_path))
    text = (tmp_path / "report.md").read_text()
    assert "4 runs are left out of the times" in text
    assert all(f"1xcpu at batch size 128, seed {seed}, since {reason}." in text for seed, reason in reasons.items())


def test_a_drift_is_judged_in_fp32_in_every_precision(tmp_path):
    """The product in bf16 depends on where the host puts the cores."""
    for seed, (kind, after) in enumerate([("bf16_gflops", 180.0), ("fp32_gflops", 106.0), ("fp32_gflops", 104.0)]):
        machine = {"precision": "bf16-mixed"}
        run = make_run(tmp_path, "1xcpu", 128, seed, 100.0, 0.99, 0.03, machine=machine, rates=(100.0, 100.0))
        summary = json.loads((run / "summary.json").read_text())
        summary["calibration"]["after"][kind] = after
        (run / "summary.json").write_text(json.dumps(summary))
    reasons = {run.summary["seed"]: reason for run, reason in left_out(of(tmp_path)).items()}
    assert reasons == {1: "the machine gave 100 GFLOP/s in fp32 before it and 106 after it"}


def test_what_most_runs_were_trained_by_is_asked_by_machine(tmp_path):
    for seed, (rate, code, torch) in enumerate(
        [(100.0, "new", "2.14.1")] * 3 + [(100.0, "new", "2.15.0")] + [(160.0, "old", "2.14.0")] * 2
    ):
        machine = {"code": code, "torch": torch}
        make_run(tmp_path, "1xcpu", 128, seed, 1e4 / rate, 0.99, 0.03, machine=machine, rates=(rate, rate))
    reasons = {run.summary["seed"]: reason for run, reason in left_out(of(tmp_path)).items()}
    assert reasons == {3: "another PyTorch trained it than most runs (torch 2.15.0)"}


def test_two_machines_of_one_name_are_told_apart_by_their_rate(tmp_path):
    for seed, rate in enumerate((100.0, 104.0, 108.0, 160.0)):
        make_run(tmp_path, "1xcpu", 128, seed, 1e4 / rate, 0.99, 0.03, rates=(rate, rate))
    make_run(tmp_path, "2xcpu", 128, 0, 90.0, 0.99, 0.03, rates=(105.0, 105.0), machine={"threads": 1})
    runs = of(tmp_path)
    assert {gflops(run, "host"): number for run, number in machines(runs).items()} == {
        **dict.fromkeys((100.0, 104.0, 105.0, 108.0), machines(runs)[runs[0]]),
        160.0: 3 - machines(runs)[runs[0]],
    }
    slow, fast = (f"machine {number}" for number in (machines(runs)[runs[0]], 3 - machines(runs)[runs[0]]))
    table = tidy(runs)
    found = dict(table[table.metric == "seconds/fit"].column.value_counts())
    assert found == {f"1xcpu, {slow}": 3, f"1xcpu, {fast}": 1, f"2xcpu, {slow}": 1}
    # The share of the rate: 71.6 MFLOP an image at 540,000 images in the run's seconds.
    share = values(table, "share").loc[f"1xcpu, {fast}", 128].iloc[0]
    assert share == pytest.approx(71.57 * 540_000 / (1e4 / 160.0) / (1000 * 160.0), rel=1e-3)


def test_setups_of_one_machine_are_not_told_apart_by_the_rates_that_they_reach(tmp_path):
    """Two GPUs give twice as much as one, and two processes of one thread less than one process of two."""
    make_run(tmp_path, "1xgpu", 128, 0, 10.0, 0.99, 0.03, rates=(9000.0, 9000.0))
    make_run(tmp_path, "2xgpu", 128, 0, 10.0, 0.99, 0.03, rates=(9000.0, 9000.0))
    run = make_run(tmp_path, "2xcpu", 128, 0, 10.0, 0.99, 0.03, rates=(9000.0, 9000.0))
    summary = json.loads((run / "summary.json").read_text())
    for moment in summary["calibration"].values():
        moment["fp32_gflops"] = 7000.0
    (run / "summary.json").write_text(json.dumps(summary))
    assert set(tidy(of(tmp_path)).column) == {"2xcpu", "1xgpu", "2xgpu"}
    # A GPU of the same name on the same host.
    slower = make_run(tmp_path / "other", "2xgpu", 128, 1, 10.0, 0.99, 0.03, rates=(9000.0, 9000.0))
    summary = json.loads((slower / "summary.json").read_text())
    for moment in summary["calibration"].values():
        moment["fp32_gflops"] = 2 * 8000.0
    (slower / "summary.json").write_text(json.dumps(summary))
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


PAPERS = {512: (0.9909, 0.02679), 2048: (0.9841, 0.04666)}  # its one GPU


def test_our_cells_are_compared_with_the_papers(tmp_path):
    for size, (accuracy, loss) in PAPERS.items():
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
    assert agreements([], make_page([]).paper) == []


NINE = [([first, 2 * first], hidden) for first in (16, 32, 64) for hidden in (64, 128, 256)]


def test_networks_whose_times_are_all_left_out_are_compared_by_errors(tmp_path):
    for number, (channels, hidden) in enumerate(NINE):
        for seed in range(3):
            made = {"model_channels": channels, "model_hidden": hidden}
            make_run(tmp_path / str(number), "1xcpu", 128, seed, 9.0, 0.99 - 1e-4 * seed, 0.03, **made)
    for path in tmp_path.rglob("summary.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "resumed": True}))
    (by_setting,) = make_page(of(tmp_path)).effects
    assert [(each.pairs, set(each.ratios)) for each in by_setting] == [(9, {"errors", "val/loss"})] * 4
    write(tmp_path, of(tmp_path))
    assert "instead of hidden 128 | 9 | 1.00 | 1.00 | — |" in (tmp_path / "report.md").read_text()


def test_nine_networks_have_a_table_sorted_by_size_and_do_not_fill_the_papers(tmp_path):
    for channels, hidden in NINE:
        for seed in range(3):
            cost = 2.0 * channels[0] + 0.05 * hidden + seed
            errors = 1e-4 * (100 + 3 * seed - (30 if channels[0] == 64 else 0))
            for setup, slower in (("1xcpu", 1.0), ("2xcpu", 2.0 / channels[0] ** 0.25)):
                folder = tmp_path / f"{channels[0]}-{hidden}"
                size = {"model_channels": channels, "model_hidden": hidden}
                make_run(folder, setup, 128, seed, cost * slower, 1 - errors, 0.03 + 0.001 * seed, **size)
    page = make_page(of(tmp_path))
    assert set(page.main.column) == {"1xcpu", "2xcpu"}
    one, two = page.networks
    assert (one.setup, two.setup, one.batch_size) == ("1xcpu", "2xcpu", 128)
    work = [network.mflop for network in one.networks]
    assert len(work) == 9 and work == sorted(work)
    (reference,) = (network for network in one.networks if network.reference)
    assert reference.name == "the paper's" and reference.ratios == {}
    real = [network.name for network in one.networks if network.real("errors", 8)]
    assert real == [f"channels [64, 128], hidden {hidden}" for hidden in (64, 128, 256)]
    # Each setting by itself, over the paper's value, in nine pairs.
    by_setting, _ = page.effects
    channels = [f"channels {value} instead of channels [32, 64]" for value in ([16, 32], [64, 128])]
    assert [each.value for each in by_setting] == [
        *channels,
        *(f"hidden {value} instead of hidden 128" for value in (64, 256)),
    ]
    assert [each.pairs for each in by_setting] == [9] * 4
    wide = by_setting[1].ratios["errors"]
    fewer = [math.log((70 + 3 * seed) / (100 + 3 * seed)) for seed in range(3)] * 3
    assert wide.log == pytest.approx(statistics.mean(fewer)) and wide.freedom == 16
    # The narrow networks have exactly the errors of the paper's, so that half of the pooled variance is theirs.
    assert wide.error == pytest.approx(statistics.stdev(fewer) / math.sqrt(2) / 3)
    seconds = [math.log((64 + 12.8 + seed) / (64 + 6.4 + seed)) for seed in range(3)]
    seconds += [
        math.log((2 * first + 12.8 + seed) / (2 * first + 6.4 + seed)) for first in (16, 128 / 2) for seed in range(3)
    ]
    assert by_setting[3].ratios["seconds/fit"].log == pytest.approx(statistics.mean(seconds))
    (growth,) = growths(page.table)
    assert growth.second and growth.exponent.judge() == 1 and len(growth.gains) == 9
    x, y = [], []
    for channels, hidden in NINE:
        size = {"model.channels": channels, "model.kernel_size": 3, "model.pool_size": 2, "model.hidden": hidden}
        x += [math.log(mflop(size))] * 3
        y += [math.log(channels[0] ** 0.25 / 2.0)] * 3
    fit = stats.linregress(x, y)
    assert growth.exponent.log == pytest.approx(fit.slope) and growth.exponent.error == pytest.approx(fit.stderr)
    write(tmp_path, of(tmp_path))
    text = (tmp_path / "report.md").read_text()
    assert len(re.findall(r"^\| \d \| (channels|the paper's)", text, re.MULTILINE)) == 2 * 9
    assert "| channels [64, 128] instead of channels [32, 64] | 9 | **0.71 [" in text
    assert "| `2xcpu` instead of `1xcpu` at batch size 128 | 1.00 " in text and "| **yes** |" in text
    claims = {claim.reading: verdict.word for claim, verdict in judged(page)[1][1]}
    assert claims["network: two devices gain more where it is larger"] == "supported"
    assert (tmp_path / "networks.svg").exists()
    assert list(grids(page.main, page.noise)) == []


def test_gains_are_seed_by_seed_and_their_growth_is_a_power_of_the_work(tmp_path):
    """Three networks, two batch sizes, two setups and three seeds: as configs/architecture_gain.yaml runs them."""
    seconds = {}
    for channels in ([8, 16], [16, 32], [32, 64]):
        for seed in range(3):
            for setup in ("1xcpu", "2xcpu"):
                for size in (128, 512):
                    # A larger batch gains least where there is most to do; a second process gains nothing but scatter.
                    each = (10 + channels[0]) * (1 + 0.1 * seed) + (512 / size) * (2 + 0.1 * seed)
                    each *= 1.0 if setup == "1xcpu" else 1.2 + 0.01 * ((seed + channels[0] // 8) % 3)
                    seconds[channels[0], setup, size, seed] = each
                    folder = tmp_path / str(channels[0])
                    make_run(folder, setup, size, seed, each, 0.99, 0.03, model_channels=channels)
    found = {growth.what: growth for growth in growths(make_page(of(tmp_path)).table)}
    assert list(found) == [
        "`2xcpu` instead of `1xcpu` at batch size 128",
        "`2xcpu` instead of `1xcpu` at batch size 512",
        "batch size 512 instead of 128 on `1xcpu`",
        "batch size 512 instead of 128 on `2xcpu`",
    ]
    for what, one, two in (
        ("`2xcpu` instead of `1xcpu` at batch size 512", ("1xcpu", 512), ("2xcpu", 512)),
        ("batch size 512 instead of 128 on `2xcpu`", ("2xcpu", 128), ("2xcpu", 512)),
    ):
        growth = found[what]
        logs_of = {
            width: [math.log(seconds[width, *one, seed] / seconds[width, *two, seed]) for seed in range(3)]
            for width in (8, 16, 32)
        }
        assert growth.names == ("channels [8, 16]", "channels [16, 32]", "the paper's")
        pooled = math.sqrt(statistics.mean(statistics.variance(each) for each in logs_of.values()))
        for gain, each in zip(growth.gains.values(), logs_of.values(), strict=True):
            assert gain.log == pytest.approx(statistics.mean(each))
            assert gain.half() == pytest.approx(stats.t.ppf(0.975, 6) * pooled / math.sqrt(3))
        settings = {"model.kernel_size": 3, "model.pool_size": 2, "model.hidden": 128}
        work = {width: math.log(mflop({**settings, "model.channels": [width, 2 * width]})) for width in logs_of}
        fit = stats.linregress(
            [work[w] for w in logs_of for _ in range(3)], [y for each in logs_of.values() for y in each]
        )
        assert growth.exponent.log == pytest.approx(fit.slope) and growth.exponent.error == pytest.approx(fit.stderr)
        assert growth.exponent.freedom == 7
    judged_as = [growth.exponent.judge() for growth in found.values()]
    assert judged_as == [0, 0, -1, -1]
    write(tmp_path, of(tmp_path))
    rows = [line for line in (tmp_path / "report.md").read_text().splitlines() if " instead of " in line]
    assert [row.split(" | ")[-1] for row in rows] == [
        "undecided |",
        "undecided |",
        "**it shrinks** |",
        "**it shrinks** |",
    ]


def test_what_two_devices_gain_with_the_data_is_the_share_of_the_start(tmp_path):
    """Two processes take 3 s to warm up and one takes 1 s; an epoch takes 10 s on one and 6 s on two."""
    for seed in range(3):
        for setup, start, epoch in (("1xcpu", 1.0, 10.0), ("2xcpu", 3.0, 6.0)):
            own = epoch * (1 + 0.001 * seed)
            run = make_run(tmp_path, setup, 128, seed, 10 * own, 0.99, 0.03)
            summary = json.loads((run / "summary.json").read_text())
            summary["metrics"]["seconds/warm_up"] = start * (1 + 0.002 * seed * start)
            (run / "summary.json").write_text(json.dumps(summary))
    page = make_page(of(tmp_path))
    (verdict,) = (verdict for claim, verdict in judged(page)[1][1] if claim.reading.startswith("data"))
    logs_of = [
        math.log(
            (3 * (1 + 0.006 * seed) / (6 * (1 + 0.001 * seed)) + 1)
            / ((1 + 0.002 * seed) / (10 * (1 + 0.001 * seed)) + 1)
        )
        for seed in range(3)
    ]
    middle, half = statistics.mean(logs_of), stats.t.ppf(0.975, 2) * statistics.stdev(logs_of) / math.sqrt(3)
    shown = "{:.3f} ({:.3f} to {:.3f})".format(*map(math.exp, (middle, middle - half, middle + half)))
    assert verdict.word == "supported" and verdict.found == f"ratio {shown} on average; 1 of 1 cells"
    assert judged(page)[0][0] == "the paper's tables"
    assert next(v for claim, v in judged(page)[0][1] if claim.reading.startswith("data")).word is None
