"""The paper's claims as data, each with two questions: does a table say so, and does what it says go beyond noise?"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mnist_lightning import paper
from mnist_lightning.report.runs import TESTED
from mnist_lightning.report.stats import METRICS, Noise, holm
from mnist_lightning.report.step_time import fit_line

CPU, ONE, TWO = paper.SETUPS
TIME, ERRORS, LOSS = METRICS
LAST_SAVING = {CPU: 512, ONE: 256, TWO: 256}  # section IV.B


class Source(NamedTuple):
    """The paper's tables, or ours of the same setups: logarithms by metric, a row a batch size and a column a setup, NaN where
    nothing ran; and the noise of a cell."""

    name: str
    tables: Mapping[str, pd.DataFrame]
    noise: Mapping[str, Noise]

    def better(self, metric: str, one: str, two: str, least: int = 0) -> pd.Series:
        """The logarithm of `two` over `one` by batch size: above 0 where `one` is better. A LookupError if there is none."""
        found = (self.tables[metric][two] - self.tables[metric][one]).dropna()
        if found[found.index >= least].empty:
            raise LookupError(one, two)
        return found[found.index >= least]

    def of_gpus(self, metric: str) -> pd.Series:
        """How much better each number of GPUs is than the CPU, by setup and batch size."""
        gpus = [gpu for gpu in (ONE, TWO) if self.tables[metric][gpu].notna().any()]
        return pd.concat({gpu: self.better(metric, gpu, CPU) for gpu in gpus})

    def p(self, metric: str, cells: pd.Series) -> float:
        """Of the mean of such logarithms."""
        return self.noise[metric].p(cells.mean(), 2 / len(cells))


class Answer(NamedTuple):
    """Whether a table says so, None if it says nothing to it; in which numbers; and their p by chance."""

    yes: object
    told: str
    p: float = 1.0

    @property
    def says(self) -> str:
        return f"{'cannot say' if self.yes is None else 'yes' if self.yes else 'no'}, {self.told}"


class Claim(NamedTuple):
    """A claim, its place in the paper, and what a source answers. It raises an error of a missing value if runs are missing."""

    text: str
    place: str
    ask: Callable[[Source], Answer]


def judge(source: Source) -> list[tuple[Claim, Answer, bool]]:
    """What a source answers to each claim, and whether that goes beyond noise: p below 5 % by Holm's correction for all."""
    answers = []
    for claim in CLAIMS:
        try:
            answers.append(claim.ask(source))
        except (LookupError, TypeError, ValueError):  # of pandas and NumPy, for tables without rows
            answers.append(Answer(None, "since its runs are not there"))
    corrected = holm([min(1.0, answer.p) for answer in answers])
    return [(claim, answer, p < 0.05) for claim, answer, p in zip(CLAIMS, answers, corrected, strict=True)]


def published(late: Mapping[str, Noise]) -> Source:
    """The paper's tables. Its times scatter as they do around the lines that they follow, and its accuracy and loss as our late
    epochs do: each of its cells is one run at the end of one epoch."""
    errors = {setup: [TESTED * (1 - value) for value in column] for setup, column in paper.ACCURACY.items()}
    found = zip(METRICS, (paper.SECONDS, errors, paper.LOSS), strict=True)
    tables = {name: np.log(pd.DataFrame(table, index=list(paper.BATCH_SIZES))) for name, table in found}
    squares = [fit_line(paper.STEPS, seconds).scatter ** 2 for seconds in paper.SECONDS.values()]
    freedom = len(squares) * (len(paper.STEPS) - 2)
    return Source("the paper's tables", tables, {TIME: Noise(float(np.mean(squares)) ** 0.5, freedom), **late})


def ours(log: Mapping[str, pd.Series], setups: Mapping[str, str], noise: Mapping[str, Noise]) -> Source:
    """Our tables of the paper's setups.

    Args:
        log: By metric, logarithms by column, batch size and seed.
        setups: The column of each setup.
        noise: Of one run, by metric.
    """
    tables, cell_noise = {}, {}
    for metric, each in log.items():
        cells = each.groupby(["batch_size", "column"]).agg(["mean", "size"])
        table = cells["mean"].unstack().reindex(columns=[setups.get(setup) for setup in paper.SETUPS])
        tables[metric] = table.set_axis(list(paper.SETUPS), axis=1)
        deviation, freedom = noise[metric]
        cell_noise[metric] = Noise(deviation / cells["size"].min() ** 0.5, freedom)
    return Source("ours", tables, cell_noise)


def _count(cells: pd.Series) -> str:
    return f"{(cells > 0).sum()} of {len(cells)} cells"


def _faster(source: Source) -> Answer:
    cells = source.of_gpus(TIME)
    told = f"{np.exp(cells.min()):.1f} to {np.exp(cells.max()):.1f} times in {_count(cells)}"
    return Answer((cells > 0).all(), told, max(source.noise[TIME].p(each) for each in cells))


def _thirty_six(source: Source) -> Answer:
    table, best = source.tables[TIME], source.of_gpus(TIME).max()
    across = np.exp(table[CPU].max() - table[[ONE, TWO]].min().min())
    told = f"{np.exp(best):.1f}, or {across:.1f} between two batch sizes"
    return Answer(best >= np.log(36), told, source.noise[TIME].p(best - np.log(36)))


def _up_to(source: Source, metric: str, claimed: float) -> Answer:
    """“Up to”: the best of the cells of one GPU and two. A gain in accuracy goes beyond noise if that in errors does."""
    cells = gains = source.of_gpus(metric)
    if metric == ERRORS:
        right = np.log1p(-np.exp(source.tables[ERRORS]) / TESTED)
        gains = pd.concat({gpu: (right[gpu] - right[CPU]).dropna() for gpu in (ONE, TWO)})
    best, enough = gains.idxmax(), np.exp(gains) >= claimed
    told = f"{np.exp(gains[best]):.4g} at {best[1]}, in {enough.sum()} of {len(gains)} cells"
    return Answer(enough[best], told, len(cells) * source.noise[metric].p(cells[best]))


def _last_saving(source: Source) -> Answer:
    """Whether all steps up to the named one save more than any after it, in seconds and in percent."""
    seconds, rows, ps = np.exp(source.tables[TIME]), [], []
    for setup, last in LAST_SAVING.items():
        for small, large in pairwise(seconds[setup].dropna().index):
            before, after = seconds[setup][small], seconds[setup][large]
            rows.append((large <= last, before - after, 100 * (1 - after / before)))
            ps += [source.noise[TIME].p(np.log(before / after))] * (large == last)
    steps = pd.DataFrame(rows, columns=["before", "s", "%"]).groupby("before")
    least, most = steps.min().loc[True], steps.max().loc[False]
    percent = "yes" if least["%"] > most["%"] else "no"
    told = f"{least['s']:.1f} s or more to there, {most['s']:.1f} s or less after; in percent {percent}"
    return Answer(least["s"] > most["s"], told, max(ps))


def _until_2048(source: Source) -> Answer:
    cells = source.better(TIME, ONE, TWO)
    against = cells[(cells.index < 2048) & (cells < 0)]
    told = " and ".join(f"{-100 * np.expm1(each):.0f} % at {size}" for size, each in against.items())
    p = min((source.noise[TIME].p(each) * len(against) for each in against), default=source.p(TIME, cells))
    return Answer(against.empty, f"two save {told or 'nothing'}", p)


def _better_from_128(source: Source) -> Answer:
    cells = {gpu: [source.better(metric, gpu, CPU, 128) for metric in (ERRORS, LOSS)] for gpu in (ONE, TWO)}
    one, two = (pd.concat(each) for each in cells.values())
    p = max(source.p(metric, each) for metric, each in zip((ERRORS, LOSS), cells[ONE], strict=True))
    return Answer((one > 0).all(), f"one GPU in {_count(one)}, two in {_count(two)}", p)


def _predictable(source: Source) -> Answer:
    """By the scatter around a parabola over the batch size, and the F test of each two scatters."""
    less, ps = [], []
    for metric, other in product((ERRORS, LOSS), (CPU, TWO)):
        table = source.tables[metric].dropna()
        rough = {name: np.polyfit(np.log2(table.index), column, 2, full=True)[1][0] for name, column in table.items()}
        less.append(rough[ONE] < rough[other])
        ps.append(2 * stats.f.cdf(rough[ONE] / rough[other], len(table) - 3, len(table) - 3))
    return Answer(all(less), "by the scatter around a parabola", max(ps))


def _converge(source: Source) -> Answer:
    """Setups can meet at one batch size only if they are apart elsewhere by more than noise."""
    closest, ps = [], []
    for metric in (ERRORS, LOSS):
        between, noise = source.tables[metric].dropna().var(axis=1), source.noise[metric]
        closest.append(between.idxmin() == 1024)
        elsewhere = between.drop(1024) / noise.deviation**2
        ps.append(stats.f.sf(elsewhere.mean(), 2 * len(elsewhere), noise.freedom) if noise.freedom else 1.0)
    return Answer(all(closest), "they are closest there", max(ps))


def _mostly(source: Source, metric: str) -> Answer:
    cells = source.better(metric, ONE, TWO)
    return Answer((cells > 0).mean() > 0.5, f"in {_count(cells)}", source.p(metric, cells))


def _on_average(source: Source) -> Answer:
    cells = source.better(TIME, ONE, TWO)
    return Answer(cells.mean() > 0, f"two took {np.exp(cells.mean()):.2f} times the seconds", source.p(TIME, cells))


def _grows(source: Source) -> Answer:
    return Answer(None, "it has one network and one data set")


CLAIMS: Sequence[Claim] = (
    Claim("“using GPUs for training is faster than using a CPU”", "abstract", _faster),
    Claim("“up to 36 times faster than the CPU”", "abstract", _thirty_six),
    Claim("“up to 1.6 times less loss”", "abstract", partial(_up_to, metric=LOSS, claimed=1.6)),
    Claim("“up to 1.005 times more accuracy”", "abstract", partial(_up_to, metric=ERRORS, claimed=1.005)),
    Claim("“as the network architecture and the data-set grows, the GPUs become more efficient”", "abstract", _grows),
    Claim("the CPU's last “significant decrease in execution time” is at 512, the GPUs' at 256", "IV.B", _last_saving),
    Claim("“1 GPU performs better than 2 GPUs until the batch size is 2048”", "IV.B", _until_2048),
    Claim("“the GPU performs better than the CPU from a batch size of 128”", "IV.C, D", _better_from_128),
    Claim("1 GPU is “more predictable” than 2 GPUs and the CPU", "IV.C, D", _predictable),
    Claim("“at a batch size of 1024” the three converge", "IV.C, D", _converge),
    Claim("“most of the time, 1 GPU has more accuracy than 2 GPUs”", "IV.C", partial(_mostly, metric=ERRORS)),
    Claim("“most of the time, 1 GPU has less loss than 2 GPUs”", "IV.D", partial(_mostly, metric=LOSS)),
    Claim("“1GPU, on average, performed better” (time)", "V", _on_average),
)
