"""The paper's claims, each checked on any tables: the paper's own or ours."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Table = Mapping[str, Mapping[int, float]]  # a column a setup, a row a batch size

SIGNIFICANT = (
    10.0  # seconds that one step of the batch size saves: the reading under which the paper's claim holds
)


@dataclass(frozen=True)
class Tables:
    """Tables I, II and III: seconds, accuracy and loss by setup and batch size."""

    seconds: Table
    accuracy: Table
    loss: Table


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


def _common(table: Table, *setups: str) -> list[int]:
    """Batch sizes that all these setups have; none if a setup is missing."""
    return sorted(set.intersection(*({*table.get(setup, {})} for setup in setups)))


def _best_ratio(
    table: Table, dividends: tuple[str, ...], divisors: tuple[str, ...], claimed: float
) -> Verdict:
    """The largest ratio at one batch size, and in how many cells it comes to what is claimed."""
    ratios = {
        (table[above][size] / table[below][size], size, above, below)
        for above in dividends
        for below in divisors
        for size in _common(table, above, below)
    }
    if not ratios:
        return NOTHING
    ratio, size, above, below = max(ratios)
    reached = sum(each[0] >= claimed for each in ratios)
    return Verdict(
        f"{ratio:.6g} at most ({above} / {below}, batch size {size})",
        ratio >= claimed,
        f"{reached} of {len(ratios)}",
    )


def _better(value: float, other: float, higher: bool) -> bool:
    return value > other if higher else value < other


def _wins(found: list[bool], what: str, needed: int | None = None) -> Verdict:
    if not found:
        return NOTHING
    holds = sum(found) >= (len(found) if needed is None else needed)
    return Verdict(what, holds, f"{sum(found)} of {len(found)}")


GPUS = ("1xgpu", "2xgpu")


def _faster(tables: Tables) -> Verdict:
    return _best_ratio(tables.seconds, ("1xcpu",), GPUS, 36)


def _less_loss(tables: Tables) -> Verdict:
    return _best_ratio(tables.loss, ("1xcpu",), GPUS, 1.6)


def _more_accuracy(tables: Tables) -> Verdict:
    return _best_ratio(tables.accuracy, GPUS, ("1xcpu",), 1.005)


def _better_from_128(tables: Tables) -> Verdict:
    found = [
        _better(gpu[size], cpu[size], higher)
        for table, higher in ((tables.accuracy, True), (tables.loss, False))
        for gpu, cpu in ((table.get(name, {}), table.get("1xcpu", {})) for name in GPUS)
        for size in sorted({*gpu} & {*cpu})
        if size >= 128
    ]
    return _wins(found, "cells where a GPU has more accuracy, and less loss, than the CPU")


def _pair(table: Table) -> tuple[str, str] | None:
    """One device and two: GPUs if they have run, else processes on a CPU."""
    return next((pair for pair in (("1xgpu", "2xgpu"), ("1xcpu", "2xcpu")) if _common(table, *pair)), None)


def _one_is_faster(tables: Tables) -> Verdict:
    table, pair = tables.seconds, _pair(tables.seconds)
    if pair is None:
        return NOTHING
    one, two = pair
    sizes = _common(table, one, two)
    change = next((size for size in sizes if table[one][size] > table[two][size]), None)
    what = f"{two} is faster from batch size {change}" if change else f"{one} is always faster"
    found = [table[one][size] < table[two][size] for size in sizes if size < 2048]
    return _wins(found, what)


def _last_decrease(wanted: Mapping[str, int]) -> Callable[[Tables], Verdict]:
    def check(tables: Tables) -> Verdict:
        last: dict[str, int | None] = {}
        for setup, claimed in wanted.items():
            seconds = tables.seconds.get(setup, {})
            if not {claimed // 2, claimed, claimed * 2} <= seconds.keys():
                continue  # the step to it, or the one after it, was not run
            last[setup] = None
            for (_, before), (size, now) in itertools.pairwise(sorted(seconds.items())):
                if before - now >= SIGNIFICANT:
                    last[setup] = size
        if not last:
            return NOTHING
        found = [last[setup] == wanted[setup] for setup in last]
        return _wins(found, ", ".join(f"{setup}: {size or 'never'}" for setup, size in last.items()))

    return check


def _one_is_mostly_better(table_of: Callable[[Tables], Table], higher: bool) -> Callable[[Tables], Verdict]:
    def check(tables: Tables) -> Verdict:
        table = table_of(tables)
        pair = _pair(table)
        if pair is None:
            return NOTHING
        one, two = (table[setup] for setup in pair)
        found = [_better(one[size], two[size], higher) for size in _common(table, *pair)]
        return _wins(found, f"cells where {pair[0]} is better than {pair[1]}", len(found) // 2 + 1)

    return check


def _meet_at_1024(tables: Tables) -> Verdict:
    found, where = [], []
    for name, table in (("accuracy", tables.accuracy), ("loss", tables.loss)):
        setups = [setup for setup in table if setup.startswith(("1x", "2x"))]
        sizes = _common(table, *setups) if len(setups) > 1 else []
        spread = {
            size: max(table[s][size] for s in setups) - min(table[s][size] for s in setups) for size in sizes
        }
        if 1024 in spread:
            closest = min(spread, key=spread.get)
            found.append(closest == 1024)
            where.append(f"{name} closest at {closest}" + " (two setups)" * (len(setups) == 2))
    return _wins(found, ", ".join(where))


CLAIMS = (
    Claim("“The GPU was up to 36 times faster than the CPU”", "abstract, IV.B", _faster),
    Claim("“up to 1.6 times less loss”", "abstract", _less_loss),
    Claim("“up to 1.005 times more accuracy”", "abstract", _more_accuracy),
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
        _one_is_mostly_better(lambda tables: tables.accuracy, higher=True),
    ),
    Claim(
        "“most of the time, 1 GPU has less loss than 2 GPUs”",
        "IV.D",
        _one_is_mostly_better(lambda tables: tables.loss, higher=False),
    ),
    Claim("at a batch size of 1024 the three experiments converge", "IV.C, IV.D", _meet_at_1024),
)
