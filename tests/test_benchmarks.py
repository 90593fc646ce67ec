"""The page of a comparison is made from its measurements, and the figures of docs/speed.md from the page."""

import json
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

sys.path.insert(0, str(PROJECT / "benchmarks"))
import compare
import page
from measure import Clock
from programs import BATCH_SIZES, KERAS, OURS, PROGRAMS, RATIOS

RESULTS = PROJECT / "results" / "amd-epyc-family-25-model-17-2-cores"
MACHINE = {
    "cores": 2,
    "processor": "P",
    "family": "25",
    "model": "17",
    "stepping": "1",
    "vectors": "avx2",
    "memory_gib": 8,
    "python": "3",
    "torch": "2",
    "lightning": "2",
    "commit": "abc",
    "load_before": 0.1,
}


def line(name: str, number: int, rate: float, windows: list[float], size: int = 32) -> dict:
    return {"round": number, "program": name, "batch_size": size, "images_per_second": rate, "windows": windows}


@pytest.fixture
def lines():
    """Two rounds at one batch size: ours at 300 and 100, Keras at 100 and 50, the others at 1."""
    rates = dict.fromkeys(PROGRAMS, (1.0, 1.0)) | {OURS: (300.0, 100.0), KERAS[0]: (100.0, 50.0)}
    runs = [line(name, n + 1, pair[n], [pair[n]] * 20) for name, pair in rates.items() for n in (0, 1)]
    limits = [{"round": 1, "limit": precision, "gflops": 200.0} for precision in ("fp32", "bf16")]
    return [{"machine": MACHINE}, *limits, *runs]


def test_a_page_has_medians_ranges_and_ratios_of_the_same_round(lines):
    text = page.page(lines)
    assert f"| {OURS} | 200 (100–300) |" in text
    assert f"| {OURS} / {KERAS[0]} | 2.50 (2.00–3.00) |" in text
    assert "AMD" not in text and "2 cores of an P (family 25, model 17, stepping 1; avx2)" in text
    assert "`fit` comes to 7% of the machine's rate in fp32" in text  # 200 images of 71.6 MFLOP in 200 GFLOP/s


def test_a_run_whose_speed_comes_in_steps_is_marked(lines):
    for run in lines:
        if (run.get("program"), run.get("round")) == (OURS, 1):
            run["windows"] = [100.0] * 10 + [200.0] * 10
    text = page.page(lines)
    assert f"| {OURS} | 200 (100–300) !1 |" in text
    assert f"| {KERAS[0]} | 75 (50–100) |" in text
    assert not page.is_uneven([100.0] * 19 + [50.0])  # one disturbed window of twenty


def test_a_clock_gives_the_whole_and_each_window():
    clock = Clock()
    # Two epochs of three steps; the time between them is not counted.
    clock.epochs = [[0.0, 1.0, 2.0, 4.0], [10.0, 11.0, 12.0, 13.0]]
    found = clock.line(batch_size=6000)
    assert found["images_per_second"] == round(6 * 6000 / 7, 1)
    assert found["windows"] == [6000.0, 6000.0, 3000.0, 6000.0, 6000.0, 6000.0]
    # Windows of two steps; the third step of each epoch fills none.
    assert clock.line(batch_size=3000)["windows"] == [3000.0, 3000.0]


def test_a_busy_machine_a_missing_keras_and_changed_code_are_refused(monkeypatch, capsys, tmp_path):
    arguments = ["compare.py", f"--output={tmp_path}/out", f"--keras_python={sys.executable}"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(compare.os, "getloadavg", lambda: (1.5, 1.0, 1.0))
    assert compare.main() == 2
    assert "load 1.50" in capsys.readouterr().err
    monkeypatch.setattr(compare.os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    monkeypatch.setattr(compare, "describe", lambda load: {"commit": "abc+"})
    assert compare.main() == 2
    assert "the code differs from its commit" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*arguments[:2], "--keras_python=nowhere"])
    assert compare.main() == 2
    assert "keras_python nowhere is not there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_committed_page_is_made_from_the_committed_measurements():
    measured = [json.loads(line) for line in (RESULTS / "benchmarks.jsonl").read_text().splitlines()]
    assert sum("program" in line for line in measured) == 3 * len(BATCH_SIZES) * len(PROGRAMS)
    assert page.page(measured) == (RESULTS / "benchmarks.md").read_text()


def test_the_docs_quote_the_ratios_of_the_page():
    def rows(path: Path) -> list[str]:
        lines = path.read_text().splitlines()
        return [line for line in lines if line.startswith("| this project") and " / " in line]

    docs = PROJECT / "docs" / "speed.md"
    assert len(rows(docs)) == len(RATIOS)
    assert rows(docs) == rows(RESULTS / "benchmarks.md")


def test_the_readme_quotes_the_ratios_to_the_paper_s_framework():
    (row,) = (
        line
        for line in (RESULTS / "benchmarks.md").read_text().splitlines()
        if line.startswith(f"| {OURS} / {KERAS[0]} |")
    )
    *most, last = [cell.strip() for cell in row.strip("|").split("|")][1:]
    text = " ".join((PROJECT / "README.md").read_text().split())
    assert f"{', '.join(most)} and {last} times as many images a second as {KERAS[0]} (n 3" in text
