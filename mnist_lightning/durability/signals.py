"""What Ctrl-C and SIGTERM do: the run ends in an orderly way. If that takes too long, or a second signal comes, it ends
at once."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
END_WITHIN = 8.0  # seconds that an orderly end may take
STUDY = "MNIST_LIGHTNING_STUDY"  # name in the environment of a study's runs; its value is the study's process


class Stopped(BaseException):
    """The user or a scheduler asked the process to end.

    It is not a KeyboardInterrupt, since Lightning then ignores all further signals and exits with 1.

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


def stop_on_signals(starting: bool = False) -> None:
    """Makes the first SIGINT or SIGTERM raise `Stopped` in the main thread. `watch_signals` handles later ones.

    Args:
        starting: Whether the process starts, and signals that it was started with held back stay so.
    """
    for signum in SIGNALS:
        signal.signal(signum, _stop)
    if not starting:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextlib.contextmanager
def stopped_in_order(processes: int) -> Iterator[None]:
    """Marks a block in which Lightning trains, and may start the other processes of a run.

    These begin with SIGINT and SIGTERM held back, until `stop_on_signals`. Otherwise a signal to all processes would end
    them in the middle of an import, and Lightning would then kill this one. This one goes on to see signals, since its
    other threads do.

    Args:
        processes: Of the run.

    Raises:
        Stopped: In the place of the SystemExit that Lightning makes of a KeyboardInterrupt, which a callback may raise.
    """
    if processes > 1:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    except SystemExit as end:
        raise Stopped(signal.SIGINT) from end.__context__


def watch_signals() -> None:
    """Ends the process at the second signal, or some seconds after the first one if it still runs then.

    A thread does it, since the main thread may be waiting for another process, and then runs no Python handler.
    """
    wakeups, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    # The thread keeps both ends, since Python closes a socket that nobody refers to.
    threading.Thread(target=_end_in_time, args=(wakeups, waker), daemon=True).start()


def end_with_parent() -> None:
    """Ends this process when the launcher or the study that started it is gone, whatever the main thread waits for."""
    if "LOCAL_RANK" in os.environ:
        parent = os.getppid()
    elif STUDY in os.environ:
        parent = int(os.environ[STUDY])
    else:
        return
    threading.Thread(target=_outlive_nobody, args=(parent,), daemon=True).start()


def _stop(signum: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, _ignore)  # not SIG_IGN, since the thread would then not see the signal
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
