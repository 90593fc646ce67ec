"""The numbers of report.md. The template report.md.jinja puts them into words."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from mnist_lightning import paper
from mnist_lightning.measure.load import BUSY
from mnist_lightning.report.claims import CLAIMS, PAPER, Tables, Verdict
from mnist_lightning.report.runs import Run
from mnist_lightning.report.seeds import cells, differences, half_width, scatter

MISSING = "—"
METRICS = {  # Table: metric, title, format
    "I": ("seconds/fit", "Seconds of 10 epochs", ".1f"),
    "II": ("val/accuracy", "Accuracy", ".4f"),
    "III": ("val/loss", "Loss", ".5f"),
}
PARTS = ["forward", "backward", "optimizer", "exchange", "data", "trainer"]  # of a step, as a run measures them
NAMED = 6  # runs that a caveat names
Grid = list[list[str]]  # the header, then the rows


def main_table(number: str, table: pd.DataFrame) -> Grid:
    """Table I, II or III: ours beside the paper's."""
    metric, _, form = METRICS[number]
    theirs = published(number)
    ours = cells(table, metric)
    columns = list(dict.fromkeys(table.column))
    rows = [
        [
            str(size),
            *(format(theirs[setup][size], form) if size in theirs.index else MISSING for setup in theirs),
            *(_cell(ours, column, size, form) for column in columns),
        ]
        for size in sorted({*theirs.index, *table.batch_size})
    ]
    return [["batch size", *(f"paper, {setup}" for setup in theirs), *columns], *rows]


def published(number: str) -> pd.DataFrame:
    """One of the paper's tables."""
    return {"I": PAPER.seconds, "II": PAPER.accuracy, "III": PAPER.loss}[number]


def _cell(ours: pd.DataFrame, column: str, size: int, form: str) -> str:
    """Mean, standard deviation and n of one cell."""
    if (column, size) not in ours.index:
        return MISSING
    cell = ours.loc[column, size]
    deviation = f" ± {cell['std']:{form}}" if cell["count"] > 1 else ""
    return f"{cell['mean']:{form}}{deviation} (n {cell['count']:.0f})"


def variants(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Groups of columns that differ only in the setup, by what they share, such as a precision."""
    shared = table.column.map(lambda column: column.partition(", ")[2])
    for variant in dict.fromkeys(shared):
        yield variant, table[shared == variant]


def claims(table: pd.DataFrame) -> Grid:
    """Each claim: what the paper's tables give, what ours do."""
    judged = {"the paper's tables": PAPER}
    for variant, group in variants(table):
        means = (_means(group, metric) for metric, _, _ in METRICS.values())
        judged[f"ours, {variant}" if variant else "ours"] = Tables(*means)
    rows = [
        [f"{claim.text} ({claim.place})", *(_verdict(claim.check(tables)) for tables in judged.values())]
        for claim in CLAIMS
    ]
    return [["claim", *judged], *rows]


def _means(group: pd.DataFrame, metric: str) -> pd.DataFrame:
    return group[group.metric == metric].pivot_table("value", "batch_size", "setup", sort=False).sort_index()


def _verdict(verdict: Verdict) -> str:
    if verdict.holds is None:
        return MISSING
    return f"{'**holds**' if verdict.holds else '**does not hold**'}, {verdict.cells} cells: {verdict.found}"


def real_differences(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Whether setups differ in accuracy and in loss by more than seeds do, a metric each."""
    found = []
    for number in ("II", "III"):
        metric, title, form = METRICS[number]
        known = scatter(table, metric)
        if known.empty:
            continue
        pairs, ours = [["difference, 95 % interval", *map(str, known.index)]], []
        for first, second in combinations(dict.fromkeys(table.column), 2):
            each = differences(table, first, second, metric)
            ours += each.real[each.half_width.notna()].tolist()
            if len(each):
                texts = each.apply(_difference, axis=1, form=form).reindex(known.index, fill_value=MISSING)
                pairs.append([f"{second} − {first}", *texts])
        theirs = published(number)
        judged = [
            abs(theirs[gpu][size] - theirs["1xcpu"][size]) > half_width(known, size, 1, 1)
            for gpu in ("1xgpu", "2xgpu")
            for size in theirs.index
            if size in known.index
        ]
        spread = [
            ["batch size", *map(str, known.index)],
            ["deviation", *(format(each, form) for each in known.deviation)],
            ["degrees of freedom", *map(str, known.freedom)],
        ]
        whose = {"Our setups": ours, "The paper's CPU and GPUs": judged}
        found.append({"title": title, "spread": spread, "pairs": pairs, "whose": whose})
    return found


def _difference(row: pd.Series, form: str) -> str:
    width = MISSING if pd.isna(row.half_width) else format(row.half_width, form)
    text = f"{row['mean']:+{form}} ± {width}"
    return f"**{text}**" if row.real else text


def step_parts(table: pd.DataFrame) -> pd.DataFrame:
    """Seconds of the parts of a step, as means over seeds: one row for each column and batch size, one column a part."""
    parts = table[table.metric.str.startswith("step/")]
    parts = parts.assign(metric=parts.metric.str.removeprefix("step/"))
    return parts.pivot_table("value", ["column", "batch_size"], "metric", sort=False).reindex(columns=PARTS)


def to_target(table: pd.DataFrame) -> pd.DataFrame:
    """Seconds to 99 % beside the seconds of the whole run and its median epoch, by column and batch size.

    Returns:
        `reached`, seconds or NaN if not all runs did, `count` of those that did, `runs`, `seconds` and `epoch`.
    """
    reached, fit, epoch = (cells(table, name) for name in ("seconds/to_99", "seconds/fit", "median/seconds/epoch"))
    count = reached["count"].reindex(fit.index, fill_value=0)
    means = {"reached": reached["mean"].reindex(fit.index).where(count == fit["count"]), "count": count}
    return pd.DataFrame({**means, "runs": fit["count"], "seconds": fit["mean"], "epoch": epoch["mean"]})


def machines(runs: Iterable[Run]) -> Grid:
    """What ran it, from the runs' own records: one column a machine. If runs on one machine differ, all values are listed."""
    found: dict[tuple[object, ...], dict[str, dict[str, None]]] = {}
    for run in runs:
        machine = run.summary["machine"]
        values = found.setdefault(tuple(machine.get(name) for name in ("processor", "cores", "gpu")), {})
        for name, value in machine.items():
            if name not in ("precision", "load_before"):
                values.setdefault(name, {})[str(value)] = None
    names = dict.fromkeys(name for values in found.values() for name in values)
    columns = [f"machine {number}" for number, _ in enumerate(found, 1)] if len(found) > 1 else ["machine"]
    rows = [[name, *(", ".join(values.get(name, [MISSING])) for values in found.values())] for name in names]
    return [["", *columns], *rows]


def caveats(runs: Sequence[Run]) -> list[str]:
    """What a reader must know before trusting a number."""
    lines, summaries = [], [run.summary for run in runs]
    if any(summary["data"] != "mnist" for summary in summaries):
        lines.append("- Some runs saw a sample of MNIST: they are not comparable with the paper's.")
    if runs and not any(summary["setup"].endswith("gpu") for summary in summaries):
        lines.append(
            "- No GPU ran: what the paper claims of one GPU and two is judged on one process and two of a CPU."
        )
    if other := sorted({summary["epochs"] for summary in summaries} - {paper.EPOCHS}):
        lines.append(f"- Some runs have {', '.join(map(str, other))} epochs, not the paper's {paper.EPOCHS}.")
    if busy := [run for run in runs if sum(run.summary.get("neighbours", {}).values()) > BUSY]:
        lines.append(
            f"- Other programs, or the host, took more than a quarter of a core while {len(busy)} of {len(runs)} runs "
            f"trained, whose times are not to be trusted: {_named(busy)}."
        )
    if resumed := [run for run in runs if run.summary.get("resumed")]:
        lines.append(
            f"- {len(resumed)} of {len(runs)} runs were interrupted and went on, whose times are no measurement: "
            f"{_named(resumed)}."
        )
    return lines


def _named(runs: Sequence[Run]) -> str:
    return "; ".join([run.name for run in runs[:NAMED]] + ["…"] * (len(runs) > NAMED))
