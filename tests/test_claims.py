"""The paper's claims on the paper's own tables, and on tables of runs made by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from handmade_runs import make_run

from mnist_lightning import paper
from mnist_lightning.report.claims import Answer, Source, judge
from mnist_lightning.report.page import Page, published
from mnist_lightning.report.runs import read_runs
from mnist_lightning.report.stats import METRICS, Noise

# How far a run of ours scatters late, as logarithms, with 14 degrees of freedom.
LATE = {"errors": Noise(0.09, 14), "val/loss": Noise(0.10, 14)}


def answers(source: Source) -> dict[str, tuple[Answer, bool]]:
    return {claim.text: (answer, sure) for claim, answer, sure in judge(source)}


def find(found: dict[str, tuple[Answer, bool]], words: str) -> tuple[Answer, bool]:
    (each,) = (each for text, each in found.items() if words in text)
    return each


@pytest.mark.parametrize(
    ("words", "yes", "told", "sure"),
    [
        ("faster than using a CPU", True, "15.42 times better on average, in 14 of 14 cells", True),
        ("36 times", False, "34.5; 53.9 between two batch sizes", False),
        ("1.6 times less loss", True, "1.672 at 512, in 1 of 14 cells", False),
        ("1.005 times more", True, "1.005 at 512, in 1 of 14 cells", False),
        ("data grow", None, "one of each", False),
        ("512, the GPUs' at 256", True, "13.3 s or more to there, 9.0 s or less after; in percent no", False),
        ("until” 2048", False, "two save 3 % at 512, 7 % at 1024", False),
        ("from a batch size of 128", True, "in 10 of 10 cells", False),
        ("more predictable", None, "a cell is one run", False),
        ("at a batch size of 1024", True, "accuracy is closest at 1024, loss at 1024", False),
        ("more accuracy than 2", True, "5 of 7 cells", False),
        ("less loss than 2", True, "4 of 7 cells", False),
        ("on average, performed better", True, "1.11 times better on average, in 4 of 7 cells", True),
    ],
)
def test_each_claim_on_the_papers_own_tables(words, yes, told, sure):
    answer, goes_beyond = find(answers(published(LATE)), words)
    assert (None if answer.yes is None else bool(answer.yes), goes_beyond) == (yes, sure) and told in answer.told


def test_without_runs_nothing_is_known_of_the_noise_of_accuracy_and_loss():
    sure = {text: sure for text, (_, sure) in answers(published(dict.fromkeys(METRICS[1:], Noise()))).items()}
    assert [text for text, each in sure.items() if each] == [
        "“using GPUs for training is faster than using a CPU”",
        "“1GPU, on average, performed better” (time)",
    ]


def test_the_noise_of_the_papers_times_is_the_scatter_around_its_lines():
    squares = []
    for seconds in paper.SECONDS.values():
        x, y = np.array(paper.STEPS, float), np.array(seconds)
        fit = np.polynomial.Polynomial.fit(x, y, 1, w=1 / y)
        squares.append((((y - fit(x)) / y) ** 2).sum() / 5)
    assert published(LATE).noise["seconds/fit"] == (pytest.approx(math.sqrt(np.mean(squares))), 15)


def exact(seconds: dict[str, dict[int, float]], **others: dict[str, dict[int, float]]) -> Source:
    """Tables whose cells hardly scatter."""
    tables = {"seconds/fit": seconds, "errors": seconds, "val/loss": seconds, **others}
    frames = {name: np.log(pd.DataFrame(table).reindex(columns=list(paper.SETUPS))) for name, table in tables.items()}
    return Source("ours", frames, dict.fromkeys(METRICS, Noise(1e-4, 50)))


def test_a_claim_can_hold_beyond_noise_and_be_refuted_beyond_noise():
    sizes = (128, 512, 1024, 2048)
    cpu = {size: 1000.0 - size / 100 for size in sizes}
    one = {size: 20.0 + 100 / size for size in sizes}
    holds = answers(exact({"1xcpu": cpu, "1xgpu": one, "2xgpu": {size: 2 * seconds for size, seconds in one.items()}}))
    fails = answers(exact({"1xcpu": cpu, "1xgpu": one, "2xgpu": {size: seconds / 2 for size, seconds in one.items()}}))
    for words in ("until” 2048", "on average, performed better", "more accuracy than 2"):
        assert [(bool(each[0].yes), each[1]) for each in (find(holds, words), find(fails, words))] == [
            (True, True),
            (False, True),
        ]
    assert find(fails, "until” 2048")[0].told == "two save 50 % at 128, 50 % at 512, 50 % at 1024"


def test_what_did_not_run_is_not_judged():
    found = answers(exact({"1xcpu": {128: 9.0, 512: 8.0}, "1xgpu": {128: 2.0, 512: 1.0}}))
    assert not any(sure for _, sure in found.values() if _.yes is None)
    assert find(found, "1 GPU has less loss")[0].yes is None and bool(find(found, "faster than using a CPU")[0].yes)


def test_our_own_tables_are_asked_once_gpus_ran(tmp_path):
    for setup, factor in (("1xcpu", 10.0), ("1xgpu", 1.0), ("2xgpu", 1.2)):
        for size in paper.BATCH_SIZES:
            for seed in range(2):
                seconds = factor * (20 + 1000 / size) * (1 + 0.01 * seed)
                make_run(tmp_path, setup, size, seed, seconds, 0.99, 0.03)
    assert len(Page(read_runs([tmp_path / "1xcpu"])).sources) == 1
    theirs, own = Page(read_runs([tmp_path])).sources
    assert (theirs.name, own.name) == ("the paper's tables", "ours")
    assert own.noise["seconds/fit"].deviation == pytest.approx(math.log(1.01) / math.sqrt(2) / math.sqrt(2))
    assert find(answers(own), "until” 2048") == (
        Answer(True, "two save nothing", pytest.approx(0, abs=1e-6)),
        True,
    )
