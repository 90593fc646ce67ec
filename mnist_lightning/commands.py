"""The commands. `--help` is answered here, at once; the other modules are imported when they are needed."""

import os
import signal
import sys
import threading
from importlib import import_module, metadata
from io import TextIOWrapper

from mnist_lightning.durability import signals
from mnist_lightning.errors import tell
from mnist_lightning.run_files import PROGRAM, command, shipped
from mnist_lightning.waiting import telling

OF_THE_TRAINER = {
    "fit": "train the network, validating on the test set after each epoch",
    "validate": "loss and accuracy of a checkpoint, logged as val/…",
    "test": "loss and accuracy of a checkpoint, logged as test/…",
    "predict": "write a checkpoint's prediction for each test image to a CSV file",
}
COMMANDS = {
    **OF_THE_TRAINER,
    "study": "run a grid of setups, batch sizes and seeds, one fit a cell",
    "report": "set the runs' tables and figures beside the paper's",
}


def usage() -> str:
    """The help page, one line a command."""
    lines = "\n".join(f"  {name:<10}{about}" for name, about in COMMANDS.items())
    return f"""usage: {command("COMMAND")} [--help] [--config FILE] [--GROUP.SETTING VALUE ...]

Train the paper's CNN on MNIST and time it.

commands:
{lines}

`{command("COMMAND")} --help` lists a command's settings with their defaults.
`{command("--version")}` says which version this is."""


def main(model: type | None = None, data: type | None = None) -> int:
    """Runs the command that the first argument names, with classes of one's own for the network and for the images.

    Returns the exit code: 0; 2 for a wrong setting; 1 for any other error; 128 and the number of a signal.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed before the start
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - it stays open
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may be no UTF-8, and a console may know no Unicode
    own = {name: kind for name, kind in {"model": model, "data": data}.items() if kind is not None}
    if own:
        PROGRAM[1:] = [sys.argv[0]]
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"mnist-lightning {metadata.version('mnist-lightning')}")
        return 0
    if name not in COMMANDS:
        print(f"{usage()}\nerror: {name!r} is not a command; name one of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    for place, word in enumerate(sys.argv):
        option, given, path = word.rpartition("=")
        if (option or sys.argv[place - 1]) in ("--config", "-c"):
            sys.argv[place] = f"{option}{given}{shipped(path)}"
    # A thread that writes tells the main thread what the system refuses, and that one tells it in one line.
    threading.excepthook = lambda it: None if issubclass(it.exc_type, OSError) else threading.__excepthook__(it)
    # Tensors then start and end on pages. Otherwise glibc before 2.38 cannot take a freed block for one of the same size,
    # and a process at batch size 2048 grows by half.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # torch would print a page of C++ frames for each connection that ends, which the heartbeat tells in a sentence.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    signals.begin()
    try:
        if name in OF_THE_TRAINER:
            with telling("loading PyTorch and Lightning"):
                cli = import_module("mnist_lightning.cli")
            code = cli.main(COMMANDS[name], **own)
        else:
            code = import_module(f"mnist_lightning.{name}.command").main()
        sys.stdout.flush()
        return code
    except signals.Stopped as stop:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            signals.tell(stop.signum)
        return stop.exit_code
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001 - the boundary, behind which nothing else waits
        return tell(error)
