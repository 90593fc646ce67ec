"""The paper's claims as data, each with two questions: does a table say so, and does what it says go beyond noise?"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from mnist_lightning import paper
from mnist_lightning.report.runs import TESTED
from mnist_lightning.report.stats import ERRORS, LOSS, TIME, Noise

CPU, ONE, TWO = paper.SETUPS
GPUS, PAIR = ((ONE, CPU), (TWO, CPU)), (ONE, TWO)
LAST_SAVING = {CPU: 512, ONE: 256, TWO: 256}  # section IV.B


class Source(NamedTuple):
    """The paper's tables, or ours of the same setups: logarithms by metric, a row a batch size and a column a setup, NaN where
    nothing ran; and the noise of a cell."""

    name: str
    tables: Mapping[str, pd.DataFrame]
    noise: Mapping[str, Noise]

    def better(self, metric: str, *pairs: tuple[str, str], least: int = 0) -> pd.Series:
        """The logarithm of the second setup of each pair over the first, by pair and batch size: above 0 where the first is better.
        A LookupError if there is none."""
        each = pd.concat({pair: self.tables[metric][pair[1]] - self.tables[metric][pair[0]] for pair in pairs}).dropna()
        if (found := each[each.index.get_level_values(-1) >= least]).empty:
            raise LookupError(metric)
        return found


class Answer(NamedTuple):
    """Whether a table says so, None if it says nothing to it; in which numbers; and their p by chance."""

    yes: object
    told: str
    p: float = 1.0


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
    sure = multipletests([min(1.0, answer.p) for answer in answers], method="holm")[0]
    return list(zip(CLAIMS, answers, sure, strict=True))


def _side(source: Source, share: float, metrics: Sequence[str], *pairs: tuple[str, str], least: int = 0) -> Answer:
    """Whether the first setup of each pair is better, on average and in a share of the cells."""
    found = {metric: source.better(metric, *pairs, least=least) for metric in metrics}
    cells = pd.concat(found)
    told = f"{np.exp(cells.mean()):.2f} times better on average, in {(cells > 0).sum()} of {len(cells)} cells"
    p = max(source.noise[metric].p(each.mean(), 2 / len(each)) for metric, each in found.items())
    return Answer(cells.mean() > 0 and (cells > 0).mean() >= share, told, p)


def _thirty_six(source: Source) -> Answer:
    table, best = source.tables[TIME], source.better(TIME, *GPUS).max()
    across = np.exp(table[CPU].max() - table[[ONE, TWO]].min().min())
    told = f"{np.exp(best):.1f}; {across:.1f} between two batch sizes"
    return Answer(best >= np.log(36), told, source.noise[TIME].p(best - np.log(36)))


def _up_to(source: Source, metric: str, claimed: float) -> Answer:
    """“Up to”: the best of the cells of one GPU and two. A gain in accuracy goes beyond noise if that in errors does."""
    wrong = -np.log1p(-np.exp(source.tables[ERRORS]) / TESTED)  # above 0, as are losses: less is better
    gains = source._replace(tables={**source.tables, ERRORS: wrong}).better(metric, *GPUS)
    best, enough = gains.idxmax(), np.exp(gains) >= claimed
    told = f"{np.exp(gains[best]):.4g} at {best[-1]}, in {enough.sum()} of {len(gains)} cells"
    return Answer(enough[best], told, len(gains) * source.noise[metric].p(source.better(metric, *GPUS)[best]))


def _last_saving(source: Source) -> Answer:
    """Whether all steps up to the named one save more than any after it, in seconds and in percent."""
    logs = {setup: source.tables[TIME][setup].dropna() for setup in LAST_SAVING}
    each = {setup: pd.DataFrame({"s": -np.exp(log).diff(), "%": -log.diff()}) for setup, log in logs.items()}
    steps = pd.concat(each).dropna().groupby(lambda step: step[1] <= LAST_SAVING[step[0]])
    least, most = steps.min().loc[True], steps.max().loc[False]
    percent = "yes" if least["%"] > most["%"] else "no"
    told = f"{least['s']:.1f} s or more to there, {most['s']:.1f} s or less after; in percent {percent}"
    return Answer(least["s"] > most["s"], told, source.noise[TIME].p(least["%"]))


def _until_2048(source: Source) -> Answer:
    cells, noise = source.better(TIME, PAIR).droplevel([0, 1]), source.noise[TIME]
    against = cells[(cells.index < 2048) & (cells < 0)]
    told = ", ".join(f"{-100 * np.expm1(each):.0f} % at {size}" for size, each in against.items())
    p = min((noise.p(each) * len(against) for each in against), default=noise.p(cells.mean(), 2 / len(cells)))
    return Answer(against.empty, f"two save {told or 'nothing'}", p)


def _from_128(source: Source) -> Answer:
    return _side(source, 1.0, [ERRORS, LOSS], GPUS[0], least=128)


def _converge(source: Source) -> Answer:
    """Some batch size is always that of the closest setups, so that noise is not asked."""
    closest = [source.tables[metric].dropna().var(axis=1).idxmin() for metric in (ERRORS, LOSS)]
    return Answer(set(closest) == {1024}, f"accuracy is closest at {closest[0]}, loss at {closest[1]}")


CLAIMS: Sequence[Claim] = (
    Claim("“using GPUs for training is faster than using a CPU”", "abstract", lambda s: _side(s, 1.0, [TIME], *GPUS)),
    Claim("“up to 36 times faster”", "abstract", _thirty_six),
    Claim("“up to 1.6 times less loss”", "abstract", lambda s: _up_to(s, LOSS, 1.6)),
    Claim("“up to 1.005 times more accuracy”", "abstract", lambda s: _up_to(s, ERRORS, 1.005)),
    Claim("GPUs “become more efficient” as network and data grow", "abstract", lambda _: Answer(None, "one of each")),
    Claim("the CPU's last “significant decrease in execution time” is at 512, the GPUs' at 256", "IV.B", _last_saving),
    Claim("“1 GPU performs better than 2 GPUs until” 2048", "IV.B", _until_2048),
    Claim("“the GPU performs better than the CPU from a batch size of 128”", "IV.C, D", _from_128),
    Claim("1 GPU is “more predictable” than 2 and the CPU", "IV.C, D", lambda _: Answer(None, "a cell is one run")),
    Claim("“at a batch size of 1024” the three converge", "IV.C, D", _converge),
    Claim("“most of the time, 1 GPU has more accuracy than 2 GPUs”", "IV.C", lambda s: _side(s, 0.5, [ERRORS], PAIR)),
    Claim("“most of the time, 1 GPU has less loss than 2 GPUs”", "IV.D", lambda s: _side(s, 0.5, [LOSS], PAIR)),
    Claim("“1GPU, on average, performed better” (time)", "V", lambda s: _side(s, 0.0, [TIME], PAIR)),
)
