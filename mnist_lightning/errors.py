"""The one kind of error that the user can correct, and how errors are printed."""

import os
import sys


class SettingError(ValueError):
    """A setting or a file that cannot be used; the message names it and the remedy in one sentence.

    The command line prints the message without a traceback. Any other exception is a defect of ours.
    """


def sentence(error: BaseException) -> str:
    """The message of an error, and the notes that callbacks added to it or to the errors that caused it."""
    if isinstance(error, OSError) and error.strerror:
        words = [f"{os.fsdecode(error.filename or 'the run')}: {error.strerror}."]
    else:
        words = [str(error)]
    origin: BaseException | None = error
    while origin is not None:
        words += getattr(origin, "__notes__", [])
        origin = origin.__cause__ or origin.__context__
    return " ".join(" ".join(dict.fromkeys(words)).split())


def tell(error: BaseException) -> int:
    """Prints an error that the user can correct on standard error, on the first process only. Returns the exit code, 2."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"error: {sentence(error)}", file=sys.stderr)
    return 2
