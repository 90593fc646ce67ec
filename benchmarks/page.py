"""The tables of a comparison, made from its measurements: `python benchmarks/page.py results/<machine>`."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from programs import OURS, OURS_BF16, PROGRAMS, RATIOS

MFLOP_AN_IMAGE = 71.6  # forward and backward, by counting all multiplications and additions of the layers
UNEVEN = 1.25  # a run whose slowest tenth of windows is so many times slower than its fastest tenth

Lines = list[dict[str, Any]]


def page(lines: Lines) -> str:
    """The page of one comparison, in Markdown.

    Args:
        lines: The machine, then the measurements, as `compare.py` keeps them.
    """
    machine = lines[0]["machine"]
    runs = [line for line in lines if "program" in line]
    sizes = sorted({run["batch_size"] for run in runs})
    rounds = max(run["round"] for run in runs)
    limits = {
        precision: [line["gflops"] for line in lines if line.get("limit") == precision]
        for precision in ("fp32", "bf16")
    }
    limit = {precision: statistics.median(values) for precision, values in limits.items()}
    share = {
        name: max(statistics.median(rates(runs, name, size)) for size in sizes)
        * MFLOP_AN_IMAGE
        / 1e3
        / limit[precision]
        for name, precision in ((OURS, "fp32"), (OURS_BF16, "bf16"))
    }
    head = ["", *map(str, sizes)]
    software = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "lightning", "commit"))
    parts = [
        "# Training images per second",
        (
            f"{machine['cores']} cores of an {machine['processor']} (family {machine['family']}, model {machine['model']}, "
            f"stepping {machine['stepping']}; {machine['vectors']}), {machine['memory_gib']} GiB. Products of matrices in the "
            f"same hours: {spread(limits['fp32'])} GFLOP/s in fp32, {spread(limits['bf16'])} in bf16. {software}; load before "
            f"{machine['load_before']}."
        ),
        (
            f"{rounds} rounds, all programs in turn. A run trains epochs of {lines[0]['images']:,} images, in whole batches, until at least "
            "20 seconds are timed. Each cell: the median of the runs and, in brackets, the slowest and the fastest. A run "
            f"whose windows of 6,000 images differ by more than {UNEVEN - 1:.0%} is counted behind the brackets: `!1` is one."
        ),
        table(head, [[name, *(cell(runs, name, size) for size in sizes)] for name in PROGRAMS]),
        "The same by the median window of each run, which a disturbance of some seconds does not change:",
        table(head, [[name, *(spread(windows(runs, name, size)) for size in sizes)] for name in PROGRAMS]),
        "Ratios, each of two runs of one round: the median and the range.",
        table(
            head, [[f"{one} / {other}", *(ratio(runs, one, other, size) for size in sizes)] for one, other in RATIOS]
        ),
        (
            f"The layers computed whole take {MFLOP_AN_IMAGE} MFLOP an image. At its best batch size `fit` trains "
            f"{share[OURS]:.2f} times as many images as the machine's rate in fp32 would give by that, and "
            f"{share[OURS_BF16]:.2f} times in bf16: it computes less."
        ),
    ]
    return "\n\n".join(parts) + "\n"


def rates(runs: Lines, name: str, size: int) -> list[float]:
    """Images per second of a program's runs, in the order of the rounds."""
    return [run["images_per_second"] for run in runs if (run["program"], run["batch_size"]) == (name, size)]


def windows(runs: Lines, name: str, size: int) -> list[float]:
    """The median window of each run."""
    return [statistics.median(run["windows"]) for run in runs if (run["program"], run["batch_size"]) == (name, size)]


def cell(runs: Lines, name: str, size: int) -> str:
    uneven = sum(is_uneven(run["windows"]) for run in runs if (run["program"], run["batch_size"]) == (name, size))
    return spread(rates(runs, name, size)) + f" !{uneven}" * (uneven > 0)


def is_uneven(found: list[float]) -> bool:
    """Whether a run's speed changed while it ran: its windows come in steps, or something disturbed it."""
    tenths = statistics.quantiles(found, n=10) if len(found) > 1 else [1.0]
    return tenths[-1] / tenths[0] > UNEVEN


def ratio(runs: Lines, one: str, other: str, size: int) -> str:
    pairs = zip(rates(runs, one, size), rates(runs, other, size), strict=True)
    return spread([ours / theirs for ours, theirs in pairs], ".2f")


def spread(values: list[float], form: str = ".0f") -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}}–{high:{form}})"


def table(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    measured = [json.loads(line) for line in (folder / "benchmarks.jsonl").read_text().splitlines()]
    (folder / "benchmarks.md").write_text(page(measured))
