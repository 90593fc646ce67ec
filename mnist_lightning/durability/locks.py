"""One process at a time, by locks on folders, which leave no file behind.

File systems that know no locks let everybody in.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process is in this block for the same folder."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # which also unlocks


@contextlib.contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Holds a folder for the block and waits for nobody; whether no other process holds it."""
    if fcntl is None:
        yield True
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        free = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError:
            pass
        yield free
    finally:
        os.close(handle)


_until_this_process_ends = contextlib.ExitStack()


def hold(folder: Path) -> None:
    """Holds a folder until this process ends, however it ends."""
    _until_this_process_ends.enter_context(held(folder))
