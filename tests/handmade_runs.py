"""Run folders made by hand, as `fit` leaves them."""

import json
from pathlib import Path
from typing import Any

import yaml


def make_run(
    logs: Path,
    setup: str,
    batch_size: int,
    seed: int,
    seconds: float,
    accuracy: float,
    loss: float,
    machine: dict[str, Any] | None = None,
    rates: tuple[float, float] | None = None,
    version: int = 0,
    summary: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """A finished run's folder. `machine` and `summary` are what its records have otherwise, and settings are of the model, with
    `model_` before their names. `rates` are GFLOP/s in fp32 before and after it; in bf16 there are twice as many, and in a setup
    of several GPUs each has as many. It is not calibrated by default.
    """
    run = logs / setup / f"batch_size={batch_size:04d}" / f"seed={seed}" / f"version_{version}"
    run.mkdir(parents=True)
    steps = -(-60_000 // batch_size) * 10
    found = {
        "setup": setup,
        "batch_size": batch_size,
        "seed": seed,
        "data": "mnist",
        "train_images": 60_000,
        "test_images": 10_000,
        "parameters": 1_199_882,
        "machine": {
            "processor": "Z80",
            "cores": 1,
            "precision": "32-true",
            "commit": "abc",
            "load_before": 0.0,
            "code": "abc",
            **({"gpu": "Voodoo"} if setup.endswith("gpu") else {}),
            **(machine or {}),
        },
        "resumed": False,
        "neighbours": {"own_cores": 1.0, "other_cores": 0.01, "stolen_cores": 0.0},
        "epochs": 10,
        "steps": steps,
        "metrics": {"val/accuracy": accuracy, "val/loss": loss, "seconds/fit": seconds, "seconds/warm_up": 1.0},
        "median": {"seconds/epoch": seconds / 10, "images_per_second": 540_000 / seconds},
        "by_epoch": {
            "seconds/epoch": [seconds / 10] * 10,
            "seconds/train_epoch": [seconds * 0.09] * 10,
            "seconds/val_epoch": [seconds * 0.008] * 10,
            "val/accuracy": [0.9] * 3 + [None] + [accuracy] * 6,
            "val/loss": [0.3] * 3 + [None] + [loss] * 6,
        },
        **(summary or {}),
    }
    if rates:
        names, devices = ("before", "after"), int(setup[0]) if setup.endswith("gpu") else 1
        found["calibration"] = {
            name: {
                "fp32_gflops": rate * devices,
                "bf16_gflops": 2 * rate * devices,
                "copy_gb_per_second": 10.0,
                "host_gflops": rate,
            }
            for name, rate in zip(names, rates, strict=True)
        }
    model = {"channels": [32, 64], "kernel_size": 3, "pool_size": 2, "hidden": 128, "dropout": [0.25, 0.5]}
    model |= {name.removeprefix("model_"): value for name, value in settings.items()}
    config = {"seed_everything": seed, "model": model, "data": {"batch_size": batch_size}}
    (run / "summary.json").write_text(json.dumps(found))
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run
