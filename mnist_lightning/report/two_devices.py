"""Why two devices may be slower than one: the fits of seconds to steps, where two are equally fast, and a prediction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mnist_lightning import paper
from mnist_lightning.report.claims import pair
from mnist_lightning.report.columns import values
from mnist_lightning.report.evidence import Evidence
from mnist_lightning.report.seeds import Estimate
from mnist_lightning.report.step_time import (
    Line,
    Overlap,
    bracket,
    crossover,
    crossover_interval,
    fit_line,
    fit_overlap,
)

GRADIENTS = 4 * 1_199_882  # bytes that two GPUs exchange in each step
LINK = 10e9  # bytes a second over PCIe 3, which the P100s of the paper shared


@dataclass(frozen=True)
class Fitted:
    """A column with its fits. Ours are of the training seconds alone; validation and what lies between epochs are `rest`."""

    label: str
    setup: str
    steps: list[float]
    seconds: list[float]
    images: int
    line: Line
    absolute: Line
    overlap: Overlap | None
    rest: float

    @property
    def per_image(self) -> float:
        """Microseconds."""
        return 1e6 * self.line.fixed / self.images

    @property
    def whole(self) -> Line:
        """The line of the whole run."""
        line = self.line
        error, slope = line.fixed_error, line.per_step_error
        return Line(line.fixed + self.rest, error, line.per_step, slope, line.r2, line.residuals, line.leverages)


@dataclass(frozen=True)
class Second:
    """What a second device cost and saved in one source: two over one by batch size, and where they are equally fast.

    Args:
        source: Whose runs.
        one: The setup of one device.
        two: That of two.
        seconds: Of both, by batch size, a column a setup.
        ratios: Two over one, with intervals.
        fits: Of both; empty if there are too few batch sizes.
    """

    source: str
    one: str
    two: str
    seconds: pd.DataFrame
    ratios: Mapping[int, Estimate]
    fits: tuple[Fitted, ...]

    @property
    def more(self) -> dict[int, float]:
        """Seconds that two took more than one, by batch size."""
        difference = self.seconds[self.two] - self.seconds[self.one]
        return {int(size): float(value) for size, value in difference.items()}

    @property
    def efficiency(self) -> dict[int, float]:
        """T1 / (2 T2): 1 if two devices halve the time, one half if they leave it as it is."""
        return {int(size): row[self.one] / (2 * row[self.two]) for size, row in self.seconds.iterrows()}

    @property
    def brackets(self) -> list[tuple[int, int]]:
        return bracket(self.more)

    @property
    def fitted(self) -> tuple[float, tuple[float, float] | None] | None:
        """The batch size at which the fitted lines cross, with its interval, where both lie within the sizes that ran. An end
        of the interval beyond them is infinite or 0."""
        if len(self.fits) < 2:
            return None
        one, two = self.fits
        low, high = self.seconds.index.min(), self.seconds.index.max()
        where = crossover(one.whole, two.whole, one.images)
        if where is None or not low <= where <= high or one.steps != two.steps:
            return None
        interval = crossover_interval(one.whole, two.whole, one.steps, one.images)
        if interval is None:
            return where, None
        return where, (interval[0] if interval[0] >= low else 0.0, interval[1] if interval[1] <= high else math.inf)


def paper_fits() -> list[Fitted]:
    """The fits of the paper's Table I, whose seconds are those of whole runs."""
    steps = [float(paper.EPOCHS * -(-paper.TRAIN_IMAGES // size)) for size in paper.BATCH_SIZES]
    images = paper.EPOCHS * paper.TRAIN_IMAGES
    found = [_fit(f"paper, {setup}", setup, steps, list(each), images, 0.0) for setup, each in paper.SECONDS.items()]
    return [each for each in found if each is not None]


def our_fits(table: pd.DataFrame) -> list[Fitted]:
    """The fits of our columns; one of fewer than three batch sizes has none."""
    parts = {name: values(table, f"seconds/{name}") for name in ("fit", "train")}
    steps, images = values(table, "steps"), values(table, "images")
    found = []
    for column, setup in dict(zip(table.column, table.setup, strict=True)).items():
        if column not in parts["fit"].index:
            continue
        whole = parts["fit"].loc[column].groupby("batch_size").mean()
        train = parts["train"].loc[column].groupby("batch_size").mean() if column in parts["train"].index else whole
        train = train.reindex(whole.index).dropna().sort_index()
        counts = steps.loc[column].groupby("batch_size").first().reindex(train.index)
        rest = float((whole.reindex(train.index) - train).mean())
        numbers = counts.tolist(), train.tolist(), int(images.loc[column].iloc[0])
        found.append(_fit(f"ours, {column}", setup, *numbers, rest))
    return [each for each in found if each is not None]


def _fit(label: str, setup: str, steps: list[float], seconds: list[float], images: int, rest: float) -> Fitted | None:
    line, absolute = fit_line(steps, seconds), fit_line(steps, seconds, relative=False)
    if line is None or absolute is None:
        return None
    return Fitted(label, setup, steps, seconds, images, line, absolute, fit_overlap(steps, seconds), rest)


def second_device(source: str, evidence: Evidence, fits: Sequence[Fitted]) -> Second | None:
    """What a second device did; None where one and two did not both run."""
    if (setups := pair(evidence)) is None or not (ratios := evidence.ratios("seconds/fit", *setups)):
        return None
    first = evidence.table("seconds/fit", setups[0])[setups[0]]
    if evidence.runs:
        # Of the seeds that both have.
        one, two = (evidence.runs["seconds/fit"].loc[evidence.columns[setup]] for setup in setups)
        first = one[one.index.isin(two.index)].groupby("batch_size").mean()
    pairs = {size: (math.exp(first[size]), math.exp(first[size] + each.log)) for size, each in sorted(ratios.items())}
    seconds = pd.DataFrame.from_dict(pairs, orient="index", columns=list(setups))
    of_setup = {each.setup: each for each in fits}
    both = tuple(of_setup[setup] for setup in setups) if set(setups) <= of_setup.keys() else ()
    return Second(source, *setups, seconds, ratios, both)


def predicted(one: Fitted) -> dict[int, tuple[float, float]]:
    """Seconds of two GPUs under DDP and those of one by batch size, both from the fit of one: the images' share halves, a step
    costs what it did and an exchange of the gradients that nothing hides."""
    line, exchange = one.line, GRADIENTS / LINK
    found = {}
    for steps in one.steps:
        size = min(paper.BATCH_SIZES, key=lambda each: abs(each * steps - one.images))
        found[size] = line.fixed / 2 + steps * (line.per_step + exchange), line.at(steps)
    return found
