"""What report.md says: the numbers that its template, report.md.jinja, puts into words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from mnist_lightning import paper
from mnist_lightning.measure.load import BUSY
from mnist_lightning.report.claims import CLAIMS, PAPER, Tables, Verdict
from mnist_lightning.report.runs import Run
from mnist_lightning.report.seeds import cells, differences, half_width, scatter
from mnist_lightning.report.step_time import Line, Overlap, crossover, crossover_interval, fit_line, fit_overlap

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
    """Columns that differ in the setup alone, under what they share, such as a precision."""
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


@dataclass(frozen=True)
class Fitted:
    """A column of the paper or ours with its fits; `group` is what it may be compared within."""

    label: str
    setup: str
    group: str
    steps: list[float]
    seconds: list[float]
    images: int
    line: Line
    overlap: Overlap | None

    @property
    def per_image(self) -> float:
        """Microseconds."""
        return 1e6 * self.line.fixed / self.images


def fitted(table: pd.DataFrame) -> list[Fitted]:
    """The fits of the paper's setups and of ours; a column of fewer than three batch sizes has none."""
    images = paper.EPOCHS * paper.TRAIN_IMAGES
    steps = [float(paper.EPOCHS * -(-paper.TRAIN_IMAGES // size)) for size in paper.BATCH_SIZES]
    columns = [
        (f"paper, {setup}", setup, "the paper", steps, list(map(float, seconds)), images)
        for setup, seconds in paper.SECONDS.items()
    ]
    for variant, group in variants(table):
        title = f"ours, {variant}" if variant else "ours"
        means = group.pivot_table("value", ["setup", "column", "batch_size"], "metric", sort=False)
        for (setup, column), cell in means.groupby(level=[0, 1], sort=False):
            cell = cell.sort_index()
            numbers = cell["steps"].tolist(), cell["seconds/fit"].tolist(), int(cell["images"].iloc[0])
            columns.append((f"ours, {column}", setup, title, *numbers))
    fits = ((*each, fit_line(each[3], each[4]), fit_overlap(each[3], each[4])) for each in columns)
    return [Fitted(*each) for each in fits if each[6] is not None]


def fit_table(fits: Sequence[Fitted]) -> Grid:
    rows = []
    for each in fits:
        line, overlap, form = each.line, each.overlap, MISSING
        if overlap is not None:
            host = f"max(host, device) (host {1e3 * overlap.host:.2f} ms a step)"
            form = host if overlap.preferred else "the line"
        fixed = f"{line.fixed:.2f} ± {line.fixed_error:.2f} s"
        per_step = f"{1e3 * line.per_step:.3f} ± {1e3 * line.per_step_error:.3f} ms"
        rows.append([each.label, fixed, per_step, f"{each.per_image:.1f} µs", f"{line.r2:.5f}", form])
    return [["setup", "fixed", "per step", "per image", "R²", "the points prefer"], *rows]


def crossovers(fits: Sequence[Fitted]) -> Grid:
    """Where two setups of one group are equally fast."""
    rows = []
    for one, two in combinations(fits, 2):
        if one.group != two.group or one.images != two.images:
            continue
        names, meet = f"{one.label} and {two.label}", _meeting(one, two)
        if meet is None:
            faster = min(one, two, key=lambda each: each.line.fixed + each.line.per_step)
            rows.append([names, "none", MISSING, f"{faster.label}, always"])
        else:
            below = min(one, two, key=lambda each: each.line.per_step)
            rows.append([names, f"{meet[0]:.0f}", meet[1] or MISSING, f"{below.setup} below it"])
    return [["setups", "equally fast at batch size", "95 % interval", "faster"], *rows]


def _meeting(one: Fitted, two: Fitted) -> tuple[float, str] | None:
    """The batch size at which two are equally fast, and its interval in words, if there is one."""
    where = crossover(one.line, two.line, one.images)
    if where is None:
        return None
    known = crossover_interval(one.line, two.line, one.steps, one.images) if one.steps == two.steps else None
    return where, f"{known[0]:.0f} to {known[1]:.0f}" if known else ""


def second_devices(fits: Sequence[Fitted]) -> list[dict[str, Any]]:
    """What a second GPU, or a second process, costs and saves, wherever one and two can be compared."""
    found = []
    for group in dict.fromkeys(each.group for each in fits):
        setups = {each.setup: each for each in fits if each.group == group}
        for kind, name in (("gpu", "GPU"), ("cpu", "process")):
            one, two = setups.get(f"1x{kind}"), setups.get(f"2x{kind}")
            if one is None or two is None or one.images != two.images:
                continue
            most = max(one.steps)
            lost = (
                two.seconds[two.steps.index(most)] - one.seconds[one.steps.index(most)] if most in two.steps else None
            )
            whose = "In the paper" if group == "the paper" else f"In our runs{group.removeprefix('ours')}"
            more = 1e3 * (two.line.per_step - one.line.per_step)
            found.append(
                {
                    "whose": whose,
                    "name": name,
                    "one": one,
                    "two": two,
                    "more": more,
                    "most": most,
                    "lost": lost,
                    "meet": _meeting(one, two),
                }
            )
    return found


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
    """Seconds of a step's parts, the mean over seeds: a row a column and batch size, a column a part."""
    parts = table[table.metric.str.startswith("step/")]
    parts = parts.assign(metric=parts.metric.str.removeprefix("step/"))
    return parts.pivot_table("value", ["column", "batch_size"], "metric", sort=False).reindex(columns=PARTS)


def step_table(parts: pd.DataFrame) -> Grid:
    """Milliseconds."""
    rows = [
        [column, str(size), *(f"{1e3 * each:.3f}" for each in row), f"{1e3 * row.sum():.2f}"]
        for (column, size), row in parts.iterrows()
    ]
    return [["setup", "batch size", *parts.columns, "a step"], *rows]


def target_table(table: pd.DataFrame) -> Grid:
    """Seconds to 99 % beside the seconds of the whole run and its median epoch."""
    reached, fit, epoch = (cells(table, name) for name in ("seconds/to_99", "seconds/fit", "median/seconds/epoch"))
    rows = []
    for (column, size), cell in fit.iterrows():
        n = int(reached["count"].get((column, size), 0))
        seconds = f"{reached['mean'][column, size]:.1f}" if n == cell["count"] else MISSING
        of = f"{n} of {cell['count']:.0f}"
        rows.append([column, str(size), seconds, of, f"{cell['mean']:.1f}", f"{epoch['mean'][column, size]:.2f}"])
    header = ["setup", "batch size", "seconds to 99 %", "runs that reach it", "seconds of 10 epochs", "median epoch"]
    return [header, *rows]


def machines(runs: Iterable[Run]) -> Grid:
    """What ran it, a column a machine, from the runs' own records; where the runs of one differ, all values."""
    found: dict[tuple[object, ...], dict[str, dict[str, None]]] = {}
    for run in runs:
        machine: Mapping[str, Any] = run.summary["machine"]
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
