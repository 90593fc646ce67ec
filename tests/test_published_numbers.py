"""Every number in README and docs is that of the files in `results/`."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
import yaml
from conftest import PROJECT
from test_readme import README, SPEED, STUDIED

from mnist_lightning import paper
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.report.page import NOUNS, Page, beside
from mnist_lightning.report.page import networks as compared
from mnist_lightning.report.runs import read_runs
from mnist_lightning.report.stats import Ratio
from mnist_lightning.report.writing import write
from mnist_lightning.runs.summary import closing_table

INTEL = PROJECT / "results" / "intel-xeon-family-6-model-167-2-cores"
STUDY, NETWORKS = INTEL / "study", INTEL / "architecture"
SAME_CELL = sorted((STUDY / "runs/fp32").glob("1xcpu-b0128-s*/version_0/summary.json"))
OURS, BF16, TWO, KERAS = "1xcpu, fp32", "1xcpu, bf16", "2xcpu, bf16", "1xcpu, Keras, fp32"


def rows(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("|")]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table(name: str) -> dict[tuple[str, str], str]:
    """What a table of the study's report says, by batch size and column."""
    header, _, *lines = map(cells, rows((STUDY / "report.md").read_text().split(f". {name}\n")[1].split("\n## ")[0]))
    names = [column.partition(" (n ")[0] for column in header[1:]]
    return {(row[0], name): cell for row in lines for name, cell in zip(names, row[1:], strict=True)}


def told(found: dict[str, Ratio], metric: str, its: str = "the") -> str:
    return f"{found[metric]} times {its} {NOUNS[metric]} ({found[metric].verdict})"


# What the pages say, by the function that works it out of the results. Each gives pages and texts.
Told = Iterator[tuple[str, str]]


def first_rows() -> Told:
    ran = json.loads(SAME_CELL[0].read_text())["machine"]
    keras = json.loads((STUDY / "runs/keras/1xcpu-b0128-s0/version_0/summary.json").read_text())["machine"]
    of = {
        OURS: "this project, `1xcpu`, fp32",
        BF16: "this project, `1xcpu`, bf16",
        KERAS: "the paper's program, `1xcpu`, fp32",
    }
    on = {
        OURS: f"{ran['cores']} cores of an Intel Xeon, family {ran['family']}, torch {ran['torch']}",
        BF16: "the same, `configs/fast.yaml`",
        KERAS: f"the same, Keras {keras['keras']} on TensorFlow {keras['tensorflow']}",
    }
    ran_at_128 = Page(read_runs([STUDY / "runs"])).ran.xs(128, level="batch_size")
    for name, who in of.items():
        ours = [table(title)["128", name].partition(" (n ")[0] for title in ("Seconds", "Loss", "Accuracy")]
        yield README, f"| {who} | {' | '.join(ours)} | {on[name]} | {ran_at_128[name]} |"
    (shown,) = re.findall(r"ends with\n\n```\n(.*?)```", README, re.DOTALL)
    assert shown.rstrip() in closing_table(json.loads(SAME_CELL[0].read_text()), None)
    theirs = (each["1xcpu"][paper.BATCH_SIZES.index(128)] for each in (paper.SECONDS, paper.LOSS, paper.ACCURACY))
    yield README, "| the paper, CPU | {:.2f} | {:.5f} | {:.4f} |".format(*theirs)


def the_study() -> Told:
    report = (STUDY / "report.md").read_text()
    main = report.split("## Table I.")[1].split("## What the paper claims")[0]
    yield from ((STUDIED, "\n".join(rows(part))) for part in main.split("## Table"))
    found = Page(read_runs([STUDY / "runs"]))
    seconds = defaultdict[str, float](float)
    for run, column in found.column_of.items():
        seconds[column.name] += run.summary["metrics"]["seconds/fit"]
    yield STUDIED, f"{sum(seconds.values()) / 3600:.1f} hours of training"
    one_seed = np.exp(found.of("seconds/fit", [BF16]).groupby("batch_size").mean()).sum()
    yield STUDIED, f"takes {one_seed / 60:.0f} minutes for each seed of `1xcpu` in bf16"
    ratios = beside(found)
    keras, bf16 = ratios[KERAS, OURS], ratios[BF16, OURS]
    for page in (STUDIED, SPEED):
        yield page, f"has {told(keras, 'errors')} and {told(keras, 'val/loss')} of ours in fp32"
        yield page, f"has {told(bf16, 'errors')} and {told(bf16, 'val/loss')} of fp32"
    yield STUDIED, f"{bf16['seconds/fit']} times the seconds"
    for page in (STUDIED, README):
        yield page, f"took {keras['seconds/fit']} times the seconds"
    for name, its in ((OURS, "the"), (KERAS, "its")):
        papers = ratios[name, "paper, 1xgpu"]
        yield STUDIED, f"has {told(papers, 'errors', its)} and {told(papers, 'val/loss', its)}"


def networks() -> Told:
    text = (NETWORKS / "report.md").read_text().split("## How does the network matter?")[1]
    header, line, *lines = rows(text)
    yield STUDIED, "\n".join([header, line, *(each for each in lines if "| 1xcpu," in each)])
    runs = read_runs([NETWORKS / "runs"])
    yield STUDIED, f"{len(runs)} runs, three seeds"
    assert "are told as at their machine's usual rate" in " ".join(text.split())
    found = [each for each in compared(Page(runs)) if each.title == "1xcpu, bf16" and each.batch_size == 128]
    assert {metric for each in found for metric in each.real} == {"seconds/fit"}
    seconds = {each.name: each.ratios["seconds/fit"].ratio for each in found if each.ratios}
    twice, half = ([each for name, each in seconds.items() if width in name] for width in ("[64, 128]", "[16, 32]"))
    took = f"Twice the width takes {min(twice):.2f} to {max(twice):.2f} times as long"
    yield STUDIED, f"{took}, half of it {min(half):.2f} to {max(half):.2f} times"


def other_programs() -> Told:
    lines = rows((INTEL / "benchmarks.md").read_text())
    ratios = [line for line in lines if line.startswith("| this project") and " / " in line]
    yield SPEED, "\n".join(ratios)
    *most, last = (cell.split()[0] for cell in cells(ratios[0])[1:])
    yield README, f"{', '.join(most)} and {last} times the images a second of Keras on TensorFlow"


@pytest.mark.parametrize("says", [first_rows, the_study, networks, other_programs])
def test_a_page_says_what_the_results_say(says):
    assert [text for page, text in says() if " ".join(text.split()) not in " ".join(page.split())] == []


@pytest.mark.parametrize("folder", [STUDY, NETWORKS])
def test_the_committed_reports_are_those_of_the_committed_runs(tmp_path, folder):
    runs = read_runs([folder / "runs"])
    write(tmp_path, runs)
    assert (tmp_path / "results.csv").read_text() == (folder / "results.csv").read_text()
    reports = [(each / "report.md").read_text().split("- Made by `") for each in (tmp_path, folder)]
    ours, committed = ([before, after.partition("\n")[2]] for before, after in reports)  # without the command
    assert ours == committed
    for kind in ("*.svg", "*.html"):
        assert {path.name for path in tmp_path.glob(kind)} == {path.name for path in folder.glob(kind)}
    assert {(run.summary["data"], run.summary["epochs"]) for run in runs} == {("mnist", 10)}
    assert len({run.summary["machine"]["code"] for run in runs if "program" not in run.summary}) == 1
    assert not Page(runs).table.left_out.any()


def test_the_first_screen_is_short():
    text = (STUDY / "report.md").read_text().partition("![")[0].partition("\n")[2]
    assert len([word for word in text.split() if re.search(r"\w", word)]) <= 180


def test_the_first_row_is_of_the_papers_experiment():
    assert SAME_CELL
    for path in SAME_CELL:
        record = json.loads(path.read_text())
        assert (record["setup"], record["batch_size"], record["epochs"], record["steps"]) == ("1xcpu", 128, 10, 4690)
        assert 0.9890 <= record["metrics"]["val/accuracy"] <= 0.9930
        config = yaml.safe_load(path.with_name("config.yaml").read_text())
        model = {name: tuple(value) if isinstance(value, list) else value for name, value in config["model"].items()}
        assert model | {"seed": 0} == dict(MNISTClassifier().hparams)
