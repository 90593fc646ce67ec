"""The names of a run's files, and how this program is started. Needs no torch, so that study and report start fast."""

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

SUMMARY = "summary.json"  # written last, in one step: a run that has it has finished
CONFIG = "config.yaml"  # all settings of the run
LAST = Path("checkpoints") / "last.ckpt"  # the newest checkpoint
LOCK = ".lock"  # in a folder in which one process at a time may make another, or beside one that it alone writes to

# `commands.main` changes it for a script that gives a model or a data module of its own.
PROGRAM = ["python", "-m", "mnist_lightning"]


def shipped(config: str | Path) -> Path:
    """A config that the user names; if it is not there, the one of that name that comes with this program, if any."""
    tops = Path(__file__).parents[:2]  # configs/ is in the package of a wheel, and beside that of a clone
    found = [path for top in tops if (path := top / "configs" / Path(config).name).is_file()]
    return found[0] if found and not Path(config).exists() else Path(config)


def run_name(setup: str, batch_size: int, seed: int) -> str:
    """The folder of equal runs, each a version in it; short, since TensorBoard's lists show some twenty characters."""
    return f"{setup}-b{batch_size:04d}-s{seed}"


def lock_of(run: Path) -> FileLock:
    """The lock of a run, which whoever trains it holds. It lies beside the run's folder, which loggers want empty."""
    return FileLock(run.with_name(f".{run.name}{LOCK}"), blocking=False)


def run_of_checkpoint(checkpoint: str | Path | None) -> Path | None:
    """The folder of the run that wrote a checkpoint; None if the file does not lie in a run's folder."""
    if checkpoint is None:
        return None
    # Not resolved: Lightning compares the checkpoint's folder with the saved one as text.
    run = Path(checkpoint).parent.parent
    return run if (run / CONFIG).is_file() else None


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        error.filename = str(path)  # a full disk does not say which file it was
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def command(*arguments: object) -> str:
    """A command of this program as a user types it."""
    return shlex.join([*PROGRAM, *map(str, arguments)])


def command_line() -> str:
    """What the user typed to start the fit: a command of this program, or a Python script of their own."""
    return command(*sys.argv[1:]) if sys.argv[1:2] == ["fit"] else shlex.join(["python", *sys.argv])
