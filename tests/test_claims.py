"""The paper's claims on the paper's own tables, and on tables made by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from mnist_lightning import paper
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.report.claims import CLAIMS
from mnist_lightning.report.evidence import CERTAIN, Evidence, published
from mnist_lightning.report.seeds import METRICS, Spread
from mnist_lightning.report.verdicts import Verdict

# What one run of ours scatters by, in logarithms, with 14 degrees of freedom.
NOISE = {
    "seconds/fit": Spread(0.03, 14, None, {}),
    "errors": Spread(0.09, 14, None, {}),
    "val/loss": Spread(0.07, 14, None, {}),
}


def judge(evidence: Evidence, words: str, reading: str = "") -> Verdict:
    (claim,) = (claim for claim in CLAIMS if words in claim.text and claim.reading == reading)
    return claim.check(evidence)


def tables(seconds: dict[str, dict[int, float]], accuracy: dict | None = None) -> Evidence:
    """One run a cell, each number exact."""
    errors = {
        name: {size: 1e4 * (1 - each) for size, each in column.items()} for name, column in (accuracy or {}).items()
    }
    frames = {
        name: np.log(pd.DataFrame(table, dtype=float))
        for name, table in zip(METRICS, (seconds, errors, {}), strict=True)
    }
    return Evidence(frames, CERTAIN)


@pytest.mark.parametrize(
    ("words", "reading", "exact", "noisy", "found"),
    [
        ("faster than using a CPU", "", "supported", "supported", "14 of 14 cells, 14 of them beyond chance"),
        ("36 times", "at least 36, at one batch size", "contradicted", "undecided", "34.55 at most, 1xcpu / 2xgpu at batch size 2048; 0 of 14 cells"),
        ("36 times", "at least 36, at any two batch sizes", "supported", "supported", "53.86, 1xcpu at batch size 32 / 2xgpu at 2048"),
        ("1.6 times less loss", "at least 1.6", "supported", "undecided", "1.672 at most, 1xcpu / 1xgpu at batch size 512; 1 of 14 cells"),
        ("1.005 times more", "at least 1.005", "supported", "undecided", "1.00517 at most, 1xgpu / 1xcpu at batch size 512; 1 of 14 cells"),
        ("batch size of 128", "one GPU", "supported", "undecided", "10 of 10 cells, 10 of them beyond chance"),
        ("batch size of 128", "either", "contradicted", "undecided", "19 of 20 cells, 19 of them beyond chance; against it 2xgpu, loss at 256"),
        ("until the batch size is 2048", "", "contradicted", "undecided", "4 of 6 cells, 4 of them beyond chance; against it 2xgpu / 1xgpu at 512, 2xgpu / 1xgpu at 1024"),
        ("significant decrease", "", "contradicted", "contradicted", "; ".join(
            f"{setup}: {last} takes {to} times the seconds of half as many, {2 * last} {beyond}, and the last size that saves 2 % or more is {saves}"
            for setup, last, to, beyond, saves in (("1xcpu", 512, 0.9298, 0.9896, 512), ("1xgpu", 256, 0.679, 0.8062, 2048), ("2xgpu", 256, 0.5927, 0.7089, 2048))
        )),
        ("1 GPU has more accuracy", "", "supported", "undecided", "ratio 1.069 on average; 5 of 7 cells"),
        ("1 GPU has less loss", "", "supported", "supported", "ratio 1.087 on average; 4 of 7 cells"),
        ("on average, performed better", "time", "supported", "supported", "ratio 1.115 on average; 4 of 7 cells"),
    ],
)  # fmt: skip
def test_the_papers_tables_give(words, reading, exact, noisy, found):
    verdict = judge(published(), words, reading)
    assert (verdict.word, verdict.found, verdict.seen or 0) == (exact, found, 0)
    assert judge(published(NOISE), words, reading).word == noisy


def test_the_best_of_many_cells_has_bonferronis_interval():
    verdict = judge(published(NOISE), "1.6 times less loss", "at least 1.6")
    half = stats.t.ppf(1 - 0.025 / 14, 14) * 0.07 * math.sqrt(2)
    best = 0.04480 / 0.02679
    assert verdict.found.startswith(f"{best:.3f} ({best * math.exp(-half):.3f} to {best * math.exp(half):.3f}) at most")
    seen = 0.07 * math.sqrt(2) * (stats.t.ppf(0.975, 14) + stats.t.ppf(0.8, 14))
    assert verdict.seen == pytest.approx(math.exp(seen) - 1)


def test_the_decisive_steps_of_a_saving_have_their_intervals():
    verdict = judge(published(NOISE), "significant decrease")
    half = stats.t.ppf(0.975, 14) * 0.03 * math.sqrt(2)
    step = 517.46 / 556.50
    assert f"512 takes {step:.3f} ({step * math.exp(-half):.3f} to {step * math.exp(half):.3f}) times" in verdict.found
    half = stats.t.ppf(1 - 0.025 / 3, 14) * 0.03 * math.sqrt(2)  # one of the three steps after 256
    step = 22.63 / 28.07
    assert f"512 {step:.3f} ({step * math.exp(-half):.3f} to {step * math.exp(half):.3f}), and" in verdict.found


def test_an_average_is_over_the_batch_sizes():
    verdict = judge(published(NOISE), "on average, performed better", "time")
    ratios = [math.log(two / one) for one, two in zip(paper.SECONDS["1xgpu"], paper.SECONDS["2xgpu"], strict=True)]
    mean, half = sum(ratios) / 7, stats.t.ppf(0.975, 14) * 0.03 * math.sqrt(2 / 7)
    shown = [math.exp(mean), math.exp(mean - half), math.exp(mean + half)]
    assert verdict.found == "ratio {:.3f} ({:.3f} to {:.3f}) on average; 4 of 7 cells".format(*shown)


def test_an_erratic_curve_is_one_that_scatters_around_a_parabola():
    verdict = judge(published(), "more predictable", "1xcpu: accuracy")
    x = np.log2(paper.BATCH_SIZES)
    squares = []
    for setup in ("1xgpu", "1xcpu"):
        y = np.log(1e4 * (1 - np.array(paper.ACCURACY[setup])))
        squares.append(np.polyfit(x, y, 2, full=True)[1][0])
    ratio = squares[0] / squares[1]
    assert verdict.word == "supported" and ratio / stats.f.ppf(0.025, 4, 4) < 1
    assert verdict.found.endswith(
        f" {ratio:.2g} ({ratio / stats.f.ppf(0.975, 4, 4):.2g} to {ratio / stats.f.ppf(0.025, 4, 4):.2g})"
    )
    assert judge(published(), "more predictable", "2xgpu: loss").word == "undecided"


def test_the_experiments_meet_where_their_variance_is_least():
    assert judge(published(), "converge", "loss").word == "supported"
    verdict = judge(published(), "converge", "accuracy")
    assert verdict.word == "undecided" and verdict.found.startswith("closest at 1024;")


def test_claims_of_setups_that_did_not_run_have_no_verdict():
    only = tables({"1xcpu": {32: 2.0, 64: 1.0}}, {"1xcpu": {32: 0.9}})
    assert [claim.check(only) for claim in CLAIMS] == [Verdict(None)] * len(CLAIMS)


def test_two_processes_stand_in_for_two_gpus():
    both = tables({"1xcpu": {32: 10.0, 2048: 5.0}, "2xcpu": {32: 20.0, 2048: 6.0}})
    verdict = judge(both, "until the batch size")
    assert (verdict.word, verdict.found) == ("supported", "1 of 1 cells, 1 of them beyond chance")


def test_what_is_significant_is_a_share_of_the_time():
    seconds = {256: 100.0, 512: 97.9, 1024: 96.0}
    assert judge(tables({"1xcpu": seconds}), "significant decrease").word == "supported"
    slower = {size: 1000 * each for size, each in seconds.items()}
    assert judge(tables({"1xcpu": slower}), "significant decrease").word == "supported"
    late = {**seconds, 1024: 95.0}
    verdict = judge(tables({"1xcpu": late}), "significant decrease")
    assert verdict.word == "contradicted" and verdict.found.endswith("the last size that saves 2 % or more is 1024")
    assert "1024 0.9704," in verdict.found
    assert judge(tables({"1xcpu": {32: 700.0, 512: 500.0}}), "significant decrease").word is None


def test_the_papers_network_is_the_models_default():
    model = MNISTClassifier()
    assert {name: model.hparams[name] for name in paper.ARCHITECTURE} == paper.ARCHITECTURE
    assert isinstance(model.hparams["channels"], tuple) and torch.is_tensor(model.dense1.weight)
