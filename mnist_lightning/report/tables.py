"""The tables of the report, as rows of texts; the first row is the header."""

from functools import lru_cache
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pandas as pd

from mnist_lightning import paper
from mnist_lightning.report.columns import values
from mnist_lightning.report.page import NOUNS, PAPER, TABLES, Page
from mnist_lightning.report.runs import TESTED
from mnist_lightning.report.stats import CELL, METRICS, Ratio, cells, compare, holm, over_sizes, to_reference
from mnist_lightning.report.step_time import Line, fit_line

MISSING = "—"
Rows = list[list[str]]


def main_table(page: Page, number: str) -> Rows:
    """Table I, II or III: ours beside the paper's. Ours are means with the 95 % interval of the mean."""
    theirs, names, found = PAPER[number], [column.name for column in page.alike], _cells(page, number)
    rows = [
        ["batch size", *(f"paper, {setup}" for setup in theirs), *(f"{name} (n {page.usual[name]})" for name in names)]
    ]
    for size in sorted({size for name, size in found if name in names}.union(theirs.index)):
        row = [
            f"{theirs[setup][size]:{TABLES[number].theirs}}" if size in theirs.index else MISSING for setup in theirs
        ]
        rows.append([str(size), *row, *(found.get((name, size), MISSING) for name in names)])
    return rows


def own_table(page: Page) -> Rows:
    """The runs that are neither the paper's experiment nor one of several networks that are compared."""
    compared = {each.column for each in networks(page)}
    shown = {column.name for column in page.columns if column.unlike} - compared
    speed = values(page.table, "median/images_per_second").groupby(CELL).median().map("{:,.0f}".format)
    found = [_cells(page, number) for number in TABLES]
    rows = [["runs", "batch size", "n", "images a second", *(table.title.lower() for table in TABLES.values())]]
    for cell, n in page.ran.items():
        if cell[0] in shown:
            rows.append([*map(str, (*cell, n)), speed.get(cell, MISSING), *(each[cell] for each in found)])
    return rows


def _cells(page: Page, number: str) -> dict[tuple[str, int], str]:
    """The cells of all columns as texts, by column and batch size."""
    shown, texts = TABLES[number], {}
    # The plain mean is told, or the geometric one of seconds, which may be adjusted; the interval is that of the logarithms.
    found, plain = cells(page.log[shown.logged]), values(page.table, shown.metric).groupby(CELL).mean()
    reasons = (
        page.table[page.table.left_out != ""].groupby(CELL).left_out.unique().map(", ".join) if number == "I" else {}
    )
    for cell, ran in page.ran.items():
        texts[cell] = f"left out: {reasons[cell]}" if cell in reasons else MISSING
        if cell in found.index:
            mean, *ends, n = found.loc[cell]
            mean, ends = (mean, ends) if number == "I" else (plain[cell], ends)
            low, high = (1 - end / TESTED for end in reversed(ends)) if number == "II" else ends
            told = f"{mean:{shown.ours}}" + ("" if np.isnan(low) else f" [{low:{shown.ours}}, {high:{shown.ours}}]")
            why = f"; left out: {reasons[cell]}" if cell in reasons and n < ran else ""
            texts[cell] = f"{told} (n {n:.0f}{why})" if why or n != page.usual[cell[0]] else told
    return texts


@lru_cache(maxsize=1)  # tables, sentences and figures ask for it
def beside(page: Page) -> list[tuple[str, str, dict[str, Ratio]]]:
    """Two columns and the ratios of the first to the second, by metric: each of ours over the paper's setups, on average over the
    batch sizes; and each of ours over the one before it that differs from it in the fewest things, seed by seed."""
    found = []
    for column in page.alike:
        means = {metric: page.log[metric][column.name].groupby("batch_size").mean() for metric in METRICS[1:]}
        for setup in paper.SETUPS:
            apart = {metric: (own - page.sources[0].tables[metric][setup]).dropna() for metric, own in means.items()}
            found.append(
                (column.name, f"paper, {setup}", {m: over_sizes(each) for m, each in apart.items() if len(each)})
            )
    for place, column in enumerate(page.alike[1:], 1):
        other = min(page.alike[:place], key=lambda each: sum(a != b for a, b in zip(each[1:], column[1:], strict=True)))
        ratios = {metric: compare(log, other.name, column.name) for metric, log in page.log.items()}
        found.append((column.name, other.name, {metric: ratio for metric, ratio in ratios.items() if ratio}))
    return [(column, other, ratios) for column, other, ratios in found if ratios]


def beside_table(page: Page) -> Rows:
    rows = [["", "seconds", "errors", "", "loss", ""]]
    for column, other, ratios in beside(page):
        texts = [(ratios[m].told(), ratios[m].verdict) if m in ratios else (MISSING, "") for m in METRICS]
        rows.append([f"{column} / {other}", texts[0][0], *texts[1], *texts[2]])
    return rows


@lru_cache(maxsize=1)  # tables, sentences and figures ask for it
def lines(page: Page) -> dict[str, Line]:
    """What steps and images cost, by column: the paper's whole runs, and ours without validation."""
    found = {f"paper, {setup}": fit_line(paper.STEPS, seconds) for setup, seconds in paper.SECONDS.items()}
    seconds, steps = (values(page.table, name).groupby(CELL).mean() for name in ("seconds/train", "steps"))
    for column in page.alike:
        own = seconds[seconds.index.get_level_values(0) == column.name]
        if len(own) > 2:
            found[column.name] = fit_line(list(steps[own.index]), list(own))
    return found


def lines_table(page: Page) -> Rows:
    rows = [["", "ms a step", "µs an image", "scatter"]]
    for name, line in lines(page).items():
        step, *ends = (1e3 * each for each in (line.per_step, *line.per_step_ends))
        image, *limits = (1e6 * each / paper.EPOCHS / paper.TRAIN_IMAGES for each in (line.fixed, *line.fixed_ends))
        texts = f"{step:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]", f"{image:.1f} [{limits[0]:.1f}, {limits[1]:.1f}]"
        rows.append([name, *texts, f"{100 * line.scatter:.1f} %"])
    return rows


def changes(page: Page) -> dict[tuple[str, str], pd.Series]:
    """Seconds that two devices took more than one, by batch size: the paper's, and those of our columns that differ in nothing
    else. The keys are the names of one and of two."""
    found = {("paper, 1xgpu", "paper, 2xgpu"): PAPER["I"]["2xgpu"] - PAPER["I"]["1xgpu"]}
    own = np.exp(page.log["seconds/fit"]).groupby(CELL).mean()
    for one, two in product(page.alike, page.alike):
        both = {one.name, two.name} <= set(own.index.get_level_values(0))
        if both and ("1x", one.setup[2:], *one[2:]) == (one.setup[:2], two.setup[2:], *two[2:]) and two.setup[0] == "2":
            found[one.name, two.name] = (own[two.name] - own[one.name]).dropna()
    return {names: each for names, each in found.items() if len(each)}


def between(more: pd.Series) -> list[str]:
    """The neighbouring batch sizes between which such a difference changes its sign."""
    return [f"between {low} and {high}" for low, high in pairwise(more.index) if (more[low] > 0) != (more[high] > 0)]


class Network(NamedTuple):
    """A network on a setup at a batch size: its ratios to the reference, by metric, and which of them go beyond noise."""

    name: str
    title: str
    batch_size: int
    parameters: int
    n: int
    column: str
    ratios: dict[str, Ratio]
    real: list[str]


@lru_cache(maxsize=1)  # tables, sentences and figures ask for it
def networks(page: Page) -> list[Network]:
    """Each network over the paper's, or over the first one, wherever there are several that differ in nothing else."""
    parameters, found = values(page.table, "parameters").groupby(CELL).first(), []
    for (title, size), group in page.table.drop_duplicates(CELL).groupby(["title", "batch_size"], sort=False):
        names = dict(zip(group.column, group.network, strict=True))
        if len(names) < 2:
            continue
        reference = min(names, key=lambda column: len(names[column]))
        rows = {m: log[[c in names and s == size for c, s, _ in log.index]] for m, log in page.log.items()}
        compared = {metric: to_reference(log, reference) for metric, log in rows.items()}
        for column in sorted(names, key=lambda column: parameters[column, size]):
            own = {metric: each[column] for metric, each in compared.items() if column in each}
            told = names[column] or "the paper's", title, int(size), int(parameters[column, size])
            found.append((told, int(page.ran[column, size]), column, own))
    corrected = iter(holm([p for *_, own in found for _, p in own.values()]))
    real = [[metric for metric in own if next(corrected) < 0.05] for *_, own in found]
    return [
        Network(*told, n, column, {metric: ratio for metric, (ratio, _) in own.items()}, each)
        for (told, n, column, own), each in zip(found, real, strict=True)
    ]


def networks_table(page: Page) -> Rows:
    rows = [["network", "on", "batch size", "parameters", "n", *NOUNS.values()]]
    for each in networks(page):
        texts = [each.ratios[metric].told() if metric in each.ratios else "1" for metric in METRICS]
        bold = [f"**{text}**" if metric in each.real else text for metric, text in zip(METRICS, texts, strict=True)]
        rows.append([each.name, each.title, str(each.batch_size), f"{each.parameters:,}", str(each.n), *bold])
    return rows
