"""The commands: answers `--help` at once and starts everything else."""

import os
import sys
from importlib import import_module
from typing import NamedTuple

from mnist_lightning.durability.signals import Stopped, end_with_parent, stop_on_signals, watch_signals
from mnist_lightning.speed.allocator import keep_freed_memory


class Command(NamedTuple):
    """What a command does, and the module whose `main` does it."""

    help: str
    module: str


COMMANDS = {
    "fit": Command("train the network, validating on the test set after each epoch", "mnist_lightning.cli"),
    "validate": Command("loss and accuracy of a checkpoint, logged as val/…", "mnist_lightning.cli"),
    "test": Command("loss and accuracy of a checkpoint, logged as test/…", "mnist_lightning.cli"),
    "predict": Command(
        "write a checkpoint's prediction for each test image to a CSV file", "mnist_lightning.cli"
    ),
    "study": Command(
        "run a grid of setups, batch sizes and seeds, one fit a cell", "mnist_lightning.study.command"
    ),
    "report": Command(
        "set the runs' tables and figures beside the paper's", "mnist_lightning.report.command"
    ),
}


def usage() -> str:
    """The help page, one line a command."""
    lines = [f"  {name:<10}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m mnist_lightning COMMAND [--help] [--config FILE] [--GROUP.SETTING VALUE ...]",
            "",
            "Train the paper's CNN on MNIST and time it.",
            "",
            "commands:",
            *lines,
            "",
            "`python -m mnist_lightning COMMAND --help` lists a command's settings with their defaults,",
            "`python -m mnist_lightning --print_completion {bash,zsh}` prints what completes them in a shell.",
        ]
    )


def main() -> int:
    """Runs the command named by the first argument; imports torch only for a command that needs it."""
    command = sys.argv[1] if len(sys.argv) > 1 else None
    if command in ("-h", "--help"):
        print(usage())
        return 0
    if command == "--print_completion":
        if sys.argv[2:] not in (["bash"], ["zsh"]):
            print("error: --print_completion needs the name of a shell: bash or zsh.", file=sys.stderr)
            return 2
        return import_module("mnist_lightning.completion").main()
    if command not in COMMANDS:
        print(usage(), file=sys.stderr)
        reason = f"{command!r} is not a command" if command else "a command is needed"
        print(f"error: {reason}; name one of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    keep_freed_memory()
    stop_on_signals()
    watch_signals()
    end_with_parent()
    try:
        return import_module(COMMANDS[command].module).main()
    except Stopped as stop:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"\nstopped by {stop}. {stop.advice}".rstrip(), file=sys.stderr)
        return stop.exit_code
