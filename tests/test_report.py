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
from conftest import QUICK
from handmade_runs import make_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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


def columns(logs: Path) -> list[str]:
    """The report's columns."""
    return list(dict.fromkeys(tidy(read_runs([logs])).column))


def report(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["mnist-lightning", "report", *map(str, arguments)])
    return commands.main()


def written(folder: Path, *logs: Path) -> str:
    """The report's page."""
    write(folder, read_runs(logs))
    return (folder / "report.md").read_text()


def test_the_order_of_runs_is_that_of_their_paths(logs):
    """A copy or a clone has other times of change, and must give the same report."""
    before = [run.folder for run in read_runs([logs / "2xgpu", logs])]
    assert before == [logs / "2xgpu/batch_size=0128/seed=0/version_0", *sorted(set(before[1:]))] and len(before) == 6
    for moment, folder in enumerate(reversed(before)):
        os.utime(folder / "summary.json", (moment, moment))
    assert [run.folder for run in read_runs([logs / "2xgpu", logs])] == before


def test_report_writes_everything(logs, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert report(monkeypatch, "--logs", f"[{logs}]", "--out", out) == 0
    assert capsys.readouterr().out == f"report  {out}/report.html, of 6 runs\n"
    text = (out / "report.md").read_text()
    for name in re.findall(r"\]\(([\w.-]+)\)", text):
        assert (out / name).stat().st_size > 1000, name
        assert (out / name).with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    drawn = set(FIGURES) - {"networks"}
    assert set(re.findall(r"^!\[.*\]\((.*)\.svg\)", text, re.MULTILINE)) == drawn
    html = (out / "report.html").read_text()
    # One file: nothing in it leads to another one.
    assert html.count('src="data:image/svg+xml;base64,') == len(drawn) and html.count(" src=") == len(drawn)
    assert html.count("<table>") == len(re.findall(r"^\| ?-", text, re.MULTILINE))
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {
        (row["setup"], row["batch_size"], row["seed"]): float(row["value"])
        for row in rows
        if row["metric"] == "seconds/fit"
    }
    assert found == {(setup, str(size), str(seed)): seconds for setup, size, seed, seconds, _, _ in ROWS}
    to_99 = {
        row["setup"]: float(row["value"]) for row in rows if row["metric"] == "seconds/to_99" and row["seed"] == "0"
    }
    assert to_99 == {"1xcpu": pytest.approx(50), "1xgpu": 1.0, "2xgpu": pytest.approx(1.25)}  # the fifth epoch of ten

    events = EventAccumulator(str(out), size_guidance={"images": 0}).Reload()
    # After the metrics of the runs, which TensorBoard shows on the same page by the alphabet.
    assert set(events.Tags()["images"]) == {f"what the report shows/{name}" for name in drawn}
    assert min(events.Tags()["images"]) > "val/loss"
    written = out.stat().st_mtime
    assert all(abs(events.Images(tag)[0].wall_time - written) < 3600 for tag in events.Tags()["images"])
    assert {"table I", "table II", "table III", "claims"} <= {
        tag.removesuffix("/text_summary") for tag in events.Tags()["tensors"]
    }

    before = {path.name: path.read_bytes() for path in out.glob("*") if "tfevents" not in path.name}
    assert report(monkeypatch, "--logs", f"[{logs}]", "--out", out) == 0
    assert before == {path.name: path.read_bytes() for path in out.glob("*") if "tfevents" not in path.name}
    assert len(list(out.glob("*tfevents*"))) == 1


def test_the_tables_are_means_with_their_intervals(logs):
    found = make_page(read_runs([logs]))
    assert [f"| {' | '.join(row)} |" for row in page.main_table("I", found)[:4]] == [
        "| batch size | paper, 1xcpu | paper, 1xgpu | paper, 2xgpu | 1xcpu | 1xgpu (n 1) | 2xgpu (n 1) |",
        "| 32 | 790.19 | 119.89 | 180.50 | — | — | — |",
        "| 64 | 640.23 | 68.56 | 94.22 | — | — | — |",
        "| 128 | 585.06 | 41.34 | 52.05 | 110.0 [87.5, 137.6] (n 3) | 2.0 [1.4, 3.0] | 2.5 [1.7, 3.7] |",
    ]
    # By hand, of the logarithms of 100, 110 and 120; Student's t with two degrees of freedom has 95 % within 4.3027.
    x = [math.log(seconds) for seconds in (100, 110, 120)]
    half = 4.3027 * statistics.stdev(x) / 3**0.5
    assert (
        f"{math.exp(statistics.mean(x) - half):.1f}" == "87.5"
        and f"{math.exp(statistics.mean(x) + half):.1f}" == "137.6"
    )
    assert page.main_table("III", found)[5][-3] == "0.04000 [0.02940, 0.05442] (n 1)"


def test_two_seeds_and_missing_cells(tmp_path):
    for setup, size, seed, seconds in (("1xcpu", 32, 0, 100.0), ("1xcpu", 32, 1, 110.0), ("1xcpu", 64, 0, 80.0)):
        make_run(tmp_path, setup, size, seed, seconds, 0.99, 0.03)
    make_run(tmp_path, "2xcpu", 32, 1, 121.0, 0.99, 0.03)
    make_run(tmp_path, "2xcpu", 128, 0, 70.0, 0.99, 0.03, rates=(100.0, 90.0))
    make_run(tmp_path, "1xcpu", 128, 0, 70.0, 0.99, 0.03, rates=(100.0, 100.0))
    for run in tmp_path.glob("*/*/*/*/summary.json"):  # all on one machine
        summary = json.loads(run.read_text())
        summary.setdefault("calibration", {}).setdefault("before", {})["host_gflops"] = 100.0
        run.write_text(json.dumps(summary))
    found = make_page(read_runs([tmp_path]))
    # One degree of freedom, of which Student's t has 95 % within 12.706.
    deviation = math.log(1.1) / 2**0.5
    half = 12.7062 * deviation / 2**0.5
    low, high = (math.exp(math.log(100 * 110) / 2 + sign * half) for sign in (-1, 1))
    rows = {row[0]: row[4:] for row in page.main_table("I", found)}
    assert rows["batch size"] == ["1xcpu", "2xcpu (n 1)"]
    assert rows["32"][0] == f"105.0 [{low:.1f}, {high:.1f}] (n 2)"
    assert rows["64"][0].startswith("80.0 [") and rows["64"][1] == "—" and rows["128"][1] == "left out"
    # The one seed that both have, with the scatter of two independent runs.
    (ratio,) = found.ours[""].ratios("seconds/fit", "1xcpu", "2xcpu").values()
    assert (ratio.ratio, ratio.error, ratio.freedom) == (pytest.approx(1.1), pytest.approx(deviation * 2**0.5), 1)
    assert found.seconds[1].more == {32: pytest.approx(11.0)}
    write(tmp_path, found.runs)
    assert "two processes took 11.0 s more than one" in (tmp_path / "report.md").read_text()


def test_no_interval_of_an_accuracy_passes_1(tmp_path):
    for seed, accuracy in enumerate((0.9999, 0.9990)):
        make_run(tmp_path, "1xcpu", 128, seed, 100.0, accuracy, 0.03)
    (cell,) = (row[-1] for row in page.main_table("II", make_page(read_runs([tmp_path]))) if row[0] == "128")
    low, high = map(float, re.findall(r"\[(.*), (.*)\]", cell)[0])
    assert low == 0.0 or low < 0.9 < high <= 1.0


def test_figures_show_the_tables(logs):
    (axes,) = figures.curves(tidy(read_runs([logs])), "II").axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["paper, 1xcpu"].get_ydata()[4] == 0.9858 and lines["paper, 1xcpu"].get_linestyle() == "--"
    (means,) = (line for line in axes.get_lines() if list(line.get_ydata()) == pytest.approx([0.992, 0.980]))
    assert means.get_linestyle() == "-" and means.get_color() == lines["paper, 1xcpu"].get_color()
    # A dot a run, and no bars.
    dots = axes.collections[0].get_offsets()
    assert [y for _, y in dots] == pytest.approx([0.990, 0.992, 0.994, 0.980]) and not axes.containers


def test_the_architecture_is_drawn_from_the_settings():
    def texts(**changed):
        model = {**paper.ARCHITECTURE, **changed}
        return [text.get_text() for text in drawing.architecture(model, 5).axes[0].texts]

    assert {"28x28x1", "26x26x32", "24x24x64", "12x12x64", "9,216", "128", "10", drawing.SCALE} <= set(texts())
    assert {"26x26x8", "24x24x16", "12x12x16", "2,304"} <= set(texts(channels=[8, 16]))


def test_the_paper_alone_needs_no_logs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report(monkeypatch, "--paper") == 0
    text = (tmp_path / "report/report.md").read_text()
    assert "the faster of the two changes between 256 and 512 images" in text
    assert "The fitted lines cross at 491 images" in text
    assert "| claim | where | the paper's tables |" in text.splitlines()


def test_a_report_of_one_run_speaks_of_one(tmp_path):
    text = written(tmp_path, make_run(tmp_path / "logs", *ROWS[0]).parents[3])
    assert text.splitlines()[2].startswith(
        "1. **What ran.** 1 run of `fit` (`1xcpu`; 1 batch size; 1 seed; 10 epochs; fp32)"
    )
    assert "no cell has two seeds, so that no interval is known" in text
    assert "processes" not in text and "1 runs" not in text and "likewise" not in text


def test_the_first_screen_is_six_sentences_of_the_numbers(logs, tmp_path):
    lines = written(tmp_path, logs).splitlines()[2:8]
    assert [line[:2] for line in lines] == ["1.", "2.", "3.", "4.", "5.", "6."]
    assert (
        "6 runs of `fit` (4 of `1xcpu`, 1 of `1xgpu` and 1 of `2xgpu`; 2 batch sizes; 3 seeds; 10 epochs; fp32)"
        in lines[0]
    )
    assert "a step cost 3.1 ms more on two GPUs than on one" in lines[3] and "between 256 and 512 images" in lines[3]
    assert (
        "All of the paper's setups ran; no run is left out of the times, and `1xgpu` and `2xgpu` have one seed"
        in lines[4]
    )
    # 790.19 s / 119.89 s and 506.80 s / 17.64 s; 180.50 s / 119.89 s and 14.67 s / 17.64 s.
    assert "one GPU was 6.6 times as fast as its CPU at batch size 32 and 29 times at 2048" in lines[5]
    assert "two GPUs took 1.5 and 0.83 times the seconds of one" in lines[5]


def test_what_to_set_is_said_from_the_time_to_99_percent(tmp_path):
    """The made runs reach their accuracy after five of ten epochs."""
    for precision, size, seconds, accuracy in (
        ("bf16-mixed", 128, 60.0, 0.991),
        ("bf16-mixed", 512, 50.0, 0.989),
        ("32-true", 128, 120.0, 0.991),
    ):
        machine = {"precision": precision}
        make_run(tmp_path / "logs" / precision, "1xcpu", size, 0, seconds, accuracy, 0.03, machine=machine)
    page = written(tmp_path, tmp_path / "logs")
    assert (
        "Set `1xcpu, bf16` and batch size 128 on such a machine: they reached an accuracy of 99 % first, after 30.0 s (n 1)."
        in page
    )
    text = page.split("## What should one set?")[1].split("## Method")[0]
    assert "; fp32)" not in text  # the columns tell the precision
    assert "**Batch size.** 128: `1xcpu, bf16` reached 99 % with it first." in text
    assert "bf16: with it `1xcpu, bf16` took 0.50 times the seconds of fp32 at this batch size." in text
    assert "the second device first paid between 256 and 512 in the paper.\n- **What to buy.** No GPU ran" in text


def test_runs_without_step_parts_are_reported(tmp_path):
    text = written(tmp_path, make_run(tmp_path / "logs", *ROWS[0], summary={"step_seconds": {}}).parents[3])
    assert "Where a step's time goes" not in text


def test_runs_that_differ_in_more_get_columns_of_their_own(logs):
    make_run(logs / "narrow", "1xcpu", 128, 0, 50.0, 0.98, 0.05, model_channels=[8, 16])
    assert columns(logs) == [
        "1xcpu",
        "1xcpu, channels [8, 16]",
        "1xgpu",
        "2xgpu",
    ]


def test_a_run_may_be_named_by_its_own_folder(logs):
    (run,) = read_runs([logs / "2xgpu" / "batch_size=0128" / "seed=0" / "version_0"])
    assert run.summary["metrics"]["seconds/fit"] == 2.5
    (logs / "links").mkdir()
    (logs / "links" / "version_0").symlink_to(run.folder.rename(run.folder.with_name("kept")))
    assert [found.folder.name for found in read_runs([logs / "links"])] == ["version_0"]


def test_a_report_leaves_the_curves_of_a_run_alone(logs, monkeypatch):
    (run,) = logs.glob("2xgpu/*/*/*")
    curves = run / "events.out.tfevents.1.host.2.0"
    curves.write_text("")
    for _ in range(2):
        assert report(monkeypatch, "--logs", f"[{logs}]", "--out", run) == 0
    assert curves.exists() and len(list(run.glob("events.out.tfevents.*.report"))) == 1


def test_what_cannot_be_reported_is_said_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert report(monkeypatch) == 2
    assert (
        capsys.readouterr().err == "error: logs names logs, which is no folder: name one that fit or study wrote to.\n"
    )
    (tmp_path / "logs").mkdir()
    assert report(monkeypatch) == 2
    assert "holds no finished run" in capsys.readouterr().err
    run = make_run(tmp_path / "logs", *ROWS[0])
    (run / "config.yaml").unlink()
    assert report(monkeypatch) == 2
    assert str(run.relative_to(tmp_path)) in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert report(monkeypatch, "--paper", "--out", "file") == 2
    assert "out is file" in capsys.readouterr().err


def test_report_imports_no_torch():
    code = (
        "import sys; import mnist_lightning.report.page, mnist_lightning.report.figures, mnist_lightning.report.events;"
        "import mnist_lightning.study.command; sys.exit(bool({'torch', 'lightning', 'tensorflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_fit_has_all_that_the_report_reads(command, tmp_path, monkeypatch):
    # However busy the machine of the tests is.
    monkeypatch.setattr(columns_of_the_report, "disturbances", lambda summary: [])
    assert command("fit", *QUICK, "--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--step_parts=true") == 0
    assert report(monkeypatch, "--logs", "[logs]") == 0
    text = (tmp_path / "report/report.md").read_text()
    assert "Some runs saw a sample of MNIST" in text and "Runs of 1 epoch stand beside the paper's 10 epochs" in text
    assert "## Table I. Seconds of 1 epoch\n" in text
    (path,) = Path("logs").glob("1xcpu/batch_size=0480/seed=0/version_0/summary.json")
    summary = json.loads(path.read_text())
    for shown in TABLES.values():
        assert f"| {summary['metrics'][shown.metric]:{shown.ours}} |" in text
    step = sum(summary["step_seconds"].values())
    assert f"{1e3 * step:.2f} |" in text
    rates = [moment["fp32_gflops"] for moment in summary["calibration"].values()]
    assert min(rates) > 0 and f"({sum(rates) / 2:.1f} GFLOP/s in fp32)" in text
    figure = (tmp_path / "report/figure-1-architecture.svg").read_text()
    # Matplotlib leaves each text in a comment beside its outline.
    assert {"26x26x4", "24x24x8"} <= set(re.findall(r"<!-- (.*?) -->", figure))
