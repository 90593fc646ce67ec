"""What the programs of this folder share: their options, their clock and the line that each prints. It imports no framework."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

WARM_UP_STEPS = 3
LEAST_SECONDS = 20.0  # of training; epochs are added until they have taken so long
WINDOW = 6000  # images, at least one batch; a run's rate is known for each such piece of it


class Clock:
    """When the steps of the timed epochs ended, in seconds. What happens between two epochs is not timed."""

    def __init__(self) -> None:
        self.epochs: list[list[float]] = []

    def start_epoch(self) -> None:
        self.epochs.append([perf_counter()])

    def step(self) -> None:
        """To be called when a step has ended."""
        self.epochs[-1].append(perf_counter())

    @property
    def seconds(self) -> float:
        return sum(epoch[-1] - epoch[0] for epoch in self.epochs)

    def line(self, batch_size: int) -> dict:
        """Training images per second, of the whole and of each window of an epoch."""
        steps = sum(len(epoch) - 1 for epoch in self.epochs)
        width = max(1, WINDOW // batch_size)
        windows = [
            width * batch_size / (epoch[last] - epoch[last - width])
            for epoch in self.epochs
            for last in range(width, len(epoch), width)
        ]
        return {
            "batch_size": batch_size,
            "seconds": round(self.seconds, 3),
            "images_per_second": round(steps * batch_size / self.seconds, 1),
            "windows": [round(rate, 1) for rate in windows],
        }


def arguments(description: str, *, precisions: tuple[str, ...] = ("fp32",)) -> argparse.Namespace:
    """The options of a program, read from its command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--images", type=int, default=60000, help="Training images of an epoch, in whole batches.")
    parser.add_argument("--precision", choices=precisions, default=precisions[0])
    parser.add_argument("--data_dir", type=Path, default=Path("data"), help="Folder that holds MNIST/raw.")
    options = parser.parse_args()
    options.steps = max(1, options.images // options.batch_size)
    return options


def time_and_report(train: Callable[[int, Clock], None], options: argparse.Namespace) -> None:
    """Warms up, times whole epochs and prints the line.

    Args:
        train: Trains a number of steps and tells the clock when each has ended.
        options: As `arguments` gives them.
    """
    clock = Clock()
    clock.start_epoch()
    train(WARM_UP_STEPS, clock)
    clock = Clock()
    while clock.seconds < LEAST_SECONDS:
        clock.start_epoch()
        train(options.steps, clock)
    report(options, clock)


def report(options: argparse.Namespace, clock: Clock) -> None:
    """Prints the one line."""
    print(json.dumps({"precision": options.precision, **clock.line(options.batch_size)}))
