"""How numbers judge a claim: by intervals, as supported, contradicted or undecided."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnist_lightning.report.seeds import Estimate, average

WORDS = {1: "supported", -1: "contradicted", 0: "undecided"}


@dataclass(frozen=True)
class Verdict:
    """What numbers say to a claim.

    Args:
        word: Supported, contradicted or undecided by 95 % intervals; None where nothing of the claim ran.
        found: The numbers.
        seen: The smallest difference, as a share, that such data show in four of five cases; None if it makes no sense.
    """

    word: str | None
    found: str = "—"
    seen: float | None = None


NOTHING = Verdict(None)
Cells = Mapping[tuple[str, int], Estimate]


def with_interval(estimate: Estimate, comparisons: int = 1) -> str:
    low, high = estimate.interval(comparisons)
    if low == high:
        return f"{estimate.ratio:.4g}"
    form = ".3f" if estimate.ratio < 10 else ".1f"
    known = "interval unknown" if math.isinf(high) else f"{low:{form}} to {high:{form}}"
    return f"{estimate.ratio:{form}} ({known})"


def least_seen(cells: Sequence[Estimate]) -> float:
    return max(each.seen() for each in cells)


def some_cell(cells: Cells, claimed: float) -> Verdict:
    """“Up to”: one cell must come to what is claimed, of which the largest is shown."""
    if not cells:
        return NOTHING
    best = max(cells, key=lambda place: cells[place].log)
    judged = [each.judge(claimed, len(cells)) for each in cells.values()]
    below = all(each.judge(claimed) == -1 for each in cells.values())
    agree = sum(each.ratio >= claimed for each in cells.values())
    what = f"{with_interval(cells[best], len(cells))} at most, {best[0]} at batch size {best[1]}; {agree} of {len(cells)} cells"
    return Verdict(WORDS[1 if 1 in judged else -1 if below else 0], what, least_seen([*cells.values()]))


def every_cell(cells: Cells) -> Verdict:
    """Every cell must be above 1."""
    if not cells:
        return NOTHING
    above = all(each.judge() == 1 for each in cells.values())
    against = [place for place, each in cells.items() if each.judge(1.0, len(cells)) == -1]
    agree = sum(each.log > 0 for each in cells.values())
    sure = sum(each.judge() == 1 for each in cells.values())
    what = f"{agree} of {len(cells)} cells, {sure} of them beyond chance"
    if against:
        what += "; against it " + ", ".join(f"{name} at {size}" for name, size in against)
    return Verdict(WORDS[1 if above else -1 if against else 0], what, least_seen([*cells.values()]))


def on_average(cells: Cells, claimed: float = 1.0) -> Verdict:
    """The mean over the batch sizes must be above what is claimed."""
    if not cells:
        return NOTHING
    mean = average(cells.values())
    agree = sum(each.ratio > claimed for each in cells.values())
    what = f"ratio {with_interval(mean)} on average; {agree} of {len(cells)} cells"
    return Verdict(WORDS[mean.judge(claimed)], what, mean.seen())


def variances(one: tuple[float, int], two: tuple[float, int], what: str) -> Verdict:
    """Whether the first variance is below the second, by the F interval of their ratio."""
    from scipy.stats import f

    (first, free_1), (second, free_2) = one, two
    ratio = first / second if second else math.inf
    low, high = ratio / float(f.ppf(0.975, free_1, free_2)), ratio / float(f.ppf(0.025, free_1, free_2))
    verdict = 1 if high < 1 else -1 if low > 1 else 0
    return Verdict(WORDS[verdict], f"{what} {ratio:.2g} ({low:.2g} to {high:.2g})")
