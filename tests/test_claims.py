"""The paper's claims on the paper's own tables, and on tables made by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mnist_lightning import paper
from mnist_lightning.report.claims import CLAIMS
from mnist_lightning.report.evidence import CERTAIN, Evidence, published
from mnist_lightning.report.seeds import METRICS, Spread
from mnist_lightning.report.verdicts import Verdict

# What one run of ours scatters by, in logarithms, with 14 degrees of freedom.
NOISE = {metric: Spread(deviation, 14, None, {}) for metric, deviation in zip(METRICS, (0.03, 0.09, 0.07), strict=True)}


def judge(evidence: Evidence, words: str, reading: str = "") -> Verdict:
    (claim,) = (claim for claim in CLAIMS if words in claim.text and claim.reading == reading)
    return claim.check(evidence)


def seconds(**columns: dict[int, float]) -> Evidence:
    """Times of one run a cell, each exact, of setups such as cpu1."""
    table = pd.DataFrame({f"{name[-1]}x{name[:-1]}": each for name, each in columns.items()}, dtype=float)
    nothing = pd.DataFrame(dtype=float)
    return Evidence(dict(zip(METRICS, (np.log(table), nothing, nothing), strict=True)), CERTAIN)


@pytest.mark.parametrize(
    ("words", "reading", "exact", "noisy", "number"),
    [
        ("faster than using a CPU", "", "supported", "supported", "14 of 14 cells"),
        ("36 times", "at least 36, at one batch size", "contradicted", "undecided", "34.55 at most, 1xcpu / 2xgpu"),
        ("36 times", "at least 36, at any two batch sizes", "supported", "supported", "53.86"),
        ("1.6 times less loss", "at least 1.6", "supported", "undecided", "1.672 at most"),
        ("1.005 times more", "at least 1.005", "supported", "undecided", "1.00517 at most"),
        ("batch size of 128", "one GPU", "supported", "undecided", "10 of 10 cells"),
        ("batch size of 128", "either", "contradicted", "undecided", "19 of 20 cells"),
        ("until the batch size is 2048", "", "contradicted", "undecided", "4 of 6 cells"),
        ("significant decrease", "", "contradicted", "contradicted", "512 takes 0.9298 times"),
        ("1 GPU has more accuracy", "", "supported", "undecided", "1.069"),
        ("1 GPU has less loss", "", "supported", "supported", "1.087"),
        ("on average, performed better", "time", "supported", "supported", "1.115"),
        ("more predictable", "2xgpu: loss", "undecided", "undecided", ""),
        ("converge", "loss", "supported", "supported", "closest at 1024"),
        ("converge", "accuracy", "undecided", "undecided", "closest at 1024"),
    ],
)
def test_the_papers_tables_give(words, reading, exact, noisy, number):
    verdict = judge(published(), words, reading)
    assert (verdict.word, verdict.seen or 0) == (exact, 0) and number in verdict.found
    assert judge(published(NOISE), words, reading).word == noisy


def shown(log: float, deviation: float, share: float = 0.975) -> str:
    """A ratio with the interval of a difference of two runs."""
    half = stats.t.ppf(share, 14) * deviation * math.sqrt(2)
    return "{:.3f} ({:.3f} to {:.3f})".format(*(math.exp(log + each) for each in (0, -half, half)))


def test_intervals_of_one_cell_of_the_best_of_many_and_of_a_mean():
    best = judge(published(NOISE), "1.6 times less loss", "at least 1.6")
    # Bonferroni's, of 14 cells.
    assert best.found.startswith(shown(math.log(0.04480 / 0.02679), 0.07, 1 - 0.025 / 14))
    seen = 0.07 * math.sqrt(2) * (stats.t.ppf(0.975, 14) + stats.t.ppf(0.8, 14))
    assert best.seen == pytest.approx(math.exp(seen) - 1)
    steps = judge(published(NOISE), "significant decrease").found
    assert f"512 takes {shown(math.log(517.46 / 556.50), 0.03)} times" in steps
    assert f"512 {shown(math.log(22.63 / 28.07), 0.03, 1 - 0.025 / 3)}" in steps  # one of the three steps after 256
    ratios = np.log(np.divide(paper.SECONDS["2xgpu"], paper.SECONDS["1xgpu"]))
    mean = judge(published(NOISE), "on average, performed better", "time").found
    assert shown(ratios.mean(), 0.03 / math.sqrt(7)) in mean


def test_an_erratic_curve_is_one_that_scatters_around_a_parabola():
    verdict = judge(published(), "more predictable", "1xcpu: accuracy")
    errors = [np.log(1e4 * (1 - np.array(paper.ACCURACY[setup]))) for setup in ("1xgpu", "1xcpu")]
    squares = [np.polyfit(np.log2(paper.BATCH_SIZES), each, 2, full=True)[1][0] for each in errors]
    ratio = squares[0] / squares[1]
    low, high = (ratio / stats.f.ppf(share, 4, 4) for share in (0.975, 0.025))
    assert verdict.word == "supported" and high < 1
    assert verdict.found.endswith(f" {ratio:.2g} ({low:.2g} to {high:.2g})")


def test_claims_of_setups_that_did_not_run_have_no_verdict_and_two_processes_stand_in_for_two_gpus():
    assert [claim.check(seconds(cpu1={32: 2.0, 64: 1.0})) for claim in CLAIMS] == [Verdict(None)] * len(CLAIMS)
    both = seconds(cpu1={32: 10.0, 2048: 5.0}, cpu2={32: 20.0, 2048: 6.0})
    assert judge(both, "until the batch size").word == "supported"


@pytest.mark.parametrize(
    ("times", "word"),
    [
        ({256: 100.0, 512: 97.9, 1024: 96.0}, "supported"),  # 2 % less up to 512, and not beyond it
        ({256: 1e5, 512: 97_900.0, 1024: 96_000.0}, "supported"),  # a share of the time
        ({256: 100.0, 512: 97.9, 1024: 95.0}, "contradicted"),
        ({32: 700.0, 512: 500.0}, None),
    ],
)
def test_what_is_significant_is_a_share_of_the_time(times, word):
    assert judge(seconds(cpu1=times), "significant decrease").word == word
