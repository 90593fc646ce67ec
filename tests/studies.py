"""What the tests of `study` share."""

import sys

from conftest import PROJECT, told

from mnist_lightning.study import command

CONFIGS = PROJECT / "configs"
SUMMARY = {  # of a run of one epoch
    "setup": "1xcpu",
    "batch_size": 32,
    "seed": 0,
    "data": "mnist",
    "train_images": 60_000,
    "parameters": 1_199_882,
    "machine": {"precision": "32-true", "cores": 2},
    "epochs": 1,
    "steps": 1875,
    "metrics": {"seconds/fit": 60.0, "seconds/warm_up": 0.0, "val/accuracy": 0.99, "val/loss": 0.03},
    "median": {"images_per_second": 1000.0},
    "by_epoch": {"seconds/epoch": [60.0], "val/accuracy": [0.99]},
}


def run(monkeypatch, *arguments) -> int:
    """The exit code of `study` in this process."""
    monkeypatch.setattr(sys, "argv", ["mnist-lightning", "study", *map(str, arguments)])
    return told(command.main)
