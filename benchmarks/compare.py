"""Runs ours and all peers in turn, several rounds, and writes one table of medians with ratios.

Only ratios taken in one call count: the speed of a shared machine drifts, and interleaving lets it drift for all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
BATCH_SIZES = (32, 128, 512, 2048)
MFLOP_AN_IMAGE = 71.6  # forward and backward, by counting the layers' multiplications and additions
OURS, OURS_BF16 = "this project", "this project, bf16"
TWO, TWO_BF16 = "this project, 2xcpu", "this project, 2xcpu, bf16"
RAW, RAW_BF16 = "raw loop", "raw loop, bf16"
KERAS, KERAS_BF16 = "Keras", "Keras, mixed_bfloat16"
TUTORIAL, EXAMPLE = "PyTorch tutorial", "Lightning example"
PROGRAMS = {
    OURS: ("fit", "fp32"),
    TWO: ("fit", "fp32"),
    RAW: ("raw_loop.py", "fp32"),
    KERAS: ("keras_paper.py", "fp32"),
    TUTORIAL: ("pytorch_tutorial.py", "fp32"),
    EXAMPLE: ("lightning_example.py", "fp32"),
    OURS_BF16: ("fit", "bf16"),
    TWO_BF16: ("fit", "bf16"),
    RAW_BF16: ("raw_loop.py", "bf16"),
    KERAS_BF16: ("keras_paper.py", "bf16"),
}
# Whose rate is divided by whose. `best` takes the peer's fastest run: Keras has two modes, by run.
RATIOS = (
    (OURS, KERAS, "best"),
    (OURS, TUTORIAL, "median"),
    (OURS, EXAMPLE, "median"),
    (OURS_BF16, KERAS_BF16, "best"),
    (OURS_BF16, KERAS, "best"),
    (OURS, RAW, "median"),
    (OURS_BF16, RAW_BF16, "median"),
    (TWO, OURS, "median"),
    (TWO_BF16, OURS_BF16, "median"),
)
Rates = dict[tuple[str, int], list[float]]


def main() -> int:
    """Measures, prints the tables and writes them; refuses a machine that has other work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=8192, help="Training images that each run times.")
    parser.add_argument("--data_dir", type=Path, default=Path("data"))
    parser.add_argument("--keras_python", type=Path, default=HERE / ".keras" / "bin" / "python")
    parser.add_argument("--output", type=Path, required=True, help="Folder, such as results/<machine>.")
    options = parser.parse_args()
    if not options.keras_python.exists():
        return refuse(f"keras_python {options.keras_python} is not there: make it as benchmarks/README.md says.")
    load = os.getloadavg()[0]
    if load > 0.5:
        return refuse(f"the machine has other work (load {load:.2f}): wait until it is idle.")

    rates: Rates = defaultdict(list)
    limits: dict[str, list[float]] = defaultdict(list)
    for number in range(options.rounds):
        for precision in ("fp32", "bf16"):
            line = run([sys.executable, HERE / "limit.py", f"--precision={precision}"])
            limits[precision].append(line["gflops"])
        for batch_size in BATCH_SIZES:
            for name in PROGRAMS:
                rate = measure(name, batch_size, options)
                rates[name, batch_size].append(rate)
                print(f"round {number + 1}: {name}, batch size {batch_size}: {rate:.0f}", file=sys.stderr)
    text = page(rates, limits, load, options)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "benchmarks.md").write_text(text)
    raw = [{"program": name, "batch_size": size, "images_per_second": values} for (name, size), values in rates.items()]
    lines = [json.dumps(line) for line in [*raw, {"gflops": limits}]]
    (options.output / "benchmarks.jsonl").write_text("\n".join(lines) + "\n")
    print(text)
    return 0


def refuse(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 2


def measure(name: str, batch_size: int, options: argparse.Namespace) -> float:
    """Training images per second of one run of one program."""
    program, precision = PROGRAMS[name]
    if name in (OURS, OURS_BF16, TWO, TWO_BF16):
        return fit(batch_size, precision, 2 if name in (TWO, TWO_BF16) else 1, options)
    python = options.keras_python if program.startswith("keras") else sys.executable
    settings = [f"--batch_size={batch_size}", f"--images={options.images}", f"--data_dir={options.data_dir}"]
    # The programs whose precision is no choice have no such option.
    choice = [] if name in (TUTORIAL, EXAMPLE) else [f"--precision={precision}"]
    return run([python, HERE / program, *settings, *choice])["images_per_second"]


def fit(batch_size: int, precision: str, devices: int, options: argparse.Namespace) -> float:
    """One epoch of `fit` itself, cut to the number of images."""
    with tempfile.TemporaryDirectory() as logs:
        command = [
            *(sys.executable, "-m", "mnist_lightning", "fit"),
            f"--data.batch_size={batch_size}",
            f"--data.data_dir={options.data_dir}",
            "--data.source=mnist",
            "--trainer.accelerator=cpu",
            f"--trainer.devices={devices}",
            "--trainer.max_epochs=1",
            f"--trainer.limit_train_batches={max(1, options.images // batch_size)}",
            f"--trainer.logger.save_dir={logs}",
            f"--trainer.precision={'bf16-mixed' if precision == 'bf16' else '32-true'}",
        ]
        subprocess.run(command, check=True, capture_output=True)
        (summary,) = Path(logs).rglob("summary.json")
        return json.loads(summary.read_text())["by_epoch"]["images_per_second"][0]


def run(command: list[str | Path]) -> dict[str, float]:
    """The one line that a program prints last."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def page(rates: Rates, limits: dict[str, list[float]], load: float, options: argparse.Namespace) -> str:
    """The page of one comparison, in Markdown."""
    import torch

    from mnist_lightning.measure.machine import describe_machine

    machine = describe_machine(torch.device("cpu"), "", load)
    facts = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "lightning", "commit"))
    limit = {precision: statistics.median(values) for precision, values in limits.items()}
    best = {
        precision: max(
            statistics.median(rates[name, size]) * MFLOP_AN_IMAGE / 1e3 / limit[precision] for size in BATCH_SIZES
        )
        for name, precision in ((OURS, "fp32"), (OURS_BF16, "bf16"))
    }
    measured = (
        f"{machine['cores']} cores of an {machine['processor']}, {machine['memory_gib']} GiB; {facts}; load before "
        f"{machine['load_before']}. {options.rounds} rounds, all programs in turn, {options.images} images each; "
        "median and, in brackets, slowest and fastest."
    )
    share = (
        f"The machine multiplies matrices at {limit['fp32']:.0f} GFLOP/s in fp32 and {limit['bf16']:.0f} in bf16. At "
        f"{MFLOP_AN_IMAGE} MFLOP an image, `fit` comes to {best['fp32']:.0%} of the first and {best['bf16']:.0%} of "
        "the second at its best batch size."
    )
    lines = [
        "# Training images per second",
        measured,
        table(["program", *map(str, BATCH_SIZES)], [[name, *spreads(rates, name)] for name in PROGRAMS]),
        "Ratios of medians; where the fastest run of a peer is taken, the row says so.",
        table(["ratio", *map(str, BATCH_SIZES)], [ratios(rates, *row) for row in RATIOS]),
        share,
    ]
    return "\n\n".join(lines) + "\n"


def spreads(rates: Rates, name: str) -> list[str]:
    cells = (rates[name, size] for size in BATCH_SIZES)
    return [f"{statistics.median(cell):.0f} ({min(cell):.0f}–{max(cell):.0f})" for cell in cells]


def ratios(rates: Rates, ours: str, peer: str, which: str) -> list[str]:
    against = max if which == "best" else statistics.median
    cells = (statistics.median(rates[ours, size]) / against(rates[peer, size]) for size in BATCH_SIZES)
    return [f"{ours} / {peer}{' (its fastest run)' * (which == 'best')}", *(f"{cell:.2f}" for cell in cells)]


def table(head: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


if __name__ == "__main__":
    sys.exit(main())
