"""What the programs of this folder share: their options and the line that each prints. It imports no framework."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

WARM_UP_STEPS = 3
RAW = "data/MNIST/raw"


def arguments(description: str, *, precisions: tuple[str, ...] = ("fp32",)) -> argparse.Namespace:
    """The options of a program, read from its command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--images", type=int, default=8192, help="Training images that are timed.")
    parser.add_argument("--precision", choices=precisions, default=precisions[0])
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="Folder that holds MNIST/raw.")
    options = parser.parse_args()
    options.steps = max(1, options.images // options.batch_size)
    return options


def time_and_report(train: Callable[[int], None], options: argparse.Namespace) -> None:
    """Warms up, times so many steps and prints the line.

    Args:
        train: Trains a number of steps.
        options: As `arguments` gives them.
    """
    train(WARM_UP_STEPS)
    begin = perf_counter()
    train(options.steps)
    report(options, perf_counter() - begin)


def report(options: argparse.Namespace, seconds: float) -> None:
    """Prints the one line: training images per second."""
    rate = options.steps * options.batch_size / seconds
    line = {"batch_size": options.batch_size, "precision": options.precision, "images_per_second": rate}
    print(json.dumps(line))
