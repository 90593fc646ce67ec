"""Says what a command is doing, if it takes long."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Says on standard error what a block does, if it takes longer than two seconds. One process of a run says it."""
    timer = threading.Timer(2.0, print, [f"{what} …"], {"file": sys.stderr, "flush": True})
    if os.environ.get("LOCAL_RANK", "0") == "0":
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
