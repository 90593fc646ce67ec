"""`report` on runs made by hand, and on a run of `fit`."""

import csv
import json
import math
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL
from handmade_runs import make_run

from mnist_lightning import commands, paper
from mnist_lightning.report import columns as columns_of_the_report
from mnist_lightning.report import drawing, figures, page
from mnist_lightning.report.columns import tidy
from mnist_lightning.report.page import TABLES, make_page
from mnist_lightning.report.runs import read_runs
from mnist_lightning.report.writing import FIGURES, write

# Setup, batch size, seed, seconds, accuracy, loss.
ROWS = [
    ("1xcpu", 128, 0, 100.0, 0.990, 0.030),
    ("1xcpu", 128, 1, 110.0, 0.992, 0.028),
    ("1xcpu", 128, 2, 120.0, 0.994, 0.026),
    ("1xcpu", 512, 0, 80.0, 0.980, 0.040),
    ("1xgpu", 128, 0, 2.0, 0.993, 0.016),
    ("2xgpu", 128, 0, 2.5, 0.993, 0.016),
]


@pytest.fixture
def logs(tmp_path) -> Path:
    for row in ROWS:
        make_run(tmp_path / "logs", *row)
    return tmp_path / "logs"


def report(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["mnist-lightning", "report", *map(str, arguments)])
    return commands.main()


def written(folder: Path, *logs: Path) -> str:
    """The report's page."""
    write(folder, read_runs(logs))
    return (folder / "report.md").read_text()


def test_report_writes_everything(logs, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert report(monkeypatch, "--logs", f"[{logs}]", "--out", out) == 0
    assert f"{out}/report.html, of 6 runs" in capsys.readouterr().out
    text, html = (out / "report.md").read_text(), (out / "report.html").read_text()
    drawn = set(FIGURES) - {"networks"}
    assert set(re.findall(r"^!\[.*\]\((.*)\.svg\)", text, re.MULTILINE)) == drawn
    assert all((out / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in drawn)
    # One file: nothing in it leads to another one.
    assert html.count('src="data:image/svg+xml;base64,') == len(drawn) and html.count(" src=") == len(drawn)
    assert html.count("<table>") == len(re.findall(r"^\| ?-", text, re.MULTILINE))
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    seconds = sorted(float(row["value"]) for row in rows if row["metric"] == "seconds/fit")
    assert seconds == sorted(row[3] for row in ROWS)

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    # A copy of the runs has other times of change, and gives the same report.
    for moment, path in enumerate(sorted(logs.rglob("summary.json"), reverse=True)):
        os.utime(path, (moment, moment))
    assert report(monkeypatch, "--logs", f"[{logs}]", "--out", out) == 0
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_the_tables_are_means_with_their_intervals(logs):
    found = make_page(read_runs([logs]))
    header, *_, row = page.main_table("I", found)[:4]
    assert header[1:5] == ["paper, 1xcpu", "paper, 1xgpu", "paper, 2xgpu", "1xcpu"]
    # By hand, of the logarithms of 100, 110 and 120; Student's t with two degrees of freedom has 95 % within 4.3027.
    x = [math.log(seconds) for seconds in (100, 110, 120)]
    half = 4.3027 * statistics.stdev(x) / 3**0.5
    low, high = (math.exp(statistics.mean(x) + each) for each in (-half, half))
    assert row[:5] == ["128", "585.06", "41.34", "52.05", f"110.0 [{low:.1f}, {high:.1f}] (n 3)"]
    assert page.main_table("III", found)[5][-3] == "0.04000 [0.02940, 0.05442] (n 1)"
    assert all(float(high) <= 1 for line in page.main_table("II", found) for high in re.findall(r", (.*)\]", line[-1]))


def test_two_seeds_and_missing_cells(tmp_path):
    for setup, size, seed, seconds in (("1xcpu", 32, 0, 100.0), ("1xcpu", 32, 1, 110.0), ("1xcpu", 64, 0, 80.0)):
        make_run(tmp_path, setup, size, seed, seconds, 0.99, 0.03)
    make_run(tmp_path, "2xcpu", 32, 1, 121.0, 0.99, 0.03)
    make_run(tmp_path, "2xcpu", 128, 0, 70.0, 0.99, 0.03, summary={"resumed": True})
    found = make_page(read_runs([tmp_path]))
    rows = {row[0]: row[4:] for row in page.main_table("I", found)}
    assert rows["batch size"] == ["1xcpu", "2xcpu (n 1)"] and rows["32"][0].startswith("105.0 [")
    assert rows["64"][1] == "—" and rows["128"] == ["—", "left out"]
    # The one seed that both have, with the scatter of two independent runs.
    (ratio,) = found.ours[""].ratios("seconds/fit", "1xcpu", "2xcpu").values()
    assert (ratio.ratio, ratio.error, ratio.freedom) == (pytest.approx(1.1), pytest.approx(math.log(1.1)), 1)
    assert found.seconds[1].more == {32: pytest.approx(11.0)}


def test_figures_show_the_tables_and_the_settings(logs):
    (axes,) = figures.curves(tidy(read_runs([logs])), "II").axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["paper, 1xcpu"].get_ydata()[4] == 0.9858
    assert [0.992, 0.980] in [pytest.approx(list(line.get_ydata())) for line in axes.get_lines()]
    assert [y for _, y in axes.collections[0].get_offsets()] == pytest.approx([0.990, 0.992, 0.994, 0.980])
    drawn = drawing.architecture({**paper.ARCHITECTURE, "channels": [8, 16]}, 5).axes[0].texts
    assert {"28x28x1", "26x26x8", "24x24x16", "12x12x16", "2,304", "128", "10"} <= {text.get_text() for text in drawn}


def test_the_paper_alone_needs_no_logs_and_no_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['', 'report', '--paper=true']; from mnist_lightning import commands;"
        "code = commands.main(); sys.exit(code or bool({'torch', 'lightning', 'tensorboard'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, timeout=60).returncode == 0
    text = (tmp_path / "report/report.md").read_text()
    assert "between 256 and 512 images" in text and "cross at 491 images" in text


def test_the_first_screen_is_six_sentences_of_the_numbers(logs, tmp_path):
    lines = written(tmp_path, logs).splitlines()[2:8]
    assert [line[:2] for line in lines] == ["1.", "2.", "3.", "4.", "5.", "6."]
    assert "6 runs" in lines[0] and "4 of `1xcpu`, 1 of `1xgpu` and 1 of `2xgpu`; 2 batch sizes; 3 seeds" in lines[0]
    assert "3.1 ms more" in lines[3] and "between 256 and 512 images" in lines[3]
    # 790.19 s / 119.89 s and 506.80 s / 17.64 s; 180.50 s / 119.89 s and 14.67 s / 17.64 s.
    assert all(number in lines[5] for number in ("6.6 times", "29 times", "1.5 and 0.83 times"))
    one = written(tmp_path, logs / "1xcpu/batch_size=0512").splitlines()[2]
    assert "1 run of" in one and "1 runs" not in one and "1 seed;" in one


def test_what_to_set_is_said_from_the_time_to_99_percent(tmp_path):
    """Made runs reach their accuracy in the fifth epoch of ten."""
    for name, size, seconds, accuracy in (
        ("bf16-mixed", 128, 60.0, 0.991),
        ("bf16-mixed", 512, 50.0, 0.989),
        ("32-true", 128, 120.0, 0.991),
    ):
        make_run(tmp_path / "logs" / name, "1xcpu", size, 0, seconds, accuracy, 0.03, machine={"precision": name})
    text = written(tmp_path, tmp_path / "logs")
    assert "Set `1xcpu, bf16` and batch size 128" in text and "after 30.0 s (n 1)" in text
    assert "took 0.50 times the seconds of fp32" in text


def test_runs_that_differ_in_more_get_columns_of_their_own_and_a_run_may_be_named_by_its_folder(logs):
    make_run(logs / "narrow", "1xcpu", 128, 0, 50.0, 0.98, 0.05, model_channels=[8, 16])
    found = list(dict.fromkeys(tidy(read_runs([logs])).column))
    assert found == ["1xcpu", "1xcpu, channels [8, 16]", "1xgpu", "2xgpu"]
    (run,) = read_runs([logs / "2xgpu" / "batch_size=0128" / "seed=0" / "version_0"])
    assert run.summary["metrics"]["seconds/fit"] == 2.5


def test_a_runs_own_text_is_shown_and_never_run(tmp_path):
    text = "<script>alert(1)</script> [x](javascript:alert(1)) ![y](http://example.org/y.svg) $x_$"
    for seed, own in enumerate((text, "none")):
        for setup in ("1xcpu", "2xcpu", "1xgpu"):
            machine = {"processor": text, "gpu": text, "commit": text, "code": own}
            made = {"summary": {"network": own}, "model_note": own, "rates": (100.0, 100.0)}
            make_run(tmp_path / str(seed), setup, 128, seed, 100.0, 0.99, 0.03, machine=machine, **made)
    shown, html = written(tmp_path, tmp_path), (tmp_path / "report.html").read_text()
    assert "script>alert(1)" in shown and "script&gt;alert(1)" in html
    assert "<script" not in shown + html
    assert re.findall(r' (?:src|href)="(?!data:image/svg\+xml|")', html) == []
    assert not any("<script" in path.read_text() for path in tmp_path.glob("*.svg"))


SUMMARY, CONFIG = "summary.json", "config.yaml"
DAMAGES = (
    (SUMMARY, lambda text: text[:50]),
    (SUMMARY, lambda text: "[1]"),
    (SUMMARY, lambda text: text.replace('"setup"', '"setups"')),
    (SUMMARY, lambda text: text.replace('"other_cores": 0.01', '"other_cores": null')),
    (SUMMARY, lambda text: text.replace('"val/loss": 0.03', '"val/loss": "0.03"')),
    (SUMMARY, lambda text: text.replace('"val/accuracy": [0.9, ', '"val/accuracy": [')),
    (CONFIG, lambda text: "model: {"),
    (CONFIG, lambda text: f"{text}note: 2020-01-01\n"),
    (CONFIG, lambda text: "seed_everything: 0\n"),
    (CONFIG, None),
)


def test_damaged_runs_are_named_and_left_out(logs, tmp_path, monkeypatch, capsys):
    runs = [make_run(tmp_path / str(number), *ROWS[0]) for number in range(len(DAMAGES))]
    for run, (file, damage) in zip(runs, DAMAGES, strict=True):
        text = (run / file).read_text()
        (run / file).unlink()
        if damage is not None:
            assert damage(text) != text
            (run / file).write_text(damage(text))
        assert report(monkeypatch, "--logs", run, "--out", tmp_path / "none") == 2
        assert str(run) in capsys.readouterr().err and not (tmp_path / "none").exists()
    assert report(monkeypatch, "--logs", f"[{tmp_path}]", "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert said.err.count("left out  ") == len(runs) and all(str(run) in said.err for run in runs)
    assert "of 6 runs" in said.out


@pytest.mark.parametrize(
    ("arguments", "name"), [([], "logs"), (["--logs=here"], "logs"), (["--paper=true", "--out=file"], "out")]
)
def test_what_cannot_be_reported_is_named(tmp_path, monkeypatch, capsys, arguments, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "file").write_text("")
    assert report(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and name in said and sorted(os.listdir()) == ["file", "here"]


def test_a_fit_has_all_that_the_report_reads(command, tmp_path, monkeypatch):
    # However busy the machine of the tests is.
    monkeypatch.setattr(columns_of_the_report, "disturbances", lambda summary: [])
    assert command("fit", *SMALL, "--trainer.max_epochs=1", "--trainer.accelerator=cpu") == 0
    assert report(monkeypatch, "--logs", "[logs]") == 0
    text = (tmp_path / "report/report.md").read_text()
    assert "other images than MNIST" in text and "## Table I. Seconds of 1 epoch\n" in text
    (path,) = Path("logs").glob("1xcpu-b0480-s0/version_0/summary.json")
    summary = json.loads(path.read_text())
    for shown in TABLES.values():
        assert f"| {summary['metrics'][shown.metric]:{shown.ours}} |" in text
    rates = [moment["fp32_gflops"] for moment in summary["calibration"].values()]
    assert min(rates) > 0 and f"({sum(rates) / 2:.1f} GFLOP/s in fp32)" in text
    # Matplotlib leaves each text in a comment beside its outline.
    assert "<!-- 26x26x8 -->" in (tmp_path / "report/figure-1-architecture.svg").read_text()
