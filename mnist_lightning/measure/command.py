"""`machine`: what this machine gives, beside the machines of recorded runs, and how long the paper's grid takes on it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from mnist_lightning import paper
from mnist_lightning.measure.disturbance import rate
from mnist_lightning.parsing import function_command
from mnist_lightning.report.columns import SHORT, is_papers, left_out, machines
from mnist_lightning.report.runs import Run, read_runs
from mnist_lightning.runs.layout import SUMMARY

TOLD = ("processor", "family", "model", "stepping", "vectors", "cores", "threads", "hypervisor", "gpu")
NAMES = {"fp32_gflops": "fp32 GFLOP/s", "bf16_gflops": "bf16 GFLOP/s", "copy_gb_per_second": "copy GB/s"}


def machine(results: Path = Path("results")) -> int:
    """Measures the machine for less than a second and sets it beside those of recorded runs.

    Args:
        results: Folder that holds calibrated runs.

    Returns:
        0.

    Raises:
        SettingError: If a run cannot be read.
    """
    import torch

    from mnist_lightning.measure.calibration import RATES, best_of_rounds
    from mnist_lightning.measure.machine import describe_machine

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here = describe_machine(device, "32-true", 0.0)
    rates = best_of_rounds(NAMES, lambda name: RATES[name](device))
    print("\n".join(f"{name:<12}{here[name]}" for name in TOLD if name in here))
    recorded = read_runs([results]) if any(results.rglob(f"version_*/{SUMMARY}")) else []
    runs = [run for run in recorded if run.summary.get("calibration")]
    print("\n" + compared(rates, runs))
    if runs:
        setups = {f"{number}x{'gpu' if device.type == 'cuda' else 'cpu'}": number for number in (1, 2)}
        if device.type == "cuda":
            setups = {name: number for name, number in setups.items() if number <= torch.cuda.device_count()}
        print("\n" + expected(rates, setups, runs))
    else:
        print(f"\nThere is no calibrated run in {results}, so that nothing says how long the paper's grid takes here.")
    return 0


def compared(rates: Mapping[str, float], runs: Sequence[Run]) -> str:
    """The rates of this machine, and the medians of those of the machines that the runs of one device were on."""
    rows = {"this machine": rates}
    number = {run: each for run, each in machines(runs).items() if run.summary["setup"].startswith("1x")}
    for each in sorted(set(number.values())):
        of_it = [run.summary for run in number if number[run] == each]
        found = {
            name: median(moment[name] for summary in of_it for moment in summary["calibration"].values())
            for name in NAMES
        }
        rows[f"machine {each} of the results, {of_it[0]['machine'].get('gpu') or of_it[0]['machine']['processor']}"] = (
            found
        )
    width = max(map(len, rows)) + 2
    lines = [" " * width + "".join(f"{name:>15}" for name in NAMES.values())]
    lines += [f"{name:<{width}}" + "".join(f"{each[kind]:15.1f}" for kind in NAMES) for name, each in rows.items()]
    return "\n".join(lines)


def expected(rates: Mapping[str, float], setups: Mapping[str, int], runs: Sequence[Run]) -> str:
    """How long the paper's grid takes here: the seconds of the recorded runs, times their rate over the one of this machine.

    Args:
        rates: Of this machine, of one GPU if it has some.
        setups: Those that this machine has, with the number of their devices.
        runs: Calibrated ones.
    """
    cells: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    out = left_out(runs)
    for run in runs:
        summary: Mapping[str, Any] = run.summary
        setup, precision, size = summary["setup"], summary["machine"]["precision"], summary["batch_size"]
        there = rate(summary, "before")
        if not (is_papers(run) and setup in setups and there and run not in out and size in paper.BATCH_SIZES):
            continue
        own = rates["bf16_gflops" if precision.startswith("bf16") else "fp32_gflops"]
        own *= setups[setup] if setup.endswith("gpu") else 1
        an_epoch = summary["metrics"]["seconds/fit"] / summary["epochs"]
        cells[setup, precision][size].append(paper.EPOCHS * an_epoch * there / own)
    lines = [
        f"  {setup}, {SHORT.get(precision, precision)}: about {sum(map(median, sizes.values())) / 60:.0f} minutes a seed"
        + ("" if len(sizes) == len(paper.BATCH_SIZES) else f", for the {len(sizes)} batch sizes that were recorded")
        for (setup, precision), sizes in sorted(cells.items())
    ]
    if not lines:
        return "None of the recorded runs is of a setup of this machine, so that nothing says how long the paper's grid takes."
    said = "The paper's grid, if each run reaches the share of this machine's rate that the recorded runs reached of theirs:"
    return "\n".join([said, *lines])


def main() -> int:
    """Runs the command."""
    return function_command.run(machine)
