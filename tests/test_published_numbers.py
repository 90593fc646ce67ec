"""Every number in README and docs is that of the files in `results/`."""

import json
import math
import re
import statistics
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT
from scipy.special import stdtrit
from test_readme import README, SPEED, STUDIED

from mnist_lightning import paper
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.report.columns import left_out, machines
from mnist_lightning.report.page import make_page
from mnist_lightning.report.runs import read_runs
from mnist_lightning.report.writing import FIGURES, write

RESULTS = PROJECT / "results" / "amd-epyc-2-cores"
STUDY = PROJECT / "results" / "amd-epyc-family-25-model-17-2-cores" / "study"
OTHER = PROJECT / "results" / "amd-epyc-family-26-2-cores" / "study"
NETWORKS = PROJECT / "results" / "intel-xeon-family-6-model-167-2-cores" / "architecture"
SAME_CELL = sorted((STUDY / "runs/fp32/1xcpu/batch_size=0128").glob("seed=*/version_0/summary.json"))


WAYS = {
    "plain": "fp32, nothing compiled",
    "fp32": "fp32, as by default",
    "bf16": "bf16 (`configs/fast.yaml`)",
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table(name: str) -> dict[tuple[int, str], str]:
    """What a table of the study's report says, by batch size and column."""
    text = (STUDY / "report.md").read_text().split(f". {name}\n")[1].split("\n## ")[0]
    header, _, *rows = [cells(line) for line in text.splitlines() if line.startswith("|")]
    return {(int(row[0]), column): cell for row in rows for column, cell in zip(header[1:], row[1:], strict=True)}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_first_rows_are_those_of_the_report(precision):
    row = next(line for line in README.splitlines() if line.startswith(f"| this project, `1xcpu`, {precision}"))
    of = 128, f"1xcpu, {precision} (n 3)"
    measured = [table(name)[of] for name in ("Seconds of 10 epochs", "Loss", "Accuracy")]
    assert cells(row)[1:] == [*measured, cells(row)[4], "3"]


def test_the_first_row_tells_what_ran():
    row = next(line for line in README.splitlines() if line.startswith("| this project, `1xcpu`, fp32"))
    assert len(SAME_CELL) == 3
    for path in SAME_CELL:
        record = json.loads(path.read_text())
        assert (record["setup"], record["batch_size"], record["epochs"], record["steps"]) == ("1xcpu", 128, 10, 4690)
        assert (record["data"], record["train_images"], record["test_images"]) == ("mnist", 60_000, 10_000)
        machine = record["machine"]
        assert machine["precision"] == "32-true"
        told = f"{machine['cores']} cores of an {machine['processor']}, family {machine['family']}"
        assert f"{told}, torch {machine['torch']}" in row
        start = "python -m mnist_lightning fit --config configs/1xcpu.yaml --data.source mnist"
        assert record["command"].startswith(start)
        config = yaml.safe_load(path.with_name("config.yaml").read_text())
        model = {name: tuple(value) if isinstance(value, list) else value for name, value in config["model"].items()}
        assert model | {"seed": record["seed"]} == {**MNISTClassifier().hparams, "seed": record["seed"]}


def test_the_recorded_runs_learned_what_the_paper_did():
    for path in SAME_CELL:
        metrics = json.loads(path.read_text())["metrics"]
        assert 0.9890 <= metrics["val/accuracy"] <= 0.9930
        assert 0.0240 <= metrics["val/loss"] <= 0.0310


def records(name: str) -> list[dict]:
    """The recorded runs of one way to train, by seed."""
    paths = sorted(RESULTS.glob(f"same-mathematics/{name}-seed=*.json"))
    return [json.loads(path.read_text()) for path in paths]


def evidence(name: str, label: str) -> str:
    """The README's row of one way to train: its runs, and how far their mean is from that of plain training.

    The interval is Student's, the variance between seeds pooled over the three ways.
    """
    row = [label, ", ".join(str(record["seed"]) for record in records(name))]
    for metric, form in (("val/accuracy", ".4f"), ("val/loss", ".5f")):
        values = {way: [record["metrics"][metric] for record in records(way)] for way in WAYS}
        freedom = sum(len(each) - 1 for each in values.values())
        squares = sum(statistics.variance(each) * (len(each) - 1) for each in values.values())
        half = stdtrit(freedom, 0.975) * math.sqrt(
            squares / freedom * (1 / len(values[name]) + 1 / len(values["plain"]))
        )
        difference = statistics.fmean(values[name]) - statistics.fmean(values["plain"])
        row.append(", ".join(format(value, form) for value in values[name]))
        row.append("" if name == "plain" else f"{difference:+{form}} ± {half:{form}}")
    return f"| {' | '.join(row)} |"


def test_the_rows_of_the_three_ways_to_train_are_their_records():
    lines = SPEED.splitlines()
    for name, label in WAYS.items():
        found = {(r["setup"], r["batch_size"], r["epochs"], r["data"]) for r in records(name)}
        assert found == {("1xcpu", 128, 10, "mnist")}
        assert evidence(name, label) in lines


def test_the_minutes_of_the_study_are_those_of_its_runs():
    seconds = defaultdict(float)
    for run in read_runs([STUDY / "runs"]):
        seconds[run.summary["machine"]["precision"]] += run.summary["metrics"]["seconds/fit"]
        seconds[run.summary["machine"]["precision"], run.summary["setup"]] += run.summary["metrics"]["seconds/fit"]
    text = " ".join(STUDIED.split())
    minutes = [round(seconds[precision] / 60) for precision in ("32-true", "bf16-mixed")]
    assert f"in {minutes[0]} minutes in fp32 and {minutes[1]} in bf16" in text
    one_seed = round(seconds["bf16-mixed", "1xcpu"] / 3 / 60)
    assert f"takes {one_seed} minutes for each seed of `1xcpu` in bf16" in text


def test_the_cost_of_a_second_process_is_that_of_the_step_table():
    rows = [
        cells(line)
        for line in (STUDY / "report.md")
        .read_text()
        .split("## Where a step's time goes")[1]
        .split("![")[0]
        .splitlines()
        if line.startswith("|")
    ]
    one, two = (
        dict(zip(rows[0], row, strict=True)) for row in rows if row[0].endswith("xcpu, bf16") and row[1] == "32"
    )
    more = {part: float(two[part]) - float(one[part]) for part in one if part not in ("setup", "batch size")}
    text = " ".join(SPEED.split())
    assert f"a step takes {float(two['a step']):.1f} ms instead of {float(one['a step']):.1f}" in text
    assert (
        f"{more['exchange']:.1f} ms more is the exchange of 4.8 MB of gradients, {more['backward']:.1f} the backward pass, "
        f"which DDP's hooks and copies are part of, {more['trainer']:.1f} the trainer, {more['forward']:.1f} the forward "
        f"pass and {more['optimizer']:.1f} Adadelta"
    ) in text


def test_the_losses_of_both_precisions_are_those_of_the_report():
    fp32, bf16 = (table("Loss")[128, f"1xcpu, {precision} (n 3)"] for precision in ("fp32", "bf16"))
    assert f"have a mean loss of {fp32} in fp32 and of {bf16} in bf16" in " ".join(SPEED.split())


@pytest.mark.parametrize(("folder", "without"), [(STUDY, {"networks"}), (OTHER, {"networks"}), (NETWORKS, set())])
def test_the_committed_reports_are_those_of_the_committed_runs(tmp_path, folder, without):
    runs = read_runs([folder / "runs"])
    write(tmp_path, runs)
    assert (tmp_path / "results.csv").read_text() == (folder / "results.csv").read_text()
    # One line tells the command.
    ours, committed = (
        [line for line in (each / "report.md").read_text().splitlines() if not line.startswith("- Made by")]
        for each in (tmp_path, folder)
    )
    assert ours == committed
    assert "summary" in (folder / "report.html").read_text()
    for name in FIGURES.keys() - without:
        assert (folder / f"{name}.svg").exists() and (folder / f"{name}.png").exists()
    assert {(run.summary["data"], run.summary["epochs"]) for run in runs} == {("mnist", 10)}
    assert set(machines(runs).values()) == {1}
    assert len({run.summary["machine"]["code"] for run in runs}) == 1


@pytest.mark.parametrize("folder", [STUDY, OTHER])
def test_no_run_of_the_study_is_left_out(folder):
    assert not left_out(read_runs([folder / "runs"]))


def cells_of(folder: Path) -> dict[tuple[str, str, int, int], dict[str, float]]:
    """The metrics of the runs below a folder, by setup, precision, batch size and seed."""
    summaries = [run.summary for run in read_runs([folder / "runs"])]
    return {
        (summary["setup"], summary["machine"]["precision"], summary["batch_size"], summary["seed"]): summary["metrics"]
        for summary in summaries
    }


def geometric_mean(ratios: list[float], form: str) -> str:
    """The mean of ratios with Student's 95 % interval, as the pages write it."""
    logs = [math.log(ratio) for ratio in ratios]
    half = stdtrit(len(logs) - 1, 0.975) * statistics.stdev(logs) / math.sqrt(len(logs))
    ratio, low, high = (math.exp(statistics.fmean(logs) + each) for each in (0, -half, half))
    return f"{ratio:{form}} [{low:{form}}, {high:{form}}]"


COLUMNS = ("1xcpu", "32-true"), ("1xcpu", "bf16-mixed"), ("2xcpu", "bf16-mixed")


def test_the_study_ran_three_seeds_in_each_cell_by_one_commit():
    assert cells_of(STUDY).keys() == {
        (*column, size, seed) for column in COLUMNS for size in paper.BATCH_SIZES for seed in (0, 1, 2)
    }
    assert len({run.summary["machine"]["commit"] for run in read_runs([STUDY / "runs"])}) == 1


def test_what_agrees_with_the_paper_is_what_the_report_says():
    lines = (STUDY / "report.md").read_text().splitlines()
    agreeing = next(line for line in lines if line.startswith("| 1xcpu, fp32 | "))
    cpu, one, two = (cell.split(";")[0] for cell in cells(agreeing)[1:4])
    text = " ".join(STUDIED.split())
    assert f"one GPU in {one} cells, with its two GPUs in {two} and with its CPU in {cpu}." in text
    assert f"[{one} cells]" in README


@pytest.mark.parametrize("folder", [STUDY, OTHER])
def test_the_third_sentence_adds_up_the_cells_that_agree(folder):
    lines = (folder / "report.md").read_text().splitlines()
    rows = [cells(line) for line in lines if re.match(r"\| [12]xcpu, (bf16|fp32) \| \d+ of \d+", line)]

    def added(place: int) -> str:
        counts = [row[place].split(";")[0].split(" of ") for row in rows]
        return f"{sum(int(count) for count, _ in counts)} of {sum(int(of) for _, of in counts)}"

    assert f"columns, {added(1)} cells agree with the paper's CPU, and {added(3)} with its two GPUs." in lines[4]


def test_both_processors_made_the_same_runs():
    here, there = cells_of(STUDY), cells_of(OTHER)
    assert f"All {len(there)} runs have the same accuracy and loss" in STUDIED and f"in all {len(there)} runs" in README
    for cell, metrics in there.items():
        for metric in ("val/accuracy", "val/loss"):
            assert metrics[metric] == here[cell][metric]
    fp32, bf16, two = (
        geometric_mean(
            [there[cell]["seconds/fit"] / here[cell]["seconds/fit"] for cell in there if cell[:2] == column], ".2f"
        )
        for column in COLUMNS
    )
    told = f"It took {fp32} times the seconds in fp32, {bf16} times in bf16 and {two} times with two processes in bf16"
    assert told in " ".join(STUDIED.split())


@pytest.mark.parametrize("what", ["errors", "loss"])
def test_bf16_costs_what_the_docs_say(what):
    """The geometric mean over pairs of one batch size and seed."""
    runs = cells_of(STUDY)
    of = {"errors": lambda metrics: 1 - metrics["val/accuracy"], "loss": lambda metrics: metrics["val/loss"]}[what]
    ratios = [
        of(runs["1xcpu", "bf16-mixed", size, seed]) / of(metrics)
        for (_, precision, size, seed), metrics in runs.items()
        if precision == "32-true"
    ]
    assert len(ratios) == 21
    told = f"{geometric_mean(ratios, '.3f')} times the {what}"
    assert told in " ".join(STUDIED.split())
    assert what == "errors" or told in " ".join(SPEED.split())


def test_every_network_ran_with_three_seeds():
    seeds = defaultdict(set)
    for run in read_runs([NETWORKS / "runs"]):
        network = json.dumps([run.settings[f"model.{name}"] for name in ("channels", "hidden")])
        seeds[run.summary["setup"], run.summary["batch_size"], network].add(run.summary["seed"])
    assert len(seeds) == 10 + 3 * 3 and set(map(frozenset, seeds.values())) == {frozenset({0, 1, 2})}


def test_what_is_said_of_networks_is_what_their_report_says():
    part = STUDIED.split("## How the network matters")[1].split("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    report = (NETWORKS / "report.md").read_text().split("## How does the network matter?")[1]
    by_setting, gains = (report.split(f"**{title}")[1].split("\n\n")[1] for title in ("Each setting", "Does the gain"))
    assert rows == [line.strip() for line in [*by_setting.splitlines(), *gains.splitlines()]]
    runs = read_runs([NETWORKS / "runs"])
    (grid,) = (each for each in make_page(runs).effects if each)
    errors = {each.value: each.ratios["errors"] for each in grid}
    ends = [
        end
        for value in ("[16, 32]", "[64, 128]")
        for end in errors[f"channels {value} instead of channels [32, 64]"].interval()
    ]
    percent = f"{max(abs(end - 1) for end in ends):.0%}".replace("%", " %")
    text = " ".join(part.split())
    assert f"change the errors by {percent} at most" in text
    assert f"change the errors by {percent} at most" in README
    rates = [moment["fp32_gflops"] for run in runs for moment in run.summary["calibration"].values()]
    assert f"{len(runs)} runs" in text and f"the times of {len(left_out(runs))} runs are left out" in text
    assert f"from {min(rates):.0f} to {max(rates):.0f} GFLOP/s in fp32" in text


def test_the_committed_report_is_short():
    shown = re.sub(r"<details>.*?</details>", "", (STUDY / "report.md").read_text(), flags=re.DOTALL)
    words = re.findall(r"[A-Za-z]{2,}", shown)
    assert 800 < len(words) < 1500


def test_the_tables_are_those_of_the_report():
    tables = STUDIED.split("<!-- tables: from the report below -->")[1].split("<!-- end of tables -->")[0]
    rows = [line for line in tables.splitlines() if line.startswith("|")]
    report = (STUDY / "report.md").read_text()
    main = report.split("## Table I.")[1].split("## What the paper claims")[0]
    assert rows == [line for line in main.splitlines() if line.startswith("|")]
    assert len(rows) == 3 * (2 + 7)
