"""The comparison with other programs: its page, its clock, what it refuses, and where a step goes."""

import json
import sys

import pytest
from conftest import PROJECT, SMALL

sys.path.insert(0, str(PROJECT / "benchmarks"))
import compare
import page
import step_parts
from measure import Clock
from programs import BATCH_SIZES, KERAS, OURS, PROGRAMS

RESULTS = PROJECT / "results" / "intel-xeon-family-6-model-167-2-cores"


def test_the_committed_page_is_made_from_the_committed_measurements():
    measured = [json.loads(line) for line in (RESULTS / "benchmarks.jsonl").read_text().splitlines()]
    assert sum(line.get("program") in PROGRAMS for line in measured) == 3 * len(BATCH_SIZES) * len(PROGRAMS)
    assert page.page(measured) == (RESULTS / "benchmarks.md").read_text()


def test_a_page_has_medians_ranges_and_ratios_of_the_same_round_and_marks_a_speed_in_steps():
    """Two rounds at one batch size: ours at 300 and 100, Keras at 100 and 50, the others at 1."""
    rates = dict.fromkeys(PROGRAMS, (1.0, 1.0)) | {OURS: (300.0, 100.0), KERAS: (100.0, 50.0)}
    lines = [json.loads((RESULTS / "benchmarks.jsonl").read_text().splitlines()[0])]
    lines += [{"round": 1, "limit": precision, "gflops": 200.0} for precision in ("fp32", "bf16")]
    for name, pair in rates.items():
        for number, rate in enumerate(pair, 1):
            windows = [100.0] * 10 + [200.0] * 10 if (name, number) == (OURS, 1) else [rate] * 19 + [rate / 2]
            found = {"batch_size": 32, "images_per_second": rate, "windows": windows}
            lines.append({"round": number, "program": name, **found})
    text = page.page(lines)
    assert f"| {OURS} | 200 (100–300) !1 |" in text and f"| {KERAS} | 75 (50–100) |" in text
    assert f"| {OURS} / {KERAS} | 2.50 (2.00–3.00) |" in text
    # 200 images of 71.6 MFLOP in 200 GFLOP/s.
    assert "`fit` trains 0.07 times as many images as the machine's rate in fp32" in text


def test_a_clock_gives_the_whole_and_each_window():
    clock = Clock()
    # Two epochs of three steps; the time between them is not counted.
    clock.epochs = [[0.0, 1.0, 2.0, 4.0], [10.0, 11.0, 12.0, 13.0]]
    found = clock.line(batch_size=6000)
    assert found["images_per_second"] == round(6 * 6000 / 7, 1)
    assert found["windows"] == [6000.0, 6000.0, 3000.0, 6000.0, 6000.0, 6000.0]
    assert clock.line(batch_size=3000)["windows"] == [3000.0, 3000.0]


@pytest.mark.parametrize(
    ("python", "load", "commit", "named"),
    [
        (sys.executable, 1.5, "abc", "load"),
        (sys.executable, 0.1, "abc+", "commit"),
        ("nowhere", 0.1, "abc", "keras_python"),
    ],
)
def test_what_would_spoil_a_comparison_is_refused(monkeypatch, capsys, tmp_path, python, load, commit, named):
    monkeypatch.setattr(sys, "argv", ["compare.py", f"--output={tmp_path}/out", f"--keras_python={python}"])
    monkeypatch.setattr(compare.os, "getloadavg", lambda: (load, 1.0, 1.0))
    monkeypatch.setattr(compare, "describe", lambda load: {"commit": commit})
    assert compare.main() == 2
    assert named in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_callback_says_where_a_step_of_fit_goes(command, monkeypatch, capsys):
    for name, steps in {"SKIPPED": 2, "BLOCK": 4, "SETTLING": 1, "BLOCKS": 2, "PROFILED": 4}.items():
        monkeypatch.setattr(step_parts, name, steps)
    steps = ["--data.batch_size=128", "--trainer.limit_train_batches=17", "--trainer.max_epochs=1"]
    callback = ["--trainer.callbacks=step_parts.StepParts", "--trainer.accelerator=cpu"]
    assert command("fit", *SMALL, *steps, *callback) == 0
    (line,) = (json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{"))
    assert len(line["Trainer, each pair"]) == 2 and 0 < line["convolutions"] < line["fit"]
