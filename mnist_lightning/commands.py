"""The commands. `--help` is answered here, at once; the other modules are imported when they are needed."""

import os
import signal
import sys
from importlib import import_module, metadata
from io import TextIOWrapper
from typing import TYPE_CHECKING, NamedTuple

from mnist_lightning.durability.signals import Stopped, end_with_parent, stop_on_signals, watch_signals
from mnist_lightning.errors import sentence, tell
from mnist_lightning.runs.jobs import refuse_bad_environment
from mnist_lightning.runs.program import PROGRAM, command
from mnist_lightning.speed.allocator import keep_freed_memory
from mnist_lightning.views.console import silence_lost_connections

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule


class Command(NamedTuple):
    """What a command does, and the module whose `main` does it."""

    help: str
    module: str


COMMANDS = {
    "fit": Command("train the network, validating on the test set after each epoch", "mnist_lightning.cli"),
    "validate": Command("loss and accuracy of a checkpoint, logged as val/…", "mnist_lightning.cli"),
    "test": Command("loss and accuracy of a checkpoint, logged as test/…", "mnist_lightning.cli"),
    "predict": Command("write a checkpoint's prediction for each test image to a CSV file", "mnist_lightning.cli"),
    "study": Command("run a grid of setups, batch sizes and seeds, one fit a cell", "mnist_lightning.study.command"),
    "report": Command("set the runs' tables and figures beside the paper's", "mnist_lightning.report.command"),
    "machine": Command(
        "what this machine gives, and how long the paper's grid takes", "mnist_lightning.measure.command"
    ),
}

REHEARSE = Command("what a fit would run", "mnist_lightning.study.rehearsal")  # a study asks it about its cells
ALL = {**COMMANDS, "rehearse": REHEARSE}
OF_THE_TRAINER = ("mnist_lightning.cli", REHEARSE.module)  # they take classes


def usage() -> str:
    """The help page, one line a command."""
    lines = [f"  {name:<10}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {command('COMMAND')} [--help] [--config FILE] [--GROUP.SETTING VALUE ...]",
            "",
            "Train the paper's CNN on MNIST and time it.",
            "",
            "commands:",
            *lines,
            "",
            f"`{command('COMMAND')} --help` lists a command's settings with their defaults.",
            f"`{command('--version')}` says which version this is.",
        ]
    )


def main(model: "type[LightningModule] | None" = None, data: "type[LightningDataModule] | None" = None) -> int:
    """Runs the command that the first argument names. Imports torch only for a command that needs it.

    Args:
        model: A class to train in the place of `MNISTClassifier`.
        data: A class to take the images from in the place of `MNISTDataModule`.

    Returns:
        The exit code: 0, 1 if a cell of a study failed or for an error that nobody expected, 2 for an error that the
        user can correct, 128 and the signal's number if a signal stopped the command.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may be no UTF-8, and a console may know no Unicode
    classes = {"model": model, "data": data}
    own = {name: kind for name, kind in classes.items() if kind is not None}
    if own:
        PROGRAM[1:] = [sys.argv[0]]
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"mnist-lightning {metadata.version('mnist-lightning')}")
        return 0
    if name not in ALL:
        print(usage(), file=sys.stderr)
        reason = f"{name!r} is not a command" if name else "a command is needed"
        print(f"error: {reason}; name one of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    keep_freed_memory()
    silence_lost_connections()
    stop_on_signals(starting=True)
    watch_signals()
    end_with_parent()
    module = ALL[name].module
    try:
        if module in OF_THE_TRAINER:
            refuse_bad_environment()  # before Lightning is imported, which reads it
        run = import_module(module).main
        code = run(**own, about=ALL[name].help) if module in OF_THE_TRAINER else run()
        sys.stdout.flush()
        return code
    except Stopped as stop:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"\nstopped by {sentence(stop)}", file=sys.stderr)
        return stop.exit_code
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 - the boundary, behind which nothing else waits
        return tell(error)
