"""The paper's claims, each judged on the paper's own tables and on ours by the same rules."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mnist_lightning.report.evidence import Evidence
from mnist_lightning.report.seeds import Estimate, average
from mnist_lightning.report.verdicts import (
    NOTHING,
    WORDS,
    Cells,
    Verdict,
    every_cell,
    least_seen,
    on_average,
    some_cell,
    variances,
    with_interval,
)

SIGNIFICANT = 0.02  # the share of the time that a doubled batch has to save
GPUS = ("1xgpu", "2xgpu")
NAMES = {"seconds/fit": "time", "errors": "accuracy", "val/loss": "loss"}


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, where it stands, and the function that judges it. `reading` tells readings apart."""

    text: str
    place: str
    check: Callable[[Evidence], Verdict]
    reading: str = ""


def pair(evidence: Evidence) -> tuple[str, str] | None:
    """One device and two: GPUs if they have run, else processes on a CPU."""
    pairs = (GPUS, ("1xcpu", "2xcpu"))
    return next((each for each in pairs if evidence.has("seconds/fit", *each) or evidence.has("errors", *each)), None)


def _up_to(metric: str, claimed: float) -> Callable[[Evidence], Verdict]:
    def check(evidence: Evidence) -> Verdict:
        cells = {
            (f"1xcpu / {gpu}", size): each
            for gpu in GPUS
            for size, each in evidence.ratios(metric, gpu, "1xcpu").items()
        }
        return some_cell(cells, claimed)

    return check


def _across_sizes(evidence: Evidence) -> Verdict:
    table = evidence.tables["seconds/fit"]
    gpus = table.reindex(columns=list(GPUS)).stack().dropna()
    if "1xcpu" not in table or gpus.empty:
        return NOTHING
    deviation, freedom = evidence.noise["seconds/fit"].at(int(table.index[0]))
    slowest, fastest = table["1xcpu"].idxmax(), gpus.idxmin()
    best = Estimate(float(table["1xcpu"].max() - gpus.min()), deviation * math.sqrt(2), freedom)
    what = f"{with_interval(best)}, 1xcpu at batch size {slowest} / {fastest[1]} at {fastest[0]}"
    return Verdict(WORDS[best.judge(36)], what, best.seen())


def _more_accurate(evidence: Evidence) -> Verdict:
    cells = {(f"{gpu} / 1xcpu", size): each for gpu in GPUS for size, each in evidence.accuracies("1xcpu", gpu).items()}
    verdict = some_cell(cells, 1.005)
    if cells:
        best = max(cells.items(), key=lambda item: item[1].log)
        low, high = best[1].interval(len(cells))
        interval = "" if low == high or math.isinf(high) else f" ({low:.5f} to {high:.5f})"
        agree = sum(each.ratio >= 1.005 for each in cells.values())
        what = f"{best[1].ratio:.5f}{interval} at most, {best[0][0]} at batch size {best[0][1]}; {agree} of {len(cells)} cells"
        return Verdict(verdict.word, what, verdict.seen)
    return verdict


def _better(metrics: Sequence[str], gpus: Sequence[str], least: int = 0) -> Callable[[Evidence], Verdict]:
    """The GPUs have less of these than the CPU, at each batch size from the least on."""

    def check(evidence: Evidence) -> Verdict:
        return every_cell(
            {
                (f"{gpu}, {NAMES[metric]}", size): each
                for gpu in gpus
                for metric in metrics
                for size, each in evidence.ratios(metric, gpu, "1xcpu").items()
                if size >= least
            }
        )

    return check


def _one_before_two(
    metric: str, rule: Callable[[Cells], Verdict], below: int = 1 << 30
) -> Callable[[Evidence], Verdict]:
    """One device has less seconds, errors or loss than two."""

    def check(evidence: Evidence) -> Verdict:
        if (setups := pair(evidence)) is None:
            return NOTHING
        cells = evidence.ratios(metric, *setups)
        return rule({(f"{setups[1]} / {setups[0]}", size): each for size, each in cells.items() if size < below})

    return check


def _last_saving(evidence: Evidence) -> Verdict:
    """A doubled batch saves something up to the size that the paper names, and nothing after it."""
    found: list[str] = []
    judged: list[int] = []
    decisive: list[Estimate] = []
    for setup, last in (("1xcpu", 512), ("1xgpu", 256), ("2xgpu", 256)):
        steps = evidence.steps("seconds/fit", setup)
        if not {last, 2 * last} <= steps.keys():
            continue  # the step to it, or the one after it, was not run
        saving = [size for size, each in steps.items() if each.ratio <= 1 - SIGNIFICANT]
        after = {size: each for size, each in steps.items() if size > last}
        to, beyond = with_interval(steps[last]), with_interval(steps[2 * last], len(after))
        found.append(
            f"{setup}: {last} takes {to} times the seconds of half as many, {2 * last} {beyond}, and the last size that "
            f"saves 2 % or more is {max(saving, default='none')}"
        )
        decisive += [steps[last], steps[2 * last]]
        judged.append(-steps[last].judge(1 - SIGNIFICANT))
        judged += [each.judge(1 - SIGNIFICANT, len(after)) for each in after.values()]
    if not judged:
        return NOTHING
    return Verdict(WORDS[min(judged)], "; ".join(found), least_seen(decisive))


def _meet_at_1024(metric: str) -> Callable[[Evidence], Verdict]:
    def check(evidence: Evidence) -> Verdict:
        table = evidence.table(metric)
        setups, sizes = len(table.columns), len(table) - 1
        if setups < 2 or sizes < 1 or 1024 not in table.index:
            return NOTHING
        between = table.var(axis=1)
        others = float(between.drop(1024).mean())
        what = f"closest at {between.idxmin()}; variance between setups at 1024 / elsewhere"
        return variances((float(between[1024]), setups - 1), (others, (setups - 1) * sizes), what)

    return check


def _smooth(metric: str, other: str) -> Callable[[Evidence], Verdict]:
    """Whether one GPU's curve over the batch size is smoother than another setup's."""

    def check(evidence: Evidence) -> Verdict:
        import numpy as np

        table = evidence.table(metric, "1xgpu", other)
        free = len(table) - 3
        if free < 1:
            return NOTHING
        size = np.log2(table.index.to_numpy(float))
        rough = [
            float(((table[name] - np.polyval(np.polyfit(size, table[name], 2), size)) ** 2).sum() / free)
            for name in ("1xgpu", other)
        ]
        what = f"variance around a parabola, 1xgpu / {other}:"
        return variances((rough[0], free), (rough[1], free), what)

    return check


def _grows_with_network(evidence: Evidence) -> Verdict:
    if not evidence.growth:
        return NOTHING
    mean = average(evidence.growth)
    what = f"T1 / T2 grows as MFLOP an image to the power of {mean.log:.3f} ± {mean.half():.3f}"
    return Verdict(WORDS[mean.judge()], what)


def _grows_with_data(evidence: Evidence) -> Verdict:
    """What two devices gain in long runs, over what they gain in a run of one epoch.

    Steps and images grow alike with the data, so that only the costs of the start can make a difference.
    """
    if (setups := pair(evidence)) is None:
        return NOTHING
    cells = evidence.ratios("first_epoch", *setups)
    return on_average(
        {("T1 / T2 in the long run / in one epoch", size): each for size, each in cells.items()}, 1 + SIGNIFICANT
    )


GROWS = "“as the network architecture and the data-set grows, the GPUs become more efficient”"
FASTER = "“The GPU was up to 36 times faster than the CPU”"
CLAIMS = (
    Claim("“using GPUs for training is faster than using a CPU”", "abstract", _better(("seconds/fit",), GPUS)),
    Claim(FASTER, "abstract", _up_to("seconds/fit", 36), "at least 36, at one batch size"),
    Claim(FASTER, "abstract", _across_sizes, "at least 36, at any two batch sizes"),
    Claim("“up to 1.6 times less loss”", "abstract", _up_to("val/loss", 1.6), "at least 1.6"),
    Claim("“up to 1.005 times more accuracy”", "abstract", _more_accurate, "at least 1.005"),
    Claim(
        "“the GPU performs better than the CPU from a batch size of 128”",
        "IV.C, IV.D",
        _better(("errors", "val/loss"), GPUS[:1], 128),
        "one GPU",
    ),
    Claim(
        "“the GPU performs better than the CPU from a batch size of 128”",
        "IV.C, IV.D",
        _better(("errors", "val/loss"), GPUS, 128),
        "either",
    ),
    Claim(
        "“1 GPU performs better than 2 GPUs until the batch size is 2048” (time)",
        "IV.B",
        _one_before_two("seconds/fit", every_cell, 2048),
    ),
    Claim(
        "“for the CPU, 512 batches is the last point where there is a significant decrease in execution time and for "
        f"the GPUs is 256” (read as {SIGNIFICANT:.0%} or more)",
        "IV.B",
        _last_saving,
    ),
    *(
        Claim(f"“most of the time, 1 GPU has {words} than 2 GPUs”", place, _one_before_two(metric, on_average))
        for metric, words, place in (("errors", "more accuracy", "IV.C"), ("val/loss", "less loss", "IV.D"))
    ),
    Claim(GROWS, "abstract", _grows_with_network, "network: two devices gain more where it is larger"),
    Claim(
        GROWS,
        "abstract",
        _grows_with_data,
        f"data: two devices gain {SIGNIFICANT:.0%} more in a long run than in one epoch",
    ),
    Claim("“1GPU, on average, performed better” than two", "V", _one_before_two("seconds/fit", on_average), "time"),
    *(
        Claim("1 GPU is “more predictable” than", place, _smooth(metric, other), f"{other}: {NAMES[metric]}")
        for metric, place in (("errors", "IV.C"), ("val/loss", "IV.D"))
        for other in ("1xcpu", "2xgpu")
    ),
    *(
        Claim("“at a batch size of 1024” the three experiments converge", place, _meet_at_1024(metric), NAMES[metric])
        for metric, place in (("errors", "IV.C"), ("val/loss", "IV.D"))
    ),
)
