"""`report` on runs made by hand, and on a run of `fit`."""

import csv
import json
import math
import os
import re
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from conftest import SMALL
from handmade_runs import make_run

from mnist_lightning import commands, paper
from mnist_lightning.report import columns as columns_of_the_report
from mnist_lightning.report import figures
from mnist_lightning.report.facts import main_table
from mnist_lightning.report.page import Page
from mnist_lightning.report.runs import read_runs
from mnist_lightning.report.writing import write

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
    drawn = {"time-to-accuracy", "figure-3-time", "figure-4-accuracy", "figure-5-loss"}
    assert set(re.findall(r"^!\[.*\]\((.*)\.svg\)", text, re.MULTILINE)) == drawn
    assert {path.stem for path in out.glob("*.svg")} == drawn
    # One file: nothing in it leads to another one.
    assert html.count('src="data:image/svg+xml;base64,') == len(drawn) and html.count(" src=") == len(drawn)
    assert len(re.findall(r' href="https://github.com/(?:keras-team|kuza55)/', html)) == html.count(" href=") == 3
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
    found = Page(read_runs([logs]))
    header, *_, row = main_table(found, "I")[:4]
    assert header[1:5] == ["paper, 1xcpu", "paper, 1xgpu", "paper, 2xgpu", "1xcpu (n 3)"]
    # By hand, of the logarithms of 100, 110 and 120; Student's t with two degrees of freedom has 95 % within 4.3027.
    x = [math.log(seconds) for seconds in (100, 110, 120)]
    half = 4.3027 * statistics.stdev(x) / 3**0.5
    mean, low, high = (math.exp(statistics.mean(x) + each) for each in (0, -half, half))
    assert row[:5] == ["128", "585.06", "41.34", "52.05", f"{mean:.1f} [{low:.1f}, {high:.1f}]"]
    assert main_table(found, "III")[5][-3] == "0.04000 [0.02940, 0.05442] (n 1)"
    # 100, 80 and 60 errors of 10,000, whose geometric mean is 78.3.
    assert main_table(found, "II")[3][-3].startswith("0.9922 [") and main_table(found, "II")[3][-1] == "0.9930"
    assert main_table(found, "I")[1][-3:] == ["—"] * 3


def test_a_time_that_is_left_out_says_why_at_its_cell(tmp_path):
    for setup, size, seed, seconds in (("1xcpu", 32, 0, 100.0), ("1xcpu", 32, 1, 110.0), ("1xcpu", 64, 0, 80.0)):
        make_run(tmp_path, setup, size, seed, seconds, 0.99, 0.03)
    make_run(
        tmp_path, "1xcpu", 32, 2, 900.0, 0.99, 0.03, summary={"neighbours": {"own_cores": 1.0, "other_cores": 1.0}}
    )
    make_run(tmp_path, "2xcpu", 128, 0, 70.0, 0.98, 0.03, summary={"resumed": True})
    found = Page(read_runs([tmp_path]))
    rows = {row[0]: row[4:] for row in main_table(found, "I")}
    assert rows["batch size"] == ["1xcpu (n 3)", "2xcpu (n 1)"] and rows["128"] == ["—", "left out: resumed"]
    assert rows["32"][0].startswith("104.9 [") and rows["32"][0].endswith(
        "] (n 2; left out: other work on the machine)"
    )
    assert {row[0]: row[5] for row in main_table(found, "II")}["128"] == "0.9800"


def test_figures_show_the_tables(logs):
    found = Page(read_runs([logs]))
    (axes,) = figures.curves(found, "II").axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["paper, 1xcpu"].get_ydata()[4] == 0.9858
    assert list(lines["1xcpu"].get_ydata()) == pytest.approx([1 - (100 * 80 * 60) ** (1 / 3) / 10_000, 0.980])
    assert [0.990, 0.992, 0.994, 0.980] in [pytest.approx(list(line.get_ydata())) for line in axes.get_lines()]
    first, *_, theirs = figures.time_to_accuracy(found, [column.name for column in found.columns]).axes
    # The mean of three seeds after ten epochs, of which the fourth was not validated.
    x, y = first.get_lines()[0].get_data()
    assert (len(x), x[-1], y[-1]) == (9, pytest.approx(110.0), pytest.approx(0.8))
    assert len(theirs.get_lines()) == 21


def test_the_paper_alone_needs_no_logs_and_no_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['', 'report', '--paper=true']; from mnist_lightning import commands;"
        "code = commands.main(); sys.exit(code or bool({'torch', 'lightning', 'tensorboard'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, timeout=60).returncode == 0
    text = (tmp_path / "report/report.md").read_text()
    assert "Nothing of ours ran" in text and "changes between 256 and 512." in text and "5.52 [5.33, 5.70]" in text


def make_study(logs: Path, setup: str, seconds: float, times_the_errors: float = 1.0, **made: dict[str, str]) -> None:
    """Three seeds of all batch sizes, which have so many times the errors of the paper's one GPU, and its loss."""
    for place, seed in product(range(len(paper.BATCH_SIZES)), range(3)):
        accuracy, loss = (table["1xgpu"][place] for table in (paper.ACCURACY, paper.LOSS))
        spread = 1 + 0.02 * (seed - 1)
        errors = (1 - accuracy) * spread * times_the_errors
        make_run(logs, setup, paper.BATCH_SIZES[place], seed, seconds * spread, 1 - errors, loss * spread, **made)


def test_the_first_screen_is_six_sentences_of_the_numbers(tmp_path):
    for setup, factor in (("1xcpu", 1.0), ("2xcpu", 1.1)):
        make_study(tmp_path / "logs", setup, 100 * factor)
    shown = " ".join(written(tmp_path, tmp_path / "logs").split("![")[0].split()).split(" - ")
    assert len(shown) == 7
    assert "**No GPU ran.** 42 runs, 7 batch sizes, 3 seeds, on 1 core of Z80; [95 % intervals]." in shown[0]
    assert "**Equal** beside the paper's one GPU: `1xcpu` makes 1.00 [0.95, 1.06] times its errors" in shown[1]
    assert "could hide" in shown[1] and "of the paper's 42 cells (chance: 2): `1xcpu` at" in shown[2]
    assert "slower up to 256:** a step cost 3.1 ms more, an image 24 % less" in shown[4]
    # 790.19 s / 119.89 s and 506.80 s / 17.64 s; 180.50 s / 119.89 s and 14.67 s / 17.64 s.
    assert all(number in shown[5] for number in ("6.6 (", "29 times", "51 % longer", "17 %"))
    assert "`2xcpu` took 1.10 [1.10, 1.10] times `1xcpu`; errors and loss are equal." in shown[6]


def test_the_first_screen_says_what_differs(tmp_path):
    make_study(tmp_path / "a", "1xcpu", 100.0)
    make_study(tmp_path / "b", "1xcpu", 60.0, times_the_errors=1.5, machine={"precision": "bf16-mixed"})
    text = " ".join(written(tmp_path, tmp_path).split())
    assert "**Equal** beside the paper's one GPU" in text and "errors and loss differ (below)." in text
    text = " ".join(written(tmp_path, tmp_path / "b").split())
    assert "**Differs** beside the paper's one GPU: `1xcpu` makes 1.50 [1.4" in text


def test_seeds_of_another_program_have_nothing_in_common_with_ours(tmp_path):
    make_study(tmp_path / "a", "1xcpu", 100.0)
    make_study(tmp_path / "b", "1xcpu", 300.0, summary={"program": "Keras"})
    # Three seeds that scatter by 2 % beside three others: 2.78 * 2 % * (2 / 3) ** .5. Errors are whole images.
    row = "| 1xcpu, Keras / 1xcpu | 3.00 [3.00, 3.00] | 1.00 [0.95, 1.05] | equal | 1.00 [0.96, 1.05] | equal |"
    assert row in written(tmp_path, tmp_path)


def test_runs_that_are_not_the_papers_come_first_and_are_not_compared_with_it(tmp_path):
    make_run(tmp_path / "a", "1xcpu", 128, 0, 9.0, 0.9, 0.3, summary={"data": "sample", "train_images": 4000})
    make_run(tmp_path / "b", "2xcpu", 128, 0, 8.0, 0.9, 0.3, summary={"data": "sample", "train_images": 4000})
    make_run(tmp_path / "c", "1xcpu", 128, 0, 7.0, 0.8, 0.4, model_learning_rate=0.1)
    text = written(tmp_path, tmp_path)
    assert "| 1xcpu b | 128 | 1 | 60,000 | 9.0 | 0.9000 | 0.30000 |" in text
    assert '- **1xcpu b**: source "sample"' in text and '**1xcpu a**: source "mnist"; learning_rate 0.1' in text
    assert "paper, 1xgpu" not in text and "What the paper claims" not in text and "Table I" not in text
    assert (tmp_path / "time-to-accuracy.svg").exists() and not (tmp_path / "figure-3-time.svg").exists()
    # Beside runs of the paper's experiment they have a table of their own.
    make_run(tmp_path / "d", "1xcpu", 128, 0, 50.0, 0.99, 0.03)
    text = written(tmp_path, tmp_path)
    assert "## Runs that are not the paper's experiment" in text and "Table I" in text


def test_networks_are_compared_with_the_papers(tmp_path):
    for name, channels, factor in (("half", [16, 32], 0.5), ("papers", [32, 64], 1.0)):
        for seed in range(3):
            made = {"model_channels": channels, "summary": {"parameters": int(1000 * factor)}}
            seconds = factor * 100 * (1 + 0.01 * seed) * (1 + 0.001 * seed * factor)
            make_run(tmp_path / name, "1xcpu", 128, seed, seconds, 0.99 - 0.001 * seed, 0.03, **made)
    text = written(tmp_path, tmp_path)
    (row,) = (line for line in text.splitlines() if line.startswith("| channels [16, 32]"))
    assert row.startswith("| channels [16, 32] | 1xcpu, fp32 | 128 | 500 | 3 | **0.50 [0.50, 0.50]** | 1.00 [")
    assert (
        "| the paper's | 1xcpu, fp32 | 128 | 1,000 | 3 | 1 | 1 | 1 |" in text and (tmp_path / "networks.svg").exists()
    )


def test_a_run_may_be_named_by_its_folder(logs):
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
    assert re.findall(r' (?:src|href)="(?!data:image/svg\+xml|"|https://github.com/k)', html) == []
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
    monkeypatch.setattr(columns_of_the_report, "busy_others", lambda summary: [])
    assert command("fit", *SMALL, "--trainer.max_epochs=1", "--trainer.accelerator=cpu") == 0
    assert report(monkeypatch, "--logs", "[logs]") == 0
    text = " ".join((tmp_path / "report/report.md").read_text().split())
    assert "1 run, 1 batch size, 1 seed" in text and 'source "sample"' in text
    (path,) = Path("logs").glob("1xcpu-b0480-s0/version_0/summary.json")
    summary = json.loads(path.read_text())
    for name, form in (("seconds/fit", ".1f"), ("val/accuracy", ".4f"), ("val/loss", ".5f")):
        assert f"| {summary['metrics'][name]:{form}} |" in text
    rates = [moment["fp32_gflops"] for moment in summary["calibration"].values()]
    assert min(rates) > 0 and f"fp32 {sum(rates) / 2:.1f} GFLOP/s (" in text
