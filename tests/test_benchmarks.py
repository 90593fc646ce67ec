"""The page of a comparison is made from its measurements, and the figures of docs/speed.md from the page."""

import json
import sys
from collections import defaultdict

import pytest
from conftest import PROJECT

sys.path.insert(0, str(PROJECT / "benchmarks"))
import compare

RESULTS = PROJECT / "results" / "amd-epyc-2-cores"
PAGE = (RESULTS / "benchmarks.md").read_text()


@pytest.fixture
def measured():
    rates = defaultdict(list)
    for line in map(json.loads, (RESULTS / "benchmarks.jsonl").read_text().splitlines()):
        if "program" in line:
            rates[line["program"], line["batch_size"]] = line["images_per_second"]
    return rates


def test_medians_spreads_and_ratios():
    rates = defaultdict(lambda: [1.0])
    for size in compare.BATCH_SIZES:
        rates[compare.OURS, size] = [300.0, 100.0, 200.0]
        rates[compare.KERAS, size] = [80.0, 160.0, 100.0]
    assert compare.spreads(rates, compare.OURS) == ["200 (100–300)"] * 4
    assert compare.ratios(rates, compare.OURS, compare.KERAS, "best") == [
        "this project / Keras (its fastest run)",
        *["1.25"] * 4,
    ]
    assert compare.ratios(rates, compare.OURS, compare.KERAS, "median") == [
        "this project / Keras",
        *["2.00"] * 4,
    ]
    assert compare.table(["a", "b"], [["c", "1"]]) == "| a | b |\n| --- | ---: |\n| c | 1 |"


def test_the_committed_page_is_made_from_the_committed_measurements(measured):
    lines = PAGE.splitlines()
    for name in compare.PROGRAMS:
        assert f"| {' | '.join([name, *compare.spreads(measured, name)])} |" in lines
    for row in compare.RATIOS:
        assert f"| {' | '.join(compare.ratios(measured, *row))} |" in lines


def test_the_readme_quotes_the_page():
    speed = (PROJECT / "docs" / "speed.md").read_text()
    rows = [line for line in speed.splitlines() if line.startswith("| this project")]
    assert len(rows) == len(compare.RATIOS)
    assert all(row in PAGE.splitlines() for row in rows)


def test_a_busy_machine_and_a_missing_keras_are_refused(monkeypatch, capsys, tmp_path):
    arguments = ["compare.py", f"--output={tmp_path}/out", f"--keras_python={sys.executable}"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(compare.os, "getloadavg", lambda: (1.5, 1.0, 1.0))
    assert compare.main() == 2
    assert "load 1.50" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*arguments[:2], "--keras_python=nowhere"])
    assert compare.main() == 2
    assert "keras_python nowhere is not there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
