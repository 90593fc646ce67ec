"""The paper's claims, each checked on any tables: the paper's own or ours."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from mnist_lightning import paper

SIGNIFICANT = 10.0  # seconds that a doubled batch saves: the reading under which the paper's claim holds
GPUS = ("1xgpu", "2xgpu")


@dataclass(frozen=True)
class Tables:
    """Tables I, II and III: a row a batch size, a column a setup, NaN where nothing ran."""

    seconds: pd.DataFrame
    accuracy: pd.DataFrame
    loss: pd.DataFrame


@dataclass(frozen=True)
class Verdict:
    """What tables say to a claim; `holds` is None where they lack the setups it speaks of."""

    found: str
    holds: bool | None
    cells: str = "—"


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, where it stands, and the function that checks it."""

    text: str
    place: str
    check: Callable[[Tables], Verdict]


NOTHING = Verdict("—", None)


# The paper's own tables.
PAPER = Tables(*(pd.DataFrame(table, index=paper.BATCH_SIZES) for table in (paper.SECONDS, paper.ACCURACY, paper.LOSS)))


def _common(table: pd.DataFrame, *setups: str) -> pd.DataFrame:
    """The rows where all these setups have a value; none if a setup is missing."""
    return table.reindex(columns=list(setups)).dropna().sort_index()


def _verdict(found: Iterable[bool], what: str, needed: int | None = None) -> Verdict:
    """Counts the cells that agree with a claim; by default all must."""
    agree = list(map(bool, found))
    if not agree:
        return NOTHING
    return Verdict(what, sum(agree) >= (len(agree) if needed is None else needed), f"{sum(agree)} of {len(agree)}")


def _best_ratio(table: pd.DataFrame, above: tuple[str, ...], below: tuple[str, ...], claimed: float) -> Verdict:
    """The largest ratio at one batch size, and in how many cells it comes to what is claimed."""
    ratios = {
        (one, two, size): row[one] / row[two]
        for one in above
        for two in below
        for size, row in _common(table, one, two).iterrows()
    }
    if not ratios:
        return NOTHING
    one, two, size = max(ratios, key=ratios.__getitem__)
    what = f"{ratios[one, two, size]:.6g} at most ({one} / {two}, batch size {size})"
    return _verdict((ratio >= claimed for ratio in ratios.values()), what, needed=1)


def _better_from_128(tables: Tables) -> Verdict:
    found: list[bool] = []
    for gpu in GPUS:
        accuracy, loss = (_common(table, gpu, "1xcpu").loc[128:] for table in (tables.accuracy, tables.loss))
        found += [*(accuracy[gpu] > accuracy["1xcpu"]), *(loss[gpu] < loss["1xcpu"])]
    return _verdict(found, "cells where a GPU has more accuracy, and less loss, than the CPU")


def _pair(table: pd.DataFrame) -> pd.DataFrame:
    """One device and two: GPUs if they have run, else processes on a CPU, else nothing."""
    pairs = (_common(table, *pair) for pair in (GPUS, ("1xcpu", "2xcpu")))
    return next((pair for pair in pairs if len(pair)), pd.DataFrame())


def _one_is_faster(tables: Tables) -> Verdict:
    pair = _pair(tables.seconds)
    if pair.empty:
        return NOTHING
    one, two = pair.columns
    slower = pair.index[pair[one] > pair[two]]
    what = f"{two} is faster from batch size {slower[0]}" if len(slower) else f"{one} is always faster"
    before = pair[pair.index < 2048]
    return _verdict(before[one] < before[two], what)


def _last_decrease(wanted: Mapping[str, int]) -> Callable[[Tables], Verdict]:
    def check(tables: Tables) -> Verdict:
        last: dict[str, int | None] = {}
        for setup, claimed in wanted.items():
            seconds = _common(tables.seconds, setup)[setup]
            if not {claimed // 2, claimed, claimed * 2} <= set(seconds.index):
                continue  # the step to it, or the one after it, was not run
            saves = seconds.index[-seconds.diff() >= SIGNIFICANT]
            last[setup] = saves[-1] if len(saves) else None
        what = ", ".join(f"{setup}: {size or 'never'}" for setup, size in last.items())
        return _verdict((last[setup] == wanted[setup] for setup in last), what)

    return check


def _one_is_mostly_better(table_of: Callable[[Tables], pd.DataFrame]) -> Callable[[Tables], Verdict]:
    """Checks that one device has the larger numbers in more than half of the cells."""

    def check(tables: Tables) -> Verdict:
        pair = _pair(table_of(tables))
        if pair.empty:
            return NOTHING
        one, two = pair.columns
        return _verdict(pair[one] > pair[two], f"cells where {one} is better than {two}", len(pair) // 2 + 1)

    return check


def _meet_at_1024(tables: Tables) -> Verdict:
    found, where = [], []
    for name, table in (("accuracy", tables.accuracy), ("loss", tables.loss)):
        common = _common(table, *table.columns) if len(table.columns) > 1 else pd.DataFrame()
        if 1024 in common.index:
            closest = (common.max(axis=1) - common.min(axis=1)).idxmin()
            found.append(closest == 1024)
            where.append(f"{name} closest at {closest}" + " (two setups)" * (len(common.columns) == 2))
    return _verdict(found, ", ".join(where))


CLAIMS = (
    Claim(
        "“The GPU was up to 36 times faster than the CPU”",
        "abstract, IV.B",
        lambda tables: _best_ratio(tables.seconds, ("1xcpu",), GPUS, 36),
    ),
    Claim("“up to 1.6 times less loss”", "abstract", lambda tables: _best_ratio(tables.loss, ("1xcpu",), GPUS, 1.6)),
    Claim(
        "“up to 1.005 times more accuracy”",
        "abstract",
        lambda tables: _best_ratio(tables.accuracy, GPUS, ("1xcpu",), 1.005),
    ),
    Claim("“the GPU performs better than the CPU from a batch size of 128”", "IV.C, IV.D", _better_from_128),
    Claim("“1 GPU performs better than 2 GPUs until the batch size is 2048” (time)", "IV.B", _one_is_faster),
    Claim(
        "“for the CPU, 512 batches is the last point where there is a significant decrease in execution time and for "
        f"the GPUs is 256” (read as {SIGNIFICANT:.0f} s or more)",
        "IV.B",
        _last_decrease({"1xcpu": 512, "1xgpu": 256, "2xgpu": 256}),
    ),
    Claim(
        "“most of the time, 1 GPU has more accuracy than 2 GPUs”",
        "IV.C",
        _one_is_mostly_better(lambda tables: tables.accuracy),
    ),
    Claim(
        "“most of the time, 1 GPU has less loss than 2 GPUs”",
        "IV.D",
        _one_is_mostly_better(lambda tables: -tables.loss),
    ),
    Claim("at a batch size of 1024 the three experiments converge", "IV.C, IV.D", _meet_at_1024),
)
