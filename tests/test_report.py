"""`report` on runs made by hand, and on a run of `fit`."""

import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import SMALL, told
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lightning import paper
from mnist_lightning.report import command as report_command
from mnist_lightning.report import figures, page
from mnist_lightning.report.runs import read_runs, tidy
from mnist_lightning.report.seeds import differences, half_width, scatter
from mnist_lightning.report.writing import FIGURES, write

# Setup, batch size, seed, seconds, accuracy, loss.
ROWS = [
    ("1xcpu", 128, 0, 100.0, 0.990, 0.030),
    ("1xcpu", 128, 1, 110.0, 0.992, 0.028),
    ("1xcpu", 128, 2, 120.0, 0.994, 0.026),
    ("1xcpu", 512, 0, 80.0, 0.980, 0.040),
    ("2xgpu", 128, 0, 2.5, 0.993, 0.016),
]


def make_run(
    logs: Path,
    setup: str,
    batch_size: int,
    seed: int,
    seconds: float,
    accuracy: float,
    loss: float,
    machine: dict | None = None,
    **settings,
) -> Path:
    """A finished run's folder, as `fit` leaves it; `machine` is what its record has otherwise."""
    run = logs / setup / f"batch_size={batch_size:04d}" / f"seed={seed}" / "version_0"
    run.mkdir(parents=True)
    steps = -(-60_000 // batch_size) * 10
    summary = {
        "setup": setup,
        "batch_size": batch_size,
        "seed": seed,
        "data": "mnist",
        "train_images": 60_000,
        "parameters": 1_199_882,
        "machine": {
            "processor": "Z80",
            "cores": 1,
            "precision": "32-true",
            "commit": "abc",
            "load_before": 0.0,
            **({"gpu": "Voodoo"} if setup.endswith("gpu") else {}),
            **(machine or {}),
        },
        "neighbours": {"other_cores": 0.01, "stolen_cores": 0.0},
        "epochs": 10,
        "steps": steps,
        "metrics": {
            "val/accuracy": accuracy,
            "val/loss": loss,
            "seconds/fit": seconds,
            "seconds/warm_up": 1.0,
        },
        "median": {"seconds/epoch": seconds / 10},
        "by_epoch": {
            "seconds/epoch": [seconds / 10] * 10,
            "val/accuracy": [0.9] * 3 + [None] + [accuracy] * 6,
        },
        "step_seconds": dict.fromkeys(page.PARTS, 0.001),
    }
    model = {"channels": [32, 64], "kernel_size": 3, "pool_size": 2, "hidden": 128, "dropout": [0.25, 0.5]}
    model |= {name.removeprefix("model_"): value for name, value in settings.items()}
    config = {"seed_everything": seed, "model": model, "data": {"batch_size": batch_size}}
    (run / "summary.json").write_text(json.dumps(summary))
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


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
    return told(report_command.main)


def test_cells_are_means_deviations_and_n(logs):
    assert columns(logs) == ["1xcpu", "2xgpu"]
    table = tidy(read_runs([logs]))
    assert page.main_table("III", table)[5][-2:] == ["0.04000 (n 1)", "—"]
    assert [f"| {' | '.join(row)} |" for row in page.main_table("I", table)] == [
        "| batch size | paper, 1xcpu | paper, 1xgpu | paper, 2xgpu | 1xcpu | 2xgpu |",
        "| 32 | 790.2 | 119.9 | 180.5 | — | — |",
        "| 64 | 640.2 | 68.6 | 94.2 | — | — |",
        "| 128 | 585.1 | 41.3 | 52.0 | 110.0 ± 10.0 (n 3) | 2.5 (n 1) |",
        "| 256 | 556.5 | 28.1 | 30.9 | — | — |",
        "| 512 | 517.5 | 22.6 | 21.9 | 80.0 (n 1) | — |",
        "| 1024 | 512.1 | 19.1 | 17.8 | — | — |",
        "| 2048 | 506.8 | 17.6 | 14.7 | — | — |",
    ]


def test_claims_are_checked_on_the_means(logs):
    header, *rows = page.claims(tidy(read_runs([logs])))
    assert header == ["claim", "the paper's tables", "ours"]
    faster = next(row for row in rows if "36 times" in row[0])
    assert faster[2] == "**holds**, 1 of 1 cells: 44 at most (1xcpu / 2xgpu, batch size 128)"
    less = next(row for row in rows if "less loss”" in row[0] and "1.6" in row[0])
    assert less[2] == "**holds**, 1 of 1 cells: 1.75 at most (1xcpu / 2xgpu, batch size 128)"
    until = next(row for row in rows if "until the batch size" in row[0])
    assert until[2] == "—"


def written(folder: Path, *logs: Path) -> str:
    """The report's page."""
    write(folder, read_runs(logs))
    return (folder / "report.md").read_text()


def test_differences_have_the_interval_that_seeds_give(logs, tmp_path):
    table = tidy(read_runs([logs]))
    known = scatter(table, "val/accuracy")
    assert dict(known.deviation) == {128: pytest.approx(0.002)} and dict(known.freedom) == {128: 2}
    # Student's t with two degrees of freedom has 95 % within 4.3027.
    assert half_width(known, 128, 3) == pytest.approx(4.3027 * 0.002 / 3**0.5, rel=1e-4)
    found = differences(table, "1xcpu", "2xgpu", "val/accuracy")
    assert list(found.index) == [128]
    assert found["mean"][128] == pytest.approx(0.001)
    assert found.half_width[128] == pytest.approx(4.3027 * 0.002 * (1 / 3 + 1) ** 0.5, rel=1e-4)
    assert not found.real[128]
    assert math.isnan(half_width(known, 512, 1, 1))
    text = written(tmp_path, logs)
    assert "| 2xgpu − 1xcpu | +0.0010 ± 0.0099 |" in text
    assert "Our setups differ in 0 of 1 comparisons" in text
    # 14 differences of the paper's, of which those at batch size 128 can be judged.
    assert "The paper's CPU and GPUs differ in 0 of 2 comparisons" in text


def test_figures_show_the_tables(logs):
    table = tidy(read_runs([logs]))
    figure = figures.curves(table, "II")
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["paper, 1xcpu"].get_ydata()[4] == 0.9858 and lines["paper, 1xcpu"].get_linestyle() != "-"
    ours = {box.get_label(): box for box in axes.containers}
    points, _, (bars,) = ours["ours, 1xcpu"].lines
    assert list(points.get_ydata()) == pytest.approx([0.992, 0.980]) and points.get_linestyle() == "-"
    assert points.get_color() == lines["paper, 1xcpu"].get_color()
    low, high = bars.get_segments()[0][:, 1]
    assert high - low == pytest.approx(2 * half_width(scatter(table, "val/accuracy"), 128, 3))


def test_the_architecture_is_drawn_from_the_settings():
    def texts(**changed):
        model = {**paper.ARCHITECTURE, **changed}
        return [text.get_text() for text in figures.architecture(model, 5).axes[0].texts]

    assert {"28x28x1", "26x26x32", "24x24x64", "12x12x64", "9,216", "128", "10"} <= set(texts())
    assert {"26x26x8", "24x24x16", "12x12x16", "2,304"} <= set(texts(channels=[8, 16]))


def test_report_writes_everything(logs, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert report(monkeypatch, "--logs", f"[{logs}]", "--out", out) == 0
    assert capsys.readouterr().out == f"report  {out}/report.md, of 5 runs\n"
    text = (out / "report.md").read_text()
    for name in re.findall(r"\]\(([\w.-]+)\)", text):
        assert (out / name).stat().st_size > 1000, name
        assert (out / name).with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert len(re.findall(r"^!\[", text, re.MULTILINE)) == len(FIGURES)
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
    assert to_99 == {"1xcpu": pytest.approx(50), "2xgpu": pytest.approx(1.25)}  # the fifth epoch of ten

    events = EventAccumulator(str(out), size_guidance={"images": 0}).Reload()
    # After the metrics of the runs, which TensorBoard shows on the same page by the alphabet.
    assert set(events.Tags()["images"]) == {f"what the report shows/{name}" for name in FIGURES}
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


def test_the_paper_alone_needs_no_logs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report(monkeypatch, "--paper") == 0
    text = (tmp_path / "report/report.md").read_text()
    assert "the two are equal at 437 images (95 % interval 351 to 594)" in text
    assert "ours" not in text.split("## What the paper claims")[1].split("##")[0]


def test_runs_that_differ_in_more_get_columns_of_their_own(logs):
    make_run(logs / "narrow", "1xcpu", 128, 0, 50.0, 0.98, 0.05, model_channels=[8, 16])
    assert columns(logs) == [
        "1xcpu, channels [32, 64]",
        "1xcpu, channels [8, 16]",
        "2xgpu, channels [32, 64]",
    ]


def test_machines_are_told_apart_and_setups_of_one_are_not(logs):
    # A GPU is what a setup of CPUs has none of, and two processes have a thread each.
    make_run(logs, "2xcpu", 128, 0, 90.0, 0.99, 0.03, machine={"threads": 1})
    assert columns(logs) == ["1xcpu", "2xcpu", "2xgpu"]
    make_run(logs / "large", "1xcpu", 128, 0, 10.0, 0.99, 0.03, machine={"cores": 16})
    table = tidy(read_runs([logs]))
    found = dict(table[table.metric == "seconds/fit"].column.value_counts())
    assert found == {"1xcpu, cores 1": 4, "1xcpu, cores 16": 1, "2xcpu, cores 1": 1, "2xgpu, cores 1": 1}


def test_a_run_may_be_named_by_its_own_folder(logs):
    (run,) = read_runs([logs / "2xgpu" / "batch_size=0128" / "seed=0" / "version_0"])
    assert run.summary["metrics"]["seconds/fit"] == 2.5
    (logs / "links").mkdir()
    (logs / "links" / "version_0").symlink_to(run.folder.rename(run.folder.with_name("kept")))
    assert [found.folder.name for found in read_runs([logs / "links"])] == ["version_0"]


def test_what_spoils_a_number_is_said(logs):
    runs = read_runs([logs])
    assert page.caveats(runs) == []
    cpu = [run for run in runs if run.summary["setup"] == "1xcpu"]
    (first,) = (run for run in cpu if run.name == "1xcpu at batch size 128, seed 0")
    first.summary.update(resumed=True, neighbours={"other_cores": 0.5})
    no_gpu, busy, resumed = page.caveats(cpu)
    assert no_gpu.startswith("- No GPU ran")
    assert busy.startswith("- Other programs") and "while 1 of 4 runs" in busy
    assert resumed.startswith("- 1 of 4 runs were interrupted") and resumed.endswith("size 128, seed 0.")


def test_without_cells_to_compare_nothing_is_said_of_differences(tmp_path):
    for seed in range(3):
        # 100 is no batch size of the paper's.
        make_run(tmp_path, "1xcpu", 100, seed, 100.0 + seed, 0.99 + seed / 1000, 0.03)
    text = written(tmp_path, tmp_path)
    assert "The paper's CPU and GPUs cannot be compared" in text and "0 of 0" not in text


def test_a_report_leaves_the_curves_of_a_run_alone(logs, monkeypatch):
    (run,) = logs.glob("2xgpu/*/*/*")
    curves = run / "events.out.tfevents.1.host.2.0"
    curves.write_text("")
    for _ in range(2):
        assert report(monkeypatch, "--logs", f"[{logs}]", "--out", run) == 0
    assert curves.exists() and len(list(run.glob("events.out.tfevents.*.report"))) == 1


def test_of_equal_runs_the_newest_counts_and_unfinished_ones_do_not(logs):
    first = make_run(logs / "again", "1xcpu", 128, 0, 999.0, 0.9, 0.1) / "summary.json"
    later = first.stat().st_mtime + 10
    os.utime(first, (later, later))
    unfinished = make_run(logs / "cut", "1xcpu", 1024, 0, 1.0, 0.9, 0.1)
    (unfinished / "summary.json").unlink()
    cpu = tidy(read_runs([logs])).query("column == '1xcpu' and metric == 'seconds/fit'")
    assert dict(cpu[cpu.batch_size == 128].set_index("seed").value) == {0: 999.0, 1: 110.0, 2: 120.0}
    assert sorted(set(cpu.batch_size)) == [128, 512]


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
    for batch_size in (480, 960, 2000):
        assert (
            command(
                "fit",
                *SMALL,
                f"--data.batch_size={batch_size}",
                "--trainer.max_epochs=2",
                "--trainer.accelerator=cpu",
                "--step_parts=true",
            )
            == 0
        )
    assert report(monkeypatch, "--logs", "[logs]") == 0
    text = (tmp_path / "report/report.md").read_text()
    assert "Some runs saw a sample of MNIST" in text and "Some runs have 2 epochs" in text
    for batch_size in (480, 960, 2000):
        (path,) = Path("logs").glob(f"1xcpu/batch_size={batch_size:04d}/seed=0/version_0/summary.json")
        summary = json.loads(path.read_text())
        for metric, _, form in page.METRICS.values():
            assert f"{summary['metrics'][metric]:{form}} (n 1)" in text
        step = sum(summary["step_seconds"].values())
        assert f"{1e3 * step:.2f} |" in text
    assert "| ours, 1xcpu |" in text.split("## Why were two GPUs slower?")[1]
    channels = [number for number in ("26x26x4", "24x24x8") if number not in _svg_texts(tmp_path)]
    assert channels == []


def _svg_texts(folder: Path) -> str:
    # Matplotlib leaves each text in a comment beside its outline.
    return " ".join(re.findall(r"<!-- (.*?) -->", (folder / "report/figure-1-architecture.svg").read_text()))
