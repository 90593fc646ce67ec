"""Every number in README and docs is that of the files in `results/`."""

import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT
from scipy.special import stdtrit
from test_readme import README, SPEED, STUDIED

from mnist_lightning import paper
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.report.columns import left_out, machines, tidy
from mnist_lightning.report.page import Page
from mnist_lightning.report.runs import read_runs
from mnist_lightning.report.stats import at_usual_rate
from mnist_lightning.report.tables import beside
from mnist_lightning.report.tables import networks as compared
from mnist_lightning.report.writing import write
from mnist_lightning.runs.summary import closing_table

RESULTS = PROJECT / "results"
FAMILY_25 = RESULTS / "amd-epyc-family-25-model-17-2-cores"
STUDY, OTHER = FAMILY_25 / "study", RESULTS / "amd-epyc-family-26-2-cores" / "study"
INTEL = RESULTS / "intel-xeon-family-6-model-167-2-cores"
NETWORKS = INTEL / "architecture"
SAME_CELL = sorted((STUDY / "runs/fp32/1xcpu/batch_size=0128").glob("seed=*/version_0/summary.json"))
WAYS = {"plain": "fp32, nothing compiled", "fp32": "fp32, as by default", "bf16": "bf16 (`configs/fast.yaml`)"}


def rows(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("|")]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table(name: str) -> dict[tuple[str, str], str]:
    """What a table of the study's report says, by batch size and column."""
    header, _, *lines = map(cells, rows((STUDY / "report.md").read_text().split(f". {name}\n")[1].split("\n## ")[0]))
    return {(row[0], column): cell for row in lines for column, cell in zip(header[1:], row[1:], strict=True)}


def metrics(folder: Path) -> dict[tuple[str, str, int, int], dict[str, float]]:
    """The metrics of the runs below a folder, by setup, precision, batch size and seed."""
    summaries = [run.summary for run in read_runs([folder / "runs"])]
    return {(s["setup"], s["machine"]["precision"], s["batch_size"], s["seed"]): s["metrics"] for s in summaries}


def geometric_mean(ratios: list[float], form: str) -> str:
    """The mean of ratios with Student's 95 % interval, as the pages write it."""
    logs = [math.log(ratio) for ratio in ratios]
    half = stdtrit(len(logs) - 1, 0.975) * statistics.stdev(logs) / math.sqrt(len(logs))
    ratio, low, high = (math.exp(statistics.fmean(logs) + each) for each in (0, -half, half))
    return f"{ratio:{form}} [{low:{form}}, {high:{form}}]"


# What the pages say, by the function that works it out of the results. Each gives pages and texts.
Told = Iterator[tuple[str, str]]


def first_rows() -> Told:
    ran = json.loads(SAME_CELL[0].read_text())["machine"]
    told = f"{ran['cores']} cores of an {ran['processor']}, family {ran['family']}, torch {ran['torch']}"
    names = "Seconds", "Loss", "Accuracy"
    for precision, ran_on in (("fp32", told), ("bf16", "the same, `configs/fast.yaml`")):
        ours = [table(name)["128", f"1xcpu, {precision} (n 3)"] for name in names]
        yield README, f"| this project, `1xcpu`, {precision} | {' | '.join(ours)} | {ran_on} | 3 |"
    (shown,) = re.findall(r"ends with\n\n```\n(.*?)```", README, re.DOTALL)
    assert shown.rstrip() in closing_table(json.loads(SAME_CELL[0].read_text()), None)
    theirs = (each["1xcpu"][paper.BATCH_SIZES.index(128)] for each in (paper.SECONDS, paper.LOSS, paper.ACCURACY))
    yield README, "| the paper, CPU | {:.2f} | {:.5f} | {:.4f} |".format(*theirs)


def same_mathematics() -> Told:
    """Each way to train, and how far its mean is from that of plain training: Student's interval, the variance between seeds
    pooled over the three ways."""
    paths = {way: sorted(RESULTS.glob(f"amd-epyc-2-cores/same-mathematics/{way}-seed=*.json")) for way in WAYS}
    records = {way: [json.loads(path.read_text()) for path in each] for way, each in paths.items()}
    found = {name: [label, ", ".join(str(each["seed"]) for each in records[name])] for name, label in WAYS.items()}
    for metric, form in (("val/accuracy", ".4f"), ("val/loss", ".5f")):
        values = {way: [each["metrics"][metric] for each in records[way]] for way in WAYS}
        freedom = sum(len(each) - 1 for each in values.values())
        pooled = sum(statistics.variance(each) * (len(each) - 1) for each in values.values()) / freedom
        for name, row in found.items():
            half = stdtrit(freedom, 0.975) * math.sqrt(pooled * (1 / len(values[name]) + 1 / len(values["plain"])))
            difference = statistics.fmean(values[name]) - statistics.fmean(values["plain"])
            told = "" if name == "plain" else f"{difference:+{form}} ± {half:{form}}"
            row += [", ".join(format(value, form) for value in values[name]), told]
    yield from ((SPEED, f"| {' | '.join(row)} |") for row in found.values())


def the_study() -> Told:
    report = (STUDY / "report.md").read_text()
    main = report.split("## Table I.")[1].split("## What the paper claims")[0]
    yield from ((STUDIED, "\n".join(rows(part))) for part in main.split("## Table"))
    seconds = defaultdict[object, float](float)
    for (setup, precision, _, _), each in metrics(STUDY).items():
        seconds[precision] += each["seconds/fit"]
        seconds[setup, precision] += each["seconds/fit"]
    minutes = [f"{seconds[each] / 60:.0f}" for each in ("32-true", "bf16-mixed")]
    yield STUDIED, "in {} minutes in fp32 and {} in bf16".format(*minutes)
    yield STUDIED, f"takes {seconds['1xcpu', 'bf16-mixed'] / 3 / 60:.0f} minutes for each seed of `1xcpu` in bf16"
    losses = (table("Loss")["128", f"1xcpu, {precision} (n 3)"] for precision in ("fp32", "bf16"))
    yield SPEED, "have a mean loss of {} in fp32 and of {} in bf16".format(*losses)
    ratios = {each[:2]: each[2] for each in beside(Page(read_runs([STUDY / "runs"])))}
    papers, bf16 = ratios["1xcpu, fp32", "paper, 1xgpu"], ratios["1xcpu, bf16", "1xcpu, fp32"]
    errors, loss = papers["errors"].told(), papers["val/loss"].told()
    yield STUDIED, f"has {errors} times the errors of the paper's one GPU and {loss} times its loss"
    assert {each.verdict for each in papers.values()} == {"cannot tell"}
    errors, loss, seconds = (bf16[metric].told() for metric in ("errors", "val/loss", "seconds/fit"))
    yield (
        STUDIED,
        f"bf16 has {errors} times the errors and {loss} times the loss of fp32, and {seconds} times the seconds",
    )
    assert {bf16[metric].verdict for metric in ("errors", "val/loss")} == {"equal"}
    yield SPEED, f"{loss} times the loss"


def other_processor() -> Told:
    here, there = metrics(STUDY), metrics(OTHER)
    for cell, name in product(there, ("val/accuracy", "val/loss")):
        assert here[cell][name] == there[cell][name]
    yield STUDIED, f"All {len(there)} runs have the same accuracy and loss"
    times = {cell: there[cell]["seconds/fit"] / here[cell]["seconds/fit"] for cell in there}
    columns = ("1xcpu", "32-true"), ("1xcpu", "bf16-mixed")
    fp32, bf16 = (geometric_mean([times[c] for c in there if c[:2] == each], ".2f") for each in columns)
    yield STUDIED, f"It took {fp32} times the seconds in fp32 and {bf16} times in bf16"
    two = (geometric_mean([times[c] for c in there if (c[0], c[2]) == ("2xcpu", size)], ".2f") for size in (32, 2048))
    least, most = (each.split()[0] for each in two)
    yield STUDIED, f"from {least} times at batch size 32 to {most} times at 2048"


def networks() -> Told:
    text = (NETWORKS / "report.md").read_text().split("## How does the network matter?")[1]
    header, line, *lines = rows(text)
    yield STUDIED, "\n".join([header, line, *(each for each in lines if "| 1xcpu," in each)])
    runs = read_runs([NETWORKS / "runs"])
    rates = [moment["fp32_gflops"] for run in runs for moment in run.summary["calibration"].values()]
    yield STUDIED, f"{len(runs)} runs, three seeds"
    yield STUDIED, f"from {min(rates):.0f} to {max(rates):.0f} GFLOP/s in fp32"
    power, _ = at_usual_rate(tidy(runs))
    assert power.high < 0 and "are told as at its machine's usual rate" in text
    found = [each for each in compared(Page(runs)) if each.title == "1xcpu, bf16" and each.batch_size == 128]
    assert {metric for each in found for metric in each.real} == {"seconds/fit"}
    best = min(found, key=lambda each: each.ratios["errors"].ratio if each.ratios else 1.0)
    assert best.name == "channels [16, 32], hidden 256" and best.ratios["seconds/fit"].high < 1


def other_programs() -> Told:
    lines = rows((INTEL / "benchmarks.md").read_text())
    ratios = [line for line in lines if line.startswith("| this project") and " / " in line]
    yield SPEED, "\n".join(ratios)
    *most, last = (cell.split()[0] for cell in cells(ratios[0])[1:])
    yield README, f"{', '.join(most)} and {last} times the images a second of Keras on TensorFlow"


@pytest.mark.parametrize("told", [first_rows, same_mathematics, the_study, other_processor, networks, other_programs])
def test_a_page_says_what_the_results_say(told):
    assert [text for page, text in told() if " ".join(text.split()) not in " ".join(page.split())] == []


@pytest.mark.parametrize("folder", [STUDY, OTHER, NETWORKS])
def test_the_committed_reports_are_those_of_the_committed_runs(tmp_path, folder):
    runs = read_runs([folder / "runs"])
    write(tmp_path, runs)
    assert (tmp_path / "results.csv").read_text() == (folder / "results.csv").read_text()
    reports = [(each / "report.md").read_text().split("- Made by `") for each in (tmp_path, folder)]
    ours, committed = ([before, after.partition("\n")[2]] for before, after in reports)  # without the command
    assert ours == committed
    for kind in ("*.svg", "*.png", "*.html"):
        assert {path.name for path in tmp_path.glob(kind)} == {path.name for path in folder.glob(kind)}
    assert {(run.summary["data"], run.summary["epochs"]) for run in runs} == {("mnist", 10)}
    assert len(set(machines(runs).values())) == len({run.summary["machine"]["code"] for run in runs}) == 1
    assert not left_out(runs)


def test_the_first_row_is_of_the_papers_experiment():
    assert len(SAME_CELL) == 3
    for path in SAME_CELL:
        record = json.loads(path.read_text())
        assert (record["setup"], record["batch_size"], record["epochs"], record["steps"]) == ("1xcpu", 128, 10, 4690)
        assert 0.9890 <= record["metrics"]["val/accuracy"] <= 0.9930
        config = yaml.safe_load(path.with_name("config.yaml").read_text())
        model = {name: tuple(value) if isinstance(value, list) else value for name, value in config["model"].items()}
        assert model | {"seed": 0} == dict(MNISTClassifier().hparams)
