"""Locks on folders, so that one process at a time does something. They leave no file behind.

On a file system without locks every process gets the lock.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LOCKS = Path("/proc/locks")  # of Linux


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Locks a folder for the block, and waits for the lock."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # this also releases the lock


@contextlib.contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Tries to lock a folder for the block, and does not wait. Yields True if the lock was acquired."""
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


def holder(folder: Path) -> str:
    """Which process has locked a folder, as far as the kernel says it."""
    inode = str(folder.stat().st_ino)
    with contextlib.suppress(OSError):
        for lock in LOCKS.read_text().splitlines():
            _, kind, _, _, process, file, *_ = lock.split()
            if kind == "FLOCK" and file.rpartition(":")[2] == inode:
                return f"process {process}"
    return "another process"
