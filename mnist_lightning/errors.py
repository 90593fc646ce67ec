"""Errors that the user can correct, errors that nobody expected, and how both are printed."""

import contextlib
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

DEBUG = "MNIST_LIGHTNING_DEBUG"  # name in the environment; if it is set, tracebacks are printed
TRACEBACK = "error{}.txt"  # what keeps a traceback; processes after the first put their number into the name
# Of Lightning and torch, which are not imported here: what a user has asked for cannot be had.
OF_SETTINGS = ("MisconfigurationException", "OutOfMemoryError", "DistNetworkError", "DistStoreError")
# What callbacks tell the boundary, as attributes of an error.
KEPT_IN = "run"  # the folder that keeps the traceback
ALONE = "alone"  # that it comes from this process alone, so that no other one prints it
LONGEST = 1500  # characters of an error
PACKAGES = ("mnist-lightning", "torch", "lightning", "jsonargparse", "torchmetrics", "numpy")


class SettingError(ValueError):
    """A setting or a file that cannot be used; the message names it and the remedy in one sentence.

    The command line prints the message without a traceback.
    """


@contextlib.contextmanager
def caused_by(settings: Callable[[Exception], str]) -> Iterator[None]:
    """Marks a block in which only the user's settings can be the cause of an error, whatever library raises it.

    Args:
        settings: From the library's error to a sentence that names the settings.

    Raises:
        SettingError: In the place of each error of another kind.
    """
    try:
        yield
    except SettingError:
        raise
    except Exception as error:
        raise SettingError(settings(error)) from error


def sentence(error: BaseException) -> str:
    """The message of an error, and the notes that callbacks added to it or to the errors that caused it."""
    words = [f"{_reason(error)}." if isinstance(error, OSError) and error.strerror else str(error)]
    if "EADDRINUSE" in words[0]:  # of torch, whose message names neither the setting nor the remedy
        words = [f"MASTER_PORT is {os.environ.get('MASTER_PORT')}, which another program uses: set another one."]
    return " ".join(" ".join(dict.fromkeys([*words, *_notes(error)])).split())


def tell(error: Exception) -> int:
    """Prints an error as one sentence on standard error, once for all processes of a run.

    The traceback of an error that nobody expected is kept in a file of the run's folder, or else in a temporary folder.

    Returns:
        The exit code: 2 for an error that the user can correct, 1 for another one.
    """
    words = sentence(error)
    expected = isinstance(error, SettingError | OSError) or type(error).__name__ in OF_SETTINGS
    if not expected:
        rest = " ".join(["", *_notes(error)])
        words = f"{_reason(error)}, which is not expected: {_keep(error)} has the traceback and the versions.{rest}"
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    if _first() or getattr(error, ALONE, False):
        print(f"error: {_shortened(words)}", file=sys.stderr)
    return 2 if expected else 1


def _shortened(words: str) -> str:
    """A text without its middle if it is too long to read, as with a setting of thousands of characters."""
    return words if len(words) <= LONGEST else f"{words[: LONGEST // 2]} … {words[-LONGEST // 2 :]}"


def _first() -> bool:
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _reason(error: BaseException) -> str:
    """What went wrong, in the words of who raised it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{os.fsdecode(error.filename or 'the run')[:200]}: {error.strerror}"
    return f"{type(error).__name__}: {' '.join(str(error).split()).removesuffix('.')}".removesuffix(": ")


def _notes(error: BaseException) -> list[str]:
    notes: list[str] = []
    origin: BaseException | None = error
    while origin is not None:
        notes += getattr(origin, "__notes__", [])
        origin = origin.__cause__ or origin.__context__
    return list(dict.fromkeys(notes))


def _keep(error: Exception) -> Path:
    """Writes the traceback and the versions to a file."""
    versions = [f"Python {platform.python_version()} on {platform.platform()}"]
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    lines = [*traceback.format_exception(error), f"\n{shlex.join(sys.argv)}\n", "\n".join(versions), "\n"]
    name = TRACEBACK.format("" if _first() else f"-{os.environ['LOCAL_RANK']}")
    run: Path | None = getattr(error, KEPT_IN, None)
    with contextlib.suppress(OSError):
        if run is not None:
            (run / name).write_text("".join(lines), encoding="utf-8", errors="replace")
            return run / name
    file = Path(tempfile.mkdtemp(prefix="mnist-lightning-")) / name
    file.write_text("".join(lines), encoding="utf-8", errors="replace")
    return file
