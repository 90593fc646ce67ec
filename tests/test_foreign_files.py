"""Files of runs that others wrote: what is none is named in one sentence, and the rest is reported."""

import csv
import json
import os
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT
from handmade_runs import make_run

from mnist_lightning.errors import SettingError
from mnist_lightning.report.runs import read_runs
from mnist_lightning.report.writing import write
from mnist_lightning.runs.summary import read_summary
from mnist_lightning.views.spreadsheet import harmless

OF_A_SUMMARY = [
    (("metrics",), None, "metrics is None, which has no names"),
    (("metrics", "seconds/fit"), None, "metrics.seconds/fit is None, which is not a number above 0"),
    (("metrics", "seconds/fit"), "fast", "metrics.seconds/fit is fast, which is not a number above 0"),
    (("metrics", "seconds/fit"), 0, "metrics.seconds/fit is 0"),
    (("metrics", "seconds/fit"), True, "metrics.seconds/fit is True"),
    (("metrics", "val/loss"), float("nan"), "metrics.val/loss is nan, which is not a number above 0"),
    (("metrics", "val/loss"), float("inf"), "metrics.val/loss is inf"),
    (("metrics", "val/accuracy"), 99.1, "metrics.val/accuracy is 99.1"),
    (("metrics", "another"), "x", "metrics.another is x, which is not a number"),
    (("setup",), "2xtpu", "setup is 2xtpu"),
    (("setup",), ["1xcpu"], "setup is ['1xcpu']"),
    (("batch_size",), 128.5, "batch_size is 128.5, which is not a whole number above 0"),
    (("batch_size",), 0, "batch_size is 0"),
    (("seed",), -1, "seed is -1"),
    (("epochs",), 11, "by_epoch does not have 11 values of each metric"),
    (("epochs",), 0, "epochs is 0"),
    (("machine",), "Z80", "machine is Z80, which has no names"),
    (("machine", "precision"), 32, "machine.precision is 32, which is no str"),
    (("machine", "family"), [1], "machine.family is [1]"),
    (("calibration",), {"before": {"fp32_gflops": "x"}}, "calibration.before.fp32_gflops is x"),
    (("neighbours", "own_cores"), None, "neighbours.own_cores is None"),
    (("by_epoch", "seconds/epoch"), [1.0] * 9, "by_epoch does not have 10 values"),
    (("by_epoch", "seconds/epoch"), 3.0, "by_epoch.seconds/epoch is 3.0, which is no list"),
    (("by_epoch", "val/accuracy"), ["x"] * 10, "by_epoch.val/accuracy[0] is x"),
    (("parameters",), 10**400, "parameters is 1000000"),
]
MISSING = ["setup", "metrics", "median", "by_epoch", "machine", "parameters"]
CONTENTS = [
    (b"", "is no JSON"),
    (b"\x80\x04\xff", "is no text"),
    (b"[1, 2]", "the whole is [1, 2], which has no names"),
    (b"null", "the whole is None, which has no names"),
    (b"[" * 100_000, "is no JSON"),
    (b'{"setup": "1xcpu"', "is no JSON"),
    (b"{}", "setup is missing"),
]
CONFIGS = [
    (b"", "is empty: it must hold settings"),
    (b"null\n", "is empty: it must hold settings"),
    (b"[1]\n", "holds a list"),
    (b"a: [\n", "is no YAML in line 2"),
    (b"\xff\xfe\x00", "is no text"),
    (b"a: &a [*a]\n", "contains itself"),
    (b"model: {channels: [a, b]}\n", "model.channels[0] is a, which is not a whole number"),
    (b"model: {pool_size: 0}\n", "model.pool_size is 0"),
    (b"trainer: {began: 2026-01-01}\n", "Object of type date is not JSON serializable"),
]


@pytest.fixture
def runs(tmp_path) -> tuple[Path, Path]:
    """A folder of logs with two runs, and the one that is going to be changed."""
    logs = tmp_path / "logs"
    make_run(logs, "1xcpu", 128, 0, 100.0, 0.99, 0.03)
    return logs, make_run(logs, "1xcpu", 128, 1, 110.0, 0.99, 0.03)


def left_out(logs: Path, run: Path, file: str, says: str, capsys) -> None:
    (read,) = read_runs([logs])
    assert read.summary["seed"] == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"left out  {run / file} ") and says in line and len(line) < 600


@pytest.mark.parametrize(("place", "value", "says"), OF_A_SUMMARY)
def test_a_summary_with_a_wrong_value_is_left_out(runs, capsys, place, value, says):
    logs, run = runs
    summary = json.loads((run / "summary.json").read_text())
    inner = summary
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    (run / "summary.json").write_text(json.dumps(summary))
    left_out(logs, run, "summary.json", says, capsys)


@pytest.mark.parametrize("name", MISSING)
def test_a_summary_in_which_something_is_missing_is_left_out(runs, capsys, name):
    logs, run = runs
    summary = json.loads((run / "summary.json").read_text())
    del summary[name]
    (run / "summary.json").write_text(json.dumps(summary))
    left_out(logs, run, "summary.json", f"({name} is missing)", capsys)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [("summary.json", *row) for row in CONTENTS] + [("config.yaml", *row) for row in CONFIGS],
)
def test_a_file_with_something_else_is_left_out(runs, capsys, file, content, says):
    logs, run = runs
    (run / file).write_bytes(content)
    left_out(logs, run, file, says, capsys)


@pytest.mark.parametrize("file", ["summary.json", "config.yaml"])
def test_what_is_no_file_is_left_out(runs, capsys, file):
    logs, run = runs
    (run / file).unlink()
    (run / file).mkdir()
    left_out(logs, run, file, "is no file", capsys)
    (run / file).rmdir()
    os.mkfifo(run / file)
    left_out(logs, run, file, "is no file", capsys)
    (run / file).unlink()
    if file == "config.yaml":
        left_out(logs, run, file, "cannot be read (No such file or directory)", capsys)


def test_if_nothing_can_be_read_there_is_no_report(runs):
    logs, _ = runs
    for summary in logs.rglob("summary.json"):
        summary.write_text("{}")
    with pytest.raises(SettingError, match=r"logs holds no finished run\. .*seed=0.* \(setup is missing\)"):
        read_runs([logs])


def test_the_page_says_how_many_were_tried():
    (row,) = [line for line in (PROJECT / "docs" / "faults.md").read_text().splitlines() if "that others wrote" in line]
    assert int(row.split("|")[2]) == len(OF_A_SUMMARY) + len(MISSING) + len(CONTENTS) + len(CONFIGS)


def test_what_fit_and_earlier_versions_wrote_is_a_summary(runs):
    for summary in [*(PROJECT / "results").rglob("summary.json"), *runs[0].rglob("summary.json")]:
        assert read_summary(summary.parent)["epochs"] == 10


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r1", "'\r1"),
        (" =1", "' =1"),
        ("1xcpu, hidden 64", "1xcpu, hidden 64"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_a_spreadsheet_runs_no_text(text, shown):
    assert harmless(text) == shown


def test_the_report_writes_no_formula(tmp_path):
    formula = '=HYPERLINK("http://host","1xcpu")'
    run = make_run(tmp_path / "logs", "1xcpu", 128, 0, 100.0, 0.99, 0.03, summary={"network": formula})
    make_run(tmp_path / "logs", "1xcpu", 128, 1, 100.0, 0.99, 0.03, machine={"commit": "@x"})
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "trainer": {"precision": "=1"}}))
    write(tmp_path, read_runs([tmp_path / "logs"]))
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["network"] for row in rows} == {f"'{formula}", ""}  # the paper's needs no name
    assert {row["commit"] for row in rows} == {"abc", "'@x"}
    assert {row["value"] for row in rows if row["metric"] == "val/loss"} == {"0.03"}
