"""One cell of the paper by its own program on today's Keras, kept as a run that `report` reads.

python benchmarks/keras_run.py --batch_size 128 --seed 0 --logs logs/keras
"""

import argparse
import os
import statistics
import sys
from pathlib import Path
from time import perf_counter

import torch
import yaml
from compare import HERE, run

from mnist_lightning import paper
from mnist_lightning.measure.calibration import MEASURED, ROUNDS
from mnist_lightning.measure.machine import PACKAGES, describe_machine
from mnist_lightning.measure.neighbours import busy_seconds
from mnist_lightning.run_files import CONFIG, run_name
from mnist_lightning.runs.summary import closing_table, write_summary

OF_OURS = ("code", "threads", "vectors", *PACKAGES)  # of a machine: what says nothing of Keras


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=paper.EPOCHS)
    parser.add_argument("--data_dir", type=Path, default=Path("data"))
    parser.add_argument("--keras_python", type=Path, default=HERE / ".keras" / "bin" / "python")
    options = parser.parse_args()
    folder = options.logs / run_name("1xcpu", options.batch_size, options.seed) / "version_0"
    if folder.exists():
        print(f"error: logs has {folder}, which is there: name another folder.", file=sys.stderr)
        return 2
    settings = [f"--{name}={getattr(options, name)}" for name in ("batch_size", "seed", "epochs", "data_dir")]
    load, before = os.getloadavg()[0], rates()
    begin, busy = perf_counter(), busy_seconds()[0]
    found = run([options.keras_python, HERE / "keras_fit.py", *settings])
    wall, busy = perf_counter() - begin, busy_seconds()[0] - busy
    cores = {"own_cores": found["own"] / wall, "other_cores": max(0.0, busy - found["own"]) / wall}
    folder.mkdir(parents=True)
    model = {name: list(value) if isinstance(value, tuple) else value for name, value in paper.ARCHITECTURE.items()}
    config = {"seed_everything": options.seed, "model": model, "data": {"batch_size": options.batch_size}}
    (folder / CONFIG).write_text(yaml.safe_dump(config))
    summary = as_summary(found, options.batch_size, options.seed, load)
    write_summary(folder, summary | {"neighbours": cores, "calibration": {"before": before, "after": rates()}})
    print(closing_table(summary, None))
    return 0


def as_summary(found: dict, batch_size: int, seed: int, load: float) -> dict:
    """What `fit` writes of such a run. Its time is that of `model.fit`, as in the paper."""
    machine = describe_machine(torch.device("cpu"), "32-true", load)
    last = {
        f"{part}/{name}": found["history"][f"{key}{name}"][-1]
        for part, key in (("train", ""), ("val", "val_"))
        for name in ("accuracy", "loss")
    }
    epochs = len(found["epoch"])
    return {
        "setup": "1xcpu",
        "batch_size": batch_size,
        "seed": seed,
        "program": "Keras",
        "data": "mnist",
        "train_images": paper.TRAIN_IMAGES,
        "test_images": 10_000,
        "parameters": found["parameters"],
        "machine": {name: value for name, value in machine.items() if name not in OF_OURS} | found["versions"],
        "command": " ".join(["python", *sys.argv]),
        "resumed": False,
        "epochs": epochs,
        "steps": epochs * -(-paper.TRAIN_IMAGES // batch_size),
        "metrics": {**last, "seconds/fit": found["seconds"], "seconds/warm_up": 0.0},
        "median": {
            "seconds/epoch": statistics.median(found["epoch"]),
            "images_per_second": paper.TRAIN_IMAGES / statistics.median(found["train"]),
        },
        "by_epoch": {
            "seconds/epoch": found["epoch"],
            "seconds/train_epoch": found["train"],
            **{f"val/{name}": found["history"][f"val_{name}"] for name in ("accuracy", "loss")},
        },
    }


def rates() -> dict[str, float]:
    """The rates of the machine, as a fit calibrates it."""
    device = torch.device("cpu")
    return {name: round(max(rate(device) for _ in range(ROUNDS)), 1) for name, rate in MEASURED.items()}


if __name__ == "__main__":
    sys.exit(main())
