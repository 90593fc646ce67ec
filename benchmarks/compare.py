"""Runs ours and all peers in turn, several rounds, and keeps every measurement; page.py makes the tables of them.

Only ratios taken in one round count: the speed of a shared machine drifts, and interleaving lets it drift for all.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from page import page
from programs import BATCH_SIZES, PROGRAMS, Program

HERE = Path(__file__).parent


def main() -> int:
    """Measures, prints the tables and writes them. Refuses a machine that has other work, and code without a commit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=60000, help="Training images of an epoch.")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=list(BATCH_SIZES))
    parser.add_argument("--data_dir", type=Path, default=Path("data"))
    parser.add_argument("--keras_python", type=Path, default=HERE / ".keras" / "bin" / "python")
    parser.add_argument("--output", type=Path, required=True, help="Folder, such as results/<machine>.")
    options = parser.parse_args()
    if not options.keras_python.exists():
        return refuse(f"keras_python {options.keras_python} is not there: make it as benchmarks/README.md says.")
    load = os.getloadavg()[0]
    if load > 0.5:
        return refuse(f"the machine has other work (load {load:.2f}): wait until it is idle.")
    machine = describe(load)
    if str(machine["commit"]).endswith("+"):
        return refuse("the code differs from its commit: commit it first, so that the numbers can be had again.")

    options.output.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    with (options.output / "benchmarks.jsonl").open("w") as file:
        for line in measurements(machine, options):
            print(json.dumps(line), file=file, flush=True)
            lines.append(line)
    text = page(lines)
    (options.output / "benchmarks.md").write_text(text)
    print(text)
    return 0


def measurements(machine: dict[str, Any], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The machine, then the line of each measurement when it is there."""
    yield {"machine": machine, "images": options.images}
    for number in range(1, options.rounds + 1):
        for precision in ("fp32", "bf16"):
            limit = run([sys.executable, HERE / "limit.py", f"--precision={precision}"])
            yield {"round": number, "limit": precision, "gflops": limit["gflops"]}
        for batch_size in options.batch_sizes:
            for name, program in PROGRAMS.items():
                found = measure(program, batch_size, options)
                rate = found["images_per_second"]
                print(f"round {number}: {name}, batch size {batch_size}: {rate:.0f}", file=sys.stderr)
                yield {"round": number, "program": name, **found}


def refuse(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 2


def describe(load: float) -> dict[str, str | int | float]:
    import torch

    from mnist_lightning.measure.machine import describe_machine

    return describe_machine(torch.device("cpu"), "", load)


def measure(program: Program, batch_size: int, options: argparse.Namespace) -> dict[str, Any]:
    """The line of one run of one program: batch size, seconds, images per second, windows."""
    if program.file == "fit":
        return fit(batch_size, program, options)
    python = options.keras_python if program.file == "keras_paper.py" else sys.executable
    settings = [f"--batch_size={batch_size}", f"--images={options.images}", f"--data_dir={options.data_dir}"]
    # The programs whose precision is no choice have no such option.
    choice = [f"--precision={program.precision}"] if program.has_precisions else []
    return run([python, HERE / program.file, *settings, *choice], KERAS_BACKEND="tensorflow")


def fit(batch_size: int, program: Program, options: argparse.Namespace) -> dict[str, Any]:
    """`fit` itself; a callback times its steps as the other programs time theirs."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "mnist_lightning", "fit"),
            f"--data.batch_size={batch_size}",
            f"--data.data_dir={options.data_dir}",
            "--data.source=mnist",
            "--trainer.accelerator=cpu",
            "--trainer.max_epochs=1000",  # the callback ends it
            f"--trainer.limit_train_batches={max(1, options.images // batch_size)}",
            "--trainer.limit_val_batches=0",  # as the others, which do not validate
            f"--trainer.logger.save_dir={folder}",
            f"--trainer.precision={'bf16-mixed' if program.precision == 'bf16' else '32-true'}",
            "--trainer.callbacks=stamps.Stamps",
            f"--trainer.callbacks.batch_size={batch_size}",
            f"--trainer.callbacks.path={folder}/line.json",
        ]
        paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": paths})
        return {"precision": program.precision, **json.loads((Path(folder) / "line.json").read_text())}


def run(command: list[str | Path], **environment: str) -> dict[str, Any]:
    """The one line that a program prints last."""
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
