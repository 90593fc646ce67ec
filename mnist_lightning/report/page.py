"""report.md: tables, claims and what the numbers say, in words."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mnist_lightning import paper
from mnist_lightning.measure.load import BUSY
from mnist_lightning.report.claims import CLAIMS, Table, Tables, Verdict
from mnist_lightning.report.runs import Column, Run
from mnist_lightning.report.seeds import Difference, Scatter, differences, half_width, scatter
from mnist_lightning.report.step_time import (
    Line,
    Overlap,
    crossover,
    crossover_interval,
    fit_line,
    fit_overlap,
)

MISSING = "—"
METRICS = {  # Table: metric, title, format
    "I": ("seconds/fit", "Seconds of 10 epochs", ".1f"),
    "II": ("val/accuracy", "Accuracy", ".4f"),
    "III": ("val/loss", "Loss", ".5f"),
}
PAPERS = {"I": paper.SECONDS, "II": paper.ACCURACY, "III": paper.LOSS}
TARGET = 0.99
NAMED = 6


def published(table: str) -> Table:
    """One of the paper's tables by setup and batch size."""
    return {
        setup: dict(zip(paper.BATCH_SIZES, values, strict=True)) for setup, values in PAPERS[table].items()
    }


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], words: bool = False) -> list[str]:
    """A table; the first column to the left, numbers to the right and words to the left."""
    return [
        f"| {' | '.join(header)} |",
        f"| --- |{(' --- |' if words else ' ---: |') * (len(header) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def cell(column: Column, batch_size: int, metric: str, form: str) -> str:
    """Mean, standard deviation and n of one cell."""
    values = list(column.values(batch_size, metric).values())
    if not values:
        return MISSING
    mean = format(statistics.fmean(values), form)
    if len(values) == 1:
        return f"{mean} (n 1)"
    return f"{mean} ± {statistics.stdev(values):{form}} (n {len(values)})"


def main_table(table: str, columns: Sequence[Column]) -> list[str]:
    """Table I, II or III: ours beside the paper's."""
    metric, _, form = METRICS[table]
    theirs = published(table)
    sizes = sorted({*paper.BATCH_SIZES, *(size for column in columns for size in column.batch_sizes)})
    rows = [
        [
            str(size),
            *(format(theirs[setup][size], form) if size in theirs[setup] else MISSING for setup in theirs),
            *(cell(column, size, metric, form) for column in columns),
        ]
        for size in sizes
    ]
    return markdown(
        ["batch size", *(f"paper, {s}" for s in theirs), *(column.label for column in columns)], rows
    )


def variants(columns: Sequence[Column]) -> dict[str, dict[str, Column]]:
    """Columns by what sets them apart besides the setup, such as a precision; then by setup."""
    found: dict[str, dict[str, Column]] = {}
    for column in columns:
        found.setdefault(column.label.partition(", ")[2], {})[column.setup] = column
    return found


def means(group: Mapping[str, Column], metric: str) -> Table:
    return {
        setup: {size: mean for size in column.batch_sizes if (mean := column.mean(size, metric)) is not None}
        for setup, column in group.items()
    }


def claims(columns: Sequence[Column]) -> list[str]:
    """Each claim: what the paper's tables give, what ours do."""
    judged = {"the paper's tables": Tables(*(published(table) for table in METRICS))}
    for variant, group in variants(columns).items():
        title = f"ours, {variant}" if variant else "ours"
        judged[title] = Tables(*(means(group, metric) for metric, _, _ in METRICS.values()))
    rows = [
        [f"{claim.text} ({claim.place})", *(_verdict(claim.check(tables)) for tables in judged.values())]
        for claim in CLAIMS
    ]
    return markdown(["claim", *judged], rows, words=True)


def _verdict(verdict: Verdict) -> str:
    if verdict.holds is None:
        return MISSING
    return f"{'**holds**' if verdict.holds else '**does not hold**'}, {verdict.cells} cells: {verdict.found}"


@dataclass
class Fitted:
    """A column of the paper or ours with its fits."""

    label: str
    setup: str
    group: str
    steps: list[float]
    seconds: list[float]
    images: int
    line: Line
    overlap: Overlap | None = field(default=None)

    def __post_init__(self) -> None:
        self.overlap = fit_overlap(self.steps, self.seconds)


def fitted(columns: Sequence[Column]) -> list[Fitted]:
    """The fits of the paper's setups and of ours; a column of fewer than three batch sizes has none."""
    found = []
    for setup, seconds in paper.SECONDS.items():
        steps = [float(paper.EPOCHS * -(-paper.TRAIN_IMAGES // size)) for size in paper.BATCH_SIZES]
        images = paper.EPOCHS * paper.TRAIN_IMAGES
        found.append(
            Fitted(
                f"paper, {setup}", setup, "the paper", steps, list(seconds), images, fit_line(steps, seconds)
            )
        )
    for variant, group in variants(columns).items():
        for setup, column in group.items():
            run = column.runs[0]
            points = {
                float(column.cell(size)[0].steps): column.mean(size, "seconds/fit")
                for size in column.batch_sizes
            }
            steps, seconds = list(points), [value for value in points.values() if value is not None]
            line = fit_line(steps, seconds) if len(steps) == len(seconds) else None
            if line is not None:
                images = run.epochs * run.summary["train_images"]
                title = f"ours, {variant}" if variant else "ours"
                found.append(Fitted(f"ours, {column.label}", setup, title, steps, seconds, images, line))
    return found


def fit_table(fits: Sequence[Fitted]) -> list[str]:
    rows = []
    for each in fits:
        line, overlap = each.line, each.overlap
        form = MISSING
        if overlap is not None:
            form = "max(host, device)" if overlap.preferred else "the line"
            form += f" (host {1e3 * overlap.host:.2f} ms a step)" if overlap.preferred else ""
        rows.append(
            [
                each.label,
                f"{line.fixed:.2f} ± {line.fixed_error:.2f} s",
                f"{1e3 * line.per_step:.3f} ± {1e3 * line.per_step_error:.3f} ms",
                f"{1e6 * line.fixed / each.images:.1f} µs",
                f"{line.r2:.5f}",
                form,
            ]
        )
    return markdown(["setup", "fixed", "per step", "per image", "R²", "the points prefer"], rows)


def crossover_table(fits: Sequence[Fitted]) -> list[str]:
    """Where two setups of one group are equally fast."""
    rows = []
    for number, one in enumerate(fits):
        for two in fits[number + 1 :]:
            if one.group != two.group or one.images != two.images:
                continue
            where = crossover(one.line, two.line, one.images)
            if where is None:
                faster = min(one, two, key=lambda each: each.line.fixed + each.line.per_step)
                rows.append([f"{one.label} and {two.label}", "none", MISSING, f"{faster.label}, always"])
                continue
            interval = (
                crossover_interval(one.line, two.line, one.steps, one.images)
                if one.steps == two.steps
                else None
            )
            below = min(one, two, key=lambda each: each.line.per_step)
            rows.append(
                [
                    f"{one.label} and {two.label}",
                    f"{where:.0f}",
                    f"{interval[0]:.0f} to {interval[1]:.0f}" if interval else MISSING,
                    f"{below.setup} below it",
                ]
            )
    return markdown(["setups", "equally fast at batch size", "95 % interval", "faster"], rows)


def why_two_are_slower(fits: Sequence[Fitted]) -> list[str]:
    """The open question, answered from the fits of one device and of two."""
    text = []
    for group in dict.fromkeys(each.group for each in fits):
        setups = {each.setup: each for each in fits if each.group == group}
        for kind, name in (("gpu", "GPU"), ("cpu", "process")):
            one, two = setups.get(f"1x{kind}"), setups.get(f"2x{kind}")
            if one and two and one.images == two.images:
                text += [_explain(group, name, one, two), ""]
    return text


def _explain(group: str, name: str, one: Fitted, two: Fitted) -> str:
    whose = "In the paper" if group == "the paper" else f"In our runs{group.removeprefix('ours')}"
    step = 1e3 * (two.line.per_step - one.line.per_step)
    image_one, image_two = (1e6 * each.line.fixed / each.images for each in (one, two))
    begin = (
        f"{whose} a step costs {1e3 * one.line.per_step:.2f} ms on one {name} and {1e3 * two.line.per_step:.2f} ms on "
        f"two, whatever it holds, and an image {image_one:.1f} µs and {image_two:.1f} µs on top of it."
    )
    if step <= 0:
        return f"{begin} The second {name} makes no step dearer."
    most = max(one.steps)
    lost = (
        two.seconds[two.steps.index(most)] - one.seconds[one.steps.index(most)] if most in two.steps else None
    )
    paid = f"The second {name} thus adds {step:.2f} ms to every step: {most:,.0f} steps, those of the smallest batch, "
    paid += f"come to {most * step / 1e3:.0f} s"
    paid += f" ({lost:+.1f} s were measured in all)." if lost is not None else "."
    where = crossover(one.line, two.line, one.images)
    if where is None:
        return (
            f"{begin} {paid} It takes nothing off an image, so that no batch is large enough for it to pay."
        )
    interval = (
        crossover_interval(one.line, two.line, one.steps, one.images) if one.steps == two.steps else None
    )
    between = f" (95 % interval {interval[0]:.0f} to {interval[1]:.0f})" if interval else ""
    return (
        f"{begin} {paid} It saves {image_one - image_two:.1f} µs an image, and what it saves in a step grows with the "
        f"batch while what it costs does not: the two are equal at {where:.0f} images{between}. Two are slower below "
        f"that batch size, because a step is too small to be worth sharing, and faster above it."
    )


def real_differences(columns: Sequence[Column]) -> list[str]:
    """Whether setups differ in accuracy and loss by more than seeds do."""
    lines: list[str] = []
    for table in ("II", "III"):
        metric, title, form = METRICS[table]
        known = scatter(columns, metric)
        if not known.deviation:
            continue
        sizes = sorted(known.deviation)
        lines += [f"**{title}.** Standard deviation of one run between seeds, all our columns pooled:", ""]
        lines += markdown(
            ["batch size", *map(str, sizes)],
            [
                ["deviation", *(format(known.deviation[size], form) for size in sizes)],
                ["degrees of freedom", *(str(known.freedom[size]) for size in sizes)],
            ],
        )
        rows, found = [], []
        for number, first in enumerate(columns):
            for second in columns[number + 1 :]:
                each = differences(first, second, metric, known)
                found += each
                if each:
                    by_size = {difference.batch_size: difference for difference in each}
                    rows.append(
                        [
                            f"{second.label} − {first.label}",
                            *(_difference(by_size.get(size), form) for size in sizes),
                        ]
                    )
        if rows:
            lines += markdown(["difference, 95 % interval", *map(str, sizes)], rows)
            tested = [each.is_real for each in found if each.is_real is not None]
            lines += [_sentence("Our setups", sum(tested), len(tested)), ""]
        theirs = _papers_differences(table, known)
        lines += [_sentence("The paper's CPU and GPUs", sum(theirs), len(theirs)), ""]
    return lines


def _papers_differences(table: str, known: Scatter) -> list[bool]:
    """Whether each difference to the CPU exceeds what two runs of two seeds differ by in 95 of 100 cases."""
    theirs = published(table)
    return [
        abs(theirs[gpu][size] - theirs["1xcpu"][size]) > half_width(known, size, 1, 1)
        for gpu in ("1xgpu", "2xgpu")
        for size in paper.BATCH_SIZES
        if size in known.deviation
    ]


def _difference(difference: Difference | None, form: str) -> str:
    if difference is None:
        return MISSING
    width = MISSING if difference.half_width is None else format(difference.half_width, form)
    text = f"{difference.mean:+{form}} ± {width}"
    return f"**{text}**" if difference.is_real else text


def _sentence(whose: str, real: int, tested: int) -> str:
    if not tested:
        return f"{whose} cannot be compared: at none of their batch sizes are there enough seeds."
    chance = 0.05 * tested
    verdict = (
        "no more than chance gives: they do not exceed what a change of seed does"
        if real <= max(1, round(2 * chance))
        else "more than chance gives: some of them exceed what a change of seed does"
    )
    return (
        f"{whose} differ in {real} of {tested} comparisons by more than the 95 % interval of a difference between "
        f"seeds; {chance:.1f} are expected by chance, so this is {verdict}."
    )


def step_table(columns: Sequence[Column]) -> list[str]:
    """Milliseconds of a step's parts."""
    parts = step_parts(columns)
    rows = [
        [
            label,
            str(size),
            *(f"{1e3 * seconds:.3f}" for seconds in spent.values()),
            f"{1e3 * sum(spent.values()):.2f}",
        ]
        for label, sizes in parts.items()
        for size, spent in sorted(sizes.items())
    ]
    names = next(iter(next(iter(parts.values())).values())) if parts else ()
    return markdown(["setup", "batch size", *names, "a step"], rows) if rows else []


def step_parts(columns: Sequence[Column]) -> dict[str, dict[int, dict[str, float]]]:
    """Seconds of a step's parts by column and batch size, the mean over seeds."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for column in columns:
        for size in column.batch_sizes:
            measured = [spent for run in column.cell(size) if (spent := run.summary.get("step_seconds"))]
            if measured:
                found.setdefault(column.label, {})[size] = {
                    part: statistics.fmean(spent[part] for spent in measured) for part in measured[0]
                }
    return found


def target_table(columns: Sequence[Column]) -> list[str]:
    """Seconds to 99 % beside the seconds of the whole run and its median epoch."""
    rows = []
    for column in columns:
        for size in column.batch_sizes:
            runs = column.cell(size)
            reached = [seconds for run in runs if (seconds := run.seconds_to(TARGET)) is not None]
            epochs = statistics.fmean(run.summary["median"]["seconds/epoch"] for run in runs)
            rows.append(
                [
                    column.label,
                    str(size),
                    f"{statistics.fmean(reached):.1f}" if len(reached) == len(runs) else MISSING,
                    f"{len(reached)} of {len(runs)}",
                    f"{column.mean(size, 'seconds/fit'):.1f}",
                    f"{epochs:.2f}",
                ]
            )
    header = [
        "setup",
        "batch size",
        "seconds to 99 %",
        "runs that reach it",
        "seconds of 10 epochs",
        "median epoch",
    ]
    return markdown(header, rows)


def machine_records(runs: Iterable[Run]) -> list[dict[str, object]]:
    """What ran it, one record a machine; where its runs differ, all values."""
    machines: dict[tuple[object, ...], dict[str, list[object]]] = {}
    for run in runs:
        machine = run.summary["machine"]
        known = machines.setdefault(tuple(machine.get(name) for name in ("processor", "cores", "gpu")), {})
        for name, value in machine.items():
            if name not in ("precision", "load_before") and value not in (
                values := known.setdefault(name, [])
            ):
                values.append(value)
    return [
        {name: ", ".join(map(str, values)) for name, values in known.items()} for known in machines.values()
    ]


def caveats(runs: Sequence[Run]) -> list[str]:
    """What a reader must know before trusting a number."""
    lines = []
    if any(run.summary["data"] != "mnist" for run in runs):
        lines.append("- Some runs saw a sample of MNIST: they are not comparable with the paper's.")
    if runs and not any(run.summary["setup"].endswith("gpu") for run in runs):
        lines.append(
            "- No GPU ran: what the paper claims of one GPU and two is judged on one process and two of a CPU."
        )
    if other := sorted({run.epochs for run in runs if run.epochs != paper.EPOCHS}):
        lines.append(f"- Some runs have {', '.join(map(str, other))} epochs, not the paper's {paper.EPOCHS}.")
    busy = [run for run in runs if sum(run.summary.get("neighbours", {}).values()) > BUSY]
    if busy:
        lines.append(
            f"- Other programs, or the host, took more than a quarter of a core while {len(busy)} of {len(runs)} runs "
            f"trained, whose times are not to be trusted: {_named(busy)}."
        )
    resumed = [run for run in runs if run.summary.get("resumed")]
    if resumed:
        lines.append(
            f"- {len(resumed)} of {len(runs)} runs were interrupted and went on, whose times are no measurement: "
            f"{_named(resumed)}."
        )
    return lines


def _named(runs: Sequence[Run]) -> str:
    named = [f"{run.summary['setup']} at batch size {run.batch_size}, seed {run.seed}" for run in runs]
    return "; ".join(named[:NAMED] + ["…"] * (len(named) > NAMED))
