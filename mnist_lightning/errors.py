"""The one kind of error that is the user's to mend, and how errors are told."""

import os
import sys


class SettingError(ValueError):
    """A setting or a file that cannot be used; the message names it and the remedy in one sentence.

    The command line prints the message without a traceback. Any other exception is a defect of ours.
    """


def sentence(error: BaseException) -> str:
    """An error in words: what it says, and the notes that callbacks added to it or to what it came from."""
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
    """Prints an error of the user's on standard error, on the first process alone, and gives the exit code 2."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"error: {sentence(error)}", file=sys.stderr)
    return 2
