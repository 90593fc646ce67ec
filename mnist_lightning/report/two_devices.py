"""Why two devices may be slower than one: the fits of seconds to steps, and where two columns are equally fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from mnist_lightning import paper
from mnist_lightning.report.page import variants
from mnist_lightning.report.step_time import Line, Overlap, crossover, crossover_interval, fit_line, fit_overlap


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


@dataclass(frozen=True)
class Meeting:
    """Two columns and the batch size at which they are equally fast, with its 95 % interval. `faster` is the column that is
    faster below that batch size, or always if there is none."""

    one: Fitted
    two: Fitted
    batch_size: float | None
    interval: tuple[float, float] | None
    faster: Fitted


def fitted(table: pd.DataFrame) -> list[Fitted]:
    """The fits of the paper's setups and of ours; a column of fewer than three batch sizes has none."""
    images = paper.EPOCHS * paper.TRAIN_IMAGES
    steps = [float(paper.EPOCHS * -(-paper.TRAIN_IMAGES // size)) for size in paper.BATCH_SIZES]
    found = [
        _fit(f"paper, {setup}", setup, "the paper", steps, list(seconds), images)
        for setup, seconds in paper.SECONDS.items()
    ]
    for variant, group in variants(table):
        title = f"ours, {variant}" if variant else "ours"
        means = group.pivot_table("value", ["setup", "column", "batch_size"], "metric", sort=False)
        for (setup, column), cell in means.groupby(level=[0, 1], sort=False):
            cell = cell.sort_index()
            numbers = cell["steps"].tolist(), cell["seconds/fit"].tolist(), int(cell["images"].iloc[0])
            found.append(_fit(f"ours, {column}", setup, title, *numbers))
    return [each for each in found if each is not None]


def _fit(label: str, setup: str, group: str, steps: list[float], seconds: list[float], images: int) -> Fitted | None:
    line = fit_line(steps, seconds)
    return (
        None if line is None else Fitted(label, setup, group, steps, seconds, images, line, fit_overlap(steps, seconds))
    )


def meetings(fits: Sequence[Fitted]) -> list[Meeting]:
    """Where two setups of one group are equally fast."""
    found = []
    for one, two in combinations(fits, 2):
        if one.group == two.group and one.images == two.images:
            where = crossover(one.line, two.line, one.images)
            same = where is not None and one.steps == two.steps
            interval = crossover_interval(one.line, two.line, one.steps, one.images) if same else None
            faster = min(one, two, key=lambda each: each.line.per_step + (0 if where else each.line.fixed))
            found.append(Meeting(one, two, where, interval, faster))
    return found


def second_devices(pairs: Sequence[Meeting]) -> list[dict[str, Any]]:
    """What a second GPU, or a second process, costs and saves, wherever one and two can be compared."""
    found = []
    for pair in pairs:
        kind = pair.one.setup[2:]
        if (pair.one.setup, pair.two.setup) == (f"1x{kind}", f"2x{kind}"):
            one, two, most = pair.one, pair.two, max(pair.one.steps)
            seconds_1, seconds_2 = (dict(zip(each.steps, each.seconds, strict=True)) for each in (one, two))
            lost = seconds_2[most] - seconds_1[most] if most in seconds_2 else None
            more = 1e3 * (two.line.per_step - one.line.per_step)
            name = "process" if kind == "cpu" else "GPU"
            found.append({"name": name, "one": one, "two": two, "more": more, "most": most, "lost": lost, "pair": pair})
    return found
