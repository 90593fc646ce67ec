"""The numbers of report.md. The template report.md.jinja puts them into words."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from mnist_lightning import paper
from mnist_lightning.report import evidence
from mnist_lightning.report.claims import CLAIMS, NAMES, Verdict
from mnist_lightning.report.columns import SHORT, labelled, left_out, machines, of_the_paper, tidy, values
from mnist_lightning.report.effects import Effect, effects
from mnist_lightning.report.evidence import CERTAIN, Evidence, Noise, published
from mnist_lightning.report.networks import Grid, Growth, grids, growths
from mnist_lightning.report.reproduction import Agreement, agreements
from mnist_lightning.report.runs import TESTED, Run
from mnist_lightning.report.seeds import Estimate, logs, mean
from mnist_lightning.report.two_devices import Fitted, Second, our_fits, paper_fits, second_device

MISSING = "—"


class Table(NamedTuple):
    """One of the paper's tables: our metric, the one that its statistics are of, its name, axis and formats."""

    metric: str
    logged: str
    title: str
    axis: str
    ours: str
    theirs: str


TABLES = {
    "I": Table("seconds/fit", "seconds/fit", "Seconds", "seconds of the whole run", ".1f", ".2f"),
    "II": Table("val/accuracy", "errors", "Accuracy", "test accuracy", ".4f", ".4f"),
    "III": Table("val/loss", "val/loss", "Loss", "test loss", ".5f", ".5f"),
}
PAPER = {
    number: pd.DataFrame(table, index=list(paper.BATCH_SIZES))
    for number, table in zip(TABLES, (paper.SECONDS, paper.ACCURACY, paper.LOSS), strict=True)
}
Rows = list[list[str]]  # the header, then the rows


@dataclass(frozen=True)
class Page:
    """All that the report tells."""

    runs: Sequence[Run]
    table: pd.DataFrame
    main: pd.DataFrame
    noise: Noise
    ours: dict[str, Evidence]
    paper: Evidence
    fits: list[Fitted]
    seconds: list[Second]
    networks: list[Grid]
    effects: list[list[Effect]]  # of the settings, by grid
    growths: list[Growth]
    agreements: list[Agreement]
    left_out: list[tuple[str, str]]  # a run and the reason
    machines: dict[Run, int]


def make_page(runs: Sequence[Run]) -> Page:
    """Works out everything from the runs; with none, from the paper alone."""
    table = tidy(runs)
    main = of_the_paper(table)
    noise = evidence.noise(main)
    scatter = evidence.noise(table)
    found = list(grids(table, scatter))
    grown = list(growths(table))
    ours = {
        name: evidence.ours(group, noise, [each.exponent for each in grown if each.second and each.variant == name])
        for name, group in variants(main)
    }
    theirs = published(noise if any(each.freedom for each in noise.values()) else CERTAIN)
    fits = {name: our_fits(group) for name, group in variants(main)}
    pairs = [second_device("the paper", theirs, paper_fits())]
    pairs += [second_device(f"ours, {name}" if name else "ours", each, fits[name]) for name, each in ours.items()]
    placed = labelled(runs)
    settings = {column: run.settings for column, _, run in placed}
    names = {run: ", ".join(filter(None, [run.name, network])) for _, network, run in placed}
    return Page(
        runs=runs,
        table=table,
        main=main,
        noise=noise,
        ours=ours,
        paper=theirs,
        fits=[*paper_fits(), *(fit for each in fits.values() for fit in each)],
        seconds=[each for each in pairs if each is not None],
        networks=found,
        effects=[effects(settings, table, grid, scatter) for grid in found],
        growths=grown,
        agreements=agreements(ours.values(), theirs),
        left_out=[(names[run], reason) for run, reason in left_out(runs).items()],
        machines=machines(runs),
    )


def variants(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Groups of columns that differ only in the setup, by what they share, such as a precision."""
    shared = table.column.map(lambda column: column.partition(", ")[2])
    for variant in dict.fromkeys(shared):
        yield variant, table[shared == variant]


def counts(table: pd.DataFrame) -> dict[str, int | None]:
    """The number of seeds in each column's cells; None if it differs."""
    found = table.groupby(["column", "batch_size"], sort=False).seed.nunique()
    return {
        column: int(found.loc[column].iloc[0]) if found.loc[column].nunique() == 1 else None
        for column in dict.fromkeys(table.column)
    }


def main_table(number: str, page: Page) -> Rows:
    """Table I, II or III: ours beside the paper's. Ours are means with the 95 % interval of the mean."""
    shown, theirs, seeds = TABLES[number], PAPER[number], counts(page.main)
    ours, logged = values(page.main, shown.metric), logs(values(page.main, shown.logged))
    header = [f"{column} (n {n})" if n else column for column, n in seeds.items()]
    ran = set(zip(page.main.column, page.main.batch_size, strict=True))
    rows = []
    for size in sorted({*theirs.index, *page.main.batch_size}):
        cells = []
        for column, n in seeds.items():
            text = "left out" if (column, size) in ran else MISSING
            if (column, size) in ours.index:
                cell = ours.loc[column, size]
                text = f"{cell.mean():{shown.ours}}{_interval(number, mean(logged, page.noise[shown.logged], column, size))}"
                text += "" if n == len(cell) else f" (n {len(cell)})"
            cells.append(text)
        published = [format(theirs[name][size], shown.theirs) if size in theirs.index else MISSING for name in theirs]
        rows.append([str(size), *published, *cells])
    return [["batch size", *(f"paper, {name}" for name in theirs), *header], *rows]


def _interval(number: str, estimate: Estimate | None) -> str:
    """The interval of a mean; of an accuracy, from its errors."""
    if estimate is None or math.isinf(estimate.half()) or estimate.error == 0:
        return ""
    low, high = estimate.interval()
    if number == "II":
        low, high = 1 - high / TESTED, 1 - low / TESTED
    form = TABLES[number].ours
    return f" [{low:{form}}, {high:{form}}]"


def judged(page: Page) -> list[tuple[str, list[tuple[Any, Verdict]]]]:
    """Each claim with its verdict, by source; sources that say nothing to any claim are left out."""
    sources = {"the paper's tables": page.paper}
    sources |= {f"ours, {name}" if name else "ours": each for name, each in page.ours.items()}
    found = [(name, [(claim, claim.check(each)) for claim in CLAIMS]) for name, each in sources.items()]
    return [(name, each) for name, each in found if any(verdict.word for _, verdict in each)]


def places(cells: Sequence[tuple[str, str, int]]) -> str:
    """Cells of the paper in words."""
    found: dict[tuple[str, str], list[int]] = {}
    for setup, metric, size in cells:
        found.setdefault((setup, NAMES[metric]), []).append(size)
    return listed([f"{what} of `{setup}` at {listed(sizes)}" for (setup, what), sizes in found.items()])


def single(table: pd.DataFrame) -> list[str]:
    """The columns of one seed."""
    return [column for column, n in counts(table).items() if n == 1]


def counted(table: pd.DataFrame) -> list[str]:
    """The columns, each with its number of runs if there are several columns."""
    runs = table[["column", "batch_size", "seed", "repeat"]].drop_duplicates().column.value_counts(sort=False)
    return [f"{runs[column]} of `{column}`" for column in runs.index] if len(runs) > 1 else quoted(list(runs.index))


def precisions(table: pd.DataFrame) -> list[str]:
    """The precisions of the runs. Where there is one, no column tells it."""
    return [SHORT.get(name, name) for name in table.precision.unique()]


def quoted(columns: Sequence[str]) -> list[str]:
    return [f"`{column}`" for column in columns]


def to_target(table: pd.DataFrame) -> pd.DataFrame:
    """Seconds to 99 % beside the seconds of the whole run and its median epoch, by column and batch size.

    Returns:
        `reached`, seconds or NaN if not all runs did, `count` of those that did, `runs`, `seconds` and `epoch`.
    """
    cell = ["column", "batch_size"]
    reached, fit, epoch = (
        values(table, name).groupby(cell, sort=False)
        for name in ("seconds/to_99", "seconds/fit", "median/seconds/epoch")
    )
    runs = fit.count()
    count = reached.count().reindex(runs.index, fill_value=0)
    means = {"reached": reached.mean().reindex(runs.index).where(count == runs), "count": count}
    return pd.DataFrame({**means, "runs": runs, "seconds": fit.mean(), "epoch": epoch.mean()})


def shares(table: pd.DataFrame) -> pd.Series:
    """The share of the calibrated rate, as means by column and batch size."""
    return values(table, "share").groupby(["column", "batch_size"], sort=False).mean()


def machine_tables(page: Page) -> list[tuple[int, dict[str, str]]]:
    """What ran it, by machine, from the runs' own records and rates. If runs on one machine differ, all values are listed."""
    found: dict[int, dict[str, dict[str, None]]] = {}
    rates: dict[int, dict[str, list[float]]] = {}
    for run, number in page.machines.items():
        of_machine = found.setdefault(number, {})
        for item, value in run.summary["machine"].items():
            if item not in ("precision", "load_before"):
                of_machine.setdefault(item, {})[str(value)] = None
        for moment in run.summary.get("calibration", {}).values():
            for item, value in moment.items():
                rates.setdefault(number, {}).setdefault(item, []).append(value)
    texts = []
    for number, items in sorted(found.items()):
        told = {item: ", ".join(each) for item, each in items.items()}
        for item, each in rates.get(number, {}).items():
            told[item] = f"{pd.Series(each).median():.1f} (median of {len(each)}; {min(each):.1f} to {max(each):.1f})"
        texts.append((number, told if number in rates else {**told, "rates": "not calibrated"}))
    return texts


def plural(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def listed(words: Sequence[object], last: str = "and") -> str:
    """Words with commas and an `and`."""
    texts = [str(word) for word in words]
    return f"{', '.join(texts[:-1])} {last} {texts[-1]}" if len(texts) > 1 else "".join(texts)
