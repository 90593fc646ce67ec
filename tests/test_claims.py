"""The paper's claims on the paper's own tables, and on tables made by hand."""

import pandas as pd
import pytest
import torch

from mnist_lightning import paper
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.report.claims import CLAIMS, PAPER, Tables


def tables(*of_setups: dict[str, dict[int, float]]) -> Tables:
    """Tables I, II and III by setup and batch size; those that are left out are empty."""
    return Tables(*(pd.DataFrame(table) for table in (*of_setups, {}, {}, {})[:3]))


@pytest.mark.parametrize(
    ("words", "holds", "cells", "found"),
    [
        ("36 times faster", False, "0 of 14", "34.5467 at most (1xcpu / 2xgpu, batch size 2048)"),
        ("1.6 times less loss", True, "1 of 14", "1.67227 at most (1xcpu / 1xgpu, batch size 512)"),
        ("1.005 times more", True, "1 of 14", "1.00517 at most (1xgpu / 1xcpu, batch size 512)"),
        (
            "batch size of 128",
            False,
            "19 of 20",
            "cells where a GPU has more accuracy, and less loss, than the CPU",
        ),
        ("until the batch size is 2048", False, "4 of 6", "2xgpu is faster from batch size 512"),
        ("significant decrease", True, "3 of 3", "1xcpu: 512, 1xgpu: 256, 2xgpu: 256"),
        ("1 GPU has more accuracy", True, "5 of 7", "cells where 1xgpu is better than 2xgpu"),
        ("1 GPU has less loss", True, "4 of 7", "cells where 1xgpu is better than 2xgpu"),
        ("converge", True, "2 of 2", "accuracy closest at 1024, loss closest at 1024"),
    ],
)
def test_the_papers_tables_give(words, holds, cells, found):
    (claim,) = (claim for claim in CLAIMS if words in claim.text)
    verdict = claim.check(PAPER)
    assert (verdict.holds, verdict.cells, verdict.found) == (holds, cells, found)


def test_claims_of_setups_that_did_not_run_have_no_verdict():
    only = tables({"1xcpu": {32: 2.0, 64: 1.0}}, {"1xcpu": {32: 0.9}}, {"1xcpu": {32: 0.1}})
    assert [claim.check(only).holds for claim in CLAIMS] == [None] * len(CLAIMS)
    assert all(claim.check(only).found == "—" for claim in CLAIMS)


def test_two_processes_stand_in_for_two_gpus():
    both = tables({"1xcpu": {32: 10.0, 2048: 5.0}, "2xcpu": {32: 20.0, 2048: 6.0}})
    (claim,) = (claim for claim in CLAIMS if "until the batch size" in claim.text)
    verdict = claim.check(both)
    assert (verdict.holds, verdict.cells, verdict.found) == (True, "1 of 1", "1xcpu is always faster")


def test_a_time_that_never_falls_much_is_counted_and_one_without_its_neighbours_is_not():
    (claim,) = (claim for claim in CLAIMS if "significant decrease" in claim.text)
    quick = {128: 12.0, 256: 9.0, 512: 8.0}
    verdict = claim.check(tables({"1xcpu": dict(PAPER.seconds["1xcpu"]), "1xgpu": quick}))
    assert (verdict.holds, verdict.cells, verdict.found) == (False, "1 of 2", "1xcpu: 512, 1xgpu: never")
    assert claim.check(tables({"1xcpu": {32: 700.0, 512: 500.0}})).holds is None


def test_the_papers_network_is_the_models_default():
    model = MNISTClassifier()
    assert {name: model.hparams[name] for name in paper.ARCHITECTURE} == paper.ARCHITECTURE
    assert isinstance(model.hparams["channels"], tuple) and torch.is_tensor(model.dense1.weight)
