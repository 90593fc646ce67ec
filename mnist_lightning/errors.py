"""The three ways in which a command can end badly, and how each is told."""

import os
import sys
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

# Of jsonargparse, Lightning and torch, which are not imported here: what a user has asked for cannot be had.
OF_SETTINGS = ("ArgumentError", "MisconfigurationException", "OutOfMemoryError", "DistNetworkError", "DistStoreError")
ALONE = "alone"  # attribute of an error that comes from this process alone, so that no other one prints it
LONGEST = 500  # characters of an error


class SettingError(ValueError):
    """A setting or a file that cannot be used; the message names it in one line."""


@contextmanager
def blaming(settings: str = "") -> Iterator[None]:
    """Marks a block in which only the user's settings can be the cause of an error, whatever library raises it.

    It then raises SettingError, whose message begins with the settings' names if the library does not say them.
    """
    try:
        yield
    except (SettingError, OSError):
        raise
    except Exception as error:
        words = str(error) or type(error).__name__
        raise SettingError(f"{settings}: {words}" if settings else words) from error


def tell(error: Exception) -> int:
    """Prints an error: one line for a setting (exit code 2) and for what the system refuses (1), else the traceback (1)."""
    of_a_setting = isinstance(error, SettingError) or type(error).__name__ in OF_SETTINGS
    if not of_a_setting and not isinstance(error, OSError):
        traceback.print_exception(error)
    # All processes of a run meet the same wrong setting, and the first one tells it.
    elif os.environ.get("LOCAL_RANK", "0") == "0" or getattr(error, ALONE, False):
        words = " ".join([textwrap.shorten(str(error), LONGEST, placeholder=" …"), *getattr(error, "__notes__", [])])
        print(f"error: {words}", file=sys.stderr)
    return 2 if of_a_setting else 1
