"""What Ctrl-C and SIGTERM do: the run ends in order, and if that takes too long or the signal comes again, at once."""

import os
import signal
import socket
import threading
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
END_WITHIN = 8.0  # seconds that an orderly end may take
STUDY = "MNIST_LIGHTNING_STUDY"  # in the environment of a study's runs: the study's process


class Stopped(BaseException):
    """The user or a scheduler asked the process to end.

    It is no KeyboardInterrupt, for which Lightning ignores all further signals and exits with 1.

    Args:
        signum: The signal that asked.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        self.exit_code = 128 + signum

    def __str__(self) -> str:
        name = "Ctrl-C" if self.signum == signal.SIGINT else signal.Signals(self.signum).name
        return f"{name}."


def stop_on_signals() -> None:
    """Makes the first SIGINT or SIGTERM raise `Stopped` in the main thread; what comes later is `watch_signals`'s."""
    for signum in SIGNALS:
        signal.signal(signum, _stop)


def watch_signals() -> None:
    """Ends the process at the second signal, or some seconds after the first if it is there still.

    A thread, since the main one may be waiting for another process, where no handler of Python's runs.
    """
    wakeups, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    # The thread holds both ends: a socket that nobody holds is closed.
    threading.Thread(target=_end_in_time, args=(wakeups, waker), daemon=True).start()


def end_with_parent() -> None:
    """Ends a process that a launcher or a study started once that is gone, whatever the main thread waits for."""
    if "LOCAL_RANK" in os.environ:
        parent = os.getppid()
    elif STUDY in os.environ:
        parent = int(os.environ[STUDY])
    else:
        return
    threading.Thread(target=_outlive_nobody, args=(parent,), daemon=True).start()


def _stop(signum: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, _ignore)  # not SIG_IGN, of which the thread would not hear
    raise Stopped(signum)


def _ignore(signum: int, frame: FrameType | None) -> None:
    pass


def _end_in_time(wakeups: socket.socket, waker: socket.socket) -> None:
    first = _next_signal(wakeups)
    wakeups.settimeout(END_WITHIN)
    try:
        _next_signal(wakeups)
    except TimeoutError:
        pass
    os._exit(128 + first)


def _next_signal(wakeups: socket.socket) -> int:
    while (signum := wakeups.recv(1)[0]) not in SIGNALS:
        pass
    return signum


def _outlive_nobody(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
