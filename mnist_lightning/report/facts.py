"""The numbers and names that the template's sentences are of, and its tables, as rows of texts of which the first is the header."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import product
from typing import Any

import pandas as pd

from mnist_lightning import paper
from mnist_lightning.report.claims import judge
from mnist_lightning.report.columns import machines, values
from mnist_lightning.report.page import NOUNS, PAPER, TABLES, Network, Page, beside, brackets, lines
from mnist_lightning.report.stats import CELL, METRICS, TIME, Noise, at_usual_rate, cells

MISSING = "—"
Rows = list[list[str]]


def facts(page: Page, networks: list[Network]) -> dict[str, Any]:
    """All that the template tells, by name."""
    costs = lines(page)
    one, two = (costs[f"paper, {setup}"].params for setup in paper.SETUPS[1:])
    seconds, ends = PAPER["I"], (paper.BATCH_SIZES[0], paper.BATCH_SIZES[-1])
    judged = [judge(source) for source in page.sources]
    found: dict[str, Any] = {
        "refuted": listed(f"{own.text} ({told.split(';')[0]})" for own, (yes, told, _), _ in judged[0] if yes == 0),
        "step": f"{1e3 * (two.steps - one.steps):.1f} ms",
        "image": f"{100 * (1 - two.Intercept / one.Intercept):.0f} %",
        "slower": max(seconds.index[seconds["2xgpu"] > seconds["1xgpu"]]),
        "faster": brackets(page),
        "small": ends[0],
        "large": ends[1],
        "gpu": [f"{seconds['1xcpu'][size] / seconds['1xgpu'][size]:.2g}" for size in ends],
        "two": [f"{abs(100 * (seconds['2xgpu'][size] / seconds['1xgpu'][size] - 1)):.0f} %" for size in ends],
        "tables": {number: (table, main_table(page, number)) for number, table in TABLES.items()},
        "sources": page.sources,
        "claims": list(zip(*judged, strict=True)),
        "lines": _lines_table(costs),
        "noise": _noise(page.sources[0].noise),
        "alike": [column.name for column in page.alike],
        "metrics": METRICS,
        "networks": networks,
    }
    if page.runs:
        compared = {each.column for each in networks}
        power, adjusted = at_usual_rate(page.table)
        times = page.table[page.table.metric == TIME]
        found |= {
            "runs": len(page.runs),
            "counts": page.table.nunique(),
            "where": dict.fromkeys(
                f"{each['gpu'] + ' with ' if 'gpu' in each else ''}{plural(each['cores'], 'core')} of {each['processor']}"
                for each in (run.summary["machine"] for run in page.runs)
            ),
            "no_gpu": not any(column.setup.endswith("gpu") for column in page.columns),
            "two_processes": any(column.setup == "2xcpu" for column in page.columns),
            "legend": {each.name: each.legend for each in page.columns if each.legend and each.name not in compared},
            "own": _own_table(page, compared),
            "machines": _machines(page),
            "rate": power,
            "adjusted": adjusted.any(),
            "scatter": {column.name: _noise(page.scatter(column.name)) for column in page.columns},
            "left_out": times.left_out[times.left_out != ""].value_counts(),
        }
    if page.alike:
        ratios = beside(page)
        ours = {names: own for names, own in ratios.items() if not names[1].startswith("paper")}
        found |= {"beside": ratios, "ours": ours, "apart": _apart(page)}
        found["one_gpu"] = ratios.get((page.alike[0].name, "paper, 1xgpu"), {})
        for name, each in {"agrees": [found["one_gpu"]], "equal": ours.values()}.items():
            verdicts = [ratio.verdict for own in each for metric, ratio in own.items() if metric != TIME]
            found[name] = min(verdicts, key=("different", "cannot tell", "equal").index, default="equal")  # the worst
        noise, n = page.late["errors"], page.ran[page.alike[0].name].min()
        found["hidden"] = f"{100 * noise.seen(1 + 1 / n):.0f} %" if noise.freedom else ""
    return found


def listed(words: Iterable[object], last: str = "and") -> str:
    """Words with commas and an `and`."""
    texts = [str(word) for word in words]
    return f"{', '.join(texts[:-1])} {last} {texts[-1]}" if len(texts) > 1 else "".join(texts)


def plural(count: int, one: str) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def _noise(found: Mapping[str, Noise]) -> str:
    """How far runs scatter, by metric; empty if that is not known."""
    return listed(f"{NOUNS[metric]} {100 * noise.deviation:.1f} %" for metric, noise in found.items() if noise.freedom)


def _apart(page: Page) -> dict[str, object]:
    """The paper's cells that one late epoch of ours would give in one case of twenty at most."""
    count, found = 0, defaultdict[str, list[int]](list)
    for setup, metric in product(paper.SETUPS, METRICS[1:]):
        own = page.log[metric][page.alike[0].name].groupby("batch_size").agg(["mean", "size"])
        for size, log in (page.sources[0].tables[metric][setup] - own["mean"]).dropna().items():
            count += 1
            found[setup] += [size] * (page.late[metric].p(log, 1 + 1 / own["size"][size]) < 0.05)
    cells = listed(f"`{setup}` at {listed(sorted(set(sizes)))}" for setup, sizes in found.items() if sizes) or "none"
    return {"count": sum(map(len, found.values())), "all": count, "chance": f"{0.05 * count:.0f}", "cells": cells}


def _machines(page: Page) -> dict[str, str]:
    """Each machine with its software, and the rate that it was calibrated at, which is NaN if it was not."""
    of_the_run = {"precision": None, "load_before": None}
    rows = [{"name": name, **run.summary["machine"], **of_the_run} for run, name in machines(page.runs).items()]
    found, rates = {}, page.table.groupby("machine").rate
    for name, own in pd.DataFrame(rows, dtype=object).groupby("name"):
        items = [f"{item} {listed(each.dropna().unique(), 'or')}" for item, each in own.items() if each.notna().any()]
        low, middle, high = (rates.get_group(name).quantile(q) for q in (0, 0.5, 1))
        rate = f"fp32 {middle:.1f} GFLOP/s ({low:.1f} to {high:.1f})" if middle > 0 else "not calibrated"
        found[str(name)] = "; ".join([*items[1:], rate])
    return found


def main_table(page: Page, number: str) -> Rows:
    """Table I, II or III: ours beside the paper's. Ours are means with the 95 % interval of the mean."""
    shown, theirs, found = TABLES[number], PAPER[number], _cells(page, number) if page.log else {}
    names = [column.name for column in page.alike]
    ours = [f"{name} (n {page.ran[name].max()})" for name in names]
    rows = [["batch size", *(f"paper, {setup}" for setup in theirs), *ours]]
    for size in sorted({size for name, size in found if name in names}.union(theirs.index)):
        row = [f"{each[size]:{shown.theirs}}" if size in theirs.index else MISSING for _, each in theirs.items()]
        rows.append([str(size), *row, *(found.get((name, size), MISSING) for name in names)])
    return rows


def _own_table(page: Page, compared: Collection[str]) -> Rows:
    """The runs that are neither the paper's experiment nor one of several networks that are compared."""
    shown = {column.name for column in page.columns if column.unlike} - set(compared)
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
    found, out = cells(page.log[shown.metric]), page.table[page.table.left_out != ""].groupby(CELL).left_out.unique()
    for cell, ran in page.ran.items():
        why = f"left out: {', '.join(out[cell])}" if number == "I" and cell in out else ""
        texts[cell] = why or MISSING
        if cell in found.index:
            mean, *ends = (f"{each:{shown.ours}}" for each in shown.shown(found.loc[cell][["mean", "low", "high"]]))
            n, usual = found.n[cell], page.ran[cell[0]].max()
            notes = [text for text, wanted in ((f"n {n}", n != usual), (why, n < ran)) if wanted]
            told = f"{mean} [{', '.join(sorted(ends, key=float))}]" if "nan" not in ends else mean
            texts[cell] = f"{told} ({'; '.join(notes)})" if notes else told
    return texts


def _lines_table(found: Mapping[str, Any]) -> Rows:
    rows = [["", "ms a step", "µs an image", "scatter"]]
    for name, fit in found.items():
        costs = pd.concat([fit.params, fit.conf_int()], axis=1)
        step, *ends = 1e3 * costs.loc["steps"]
        image, *limits = 1e6 / (paper.EPOCHS * paper.TRAIN_IMAGES) * costs.loc["Intercept"]
        texts = f"{step:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]", f"{image:.1f} [{limits[0]:.1f}, {limits[1]:.1f}]"
        rows.append([name, *texts, f"{100 * fit.scale**0.5:.1f} %"])
    return rows
