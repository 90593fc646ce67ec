"""What Ctrl-C and SIGTERM do: the run ends in an orderly way. If that takes too long, or a second signal comes, it ends
at once."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM)
END_WITHIN = 8.0  # seconds that an orderly end may take
STUDY = "MNIST_LIGHTNING_STUDY"  # name in the environment of a study's runs; its value is the study's process
GO_ON: dict[str, Callable[[], str]] = {"how": str}  # says how what is running goes on after a stop


class Stopped(BaseException):
    """A signal asked the process to end. With a KeyboardInterrupt Lightning would ignore further signals and exit with 1."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        self.exit_code = 128 + signum


def begin() -> None:
    """Prepares a command for signals, and for the end of the launcher or the study that started it."""
    stop_on_signals()
    # A thread ends the process at the second signal, or some seconds after the first, since the main thread may wait for
    # another process, and runs no Python handler then.
    wakeups, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    # The thread keeps both ends, since Python closes a socket that nobody refers to.
    threading.Thread(target=_end_in_time, args=(wakeups, waker), daemon=True).start()
    if "LOCAL_RANK" in os.environ or STUDY in os.environ:
        parent = os.getppid() if "LOCAL_RANK" in os.environ else int(os.environ[STUDY])
        threading.Thread(target=_outlive_nobody, args=(parent,), daemon=True).start()


def stop_on_signals() -> None:
    """Makes the first SIGINT or SIGTERM raise `Stopped` in the main thread."""
    for signum in SIGNALS:
        signal.signal(signum, _stop)


@contextlib.contextmanager
def stopped_in_order(processes: int) -> Iterator[None]:
    """Marks a block in which Lightning trains with so many processes, most of which it starts.

    They begin with signals held back until they train. Otherwise a signal to all processes would end them in the middle
    of an import, and Lightning would then kill this one, whose other threads go on to see signals. Raises Stopped in the
    place of the SystemExit that Lightning makes of a KeyboardInterrupt, which a callback may raise.
    """
    if processes > 1:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    except SystemExit as end:
        raise Stopped(signal.SIGINT) from end.__context__


def tell(signum: int) -> None:
    """Says what stopped the process, and how it goes on."""
    name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
    print(f"\nstopped by {name}. {GO_ON['how']()}", file=sys.stderr, flush=True)


def _stop(signum: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, lambda *_: None)  # not SIG_IGN, since the thread would then not see the signal
    raise Stopped(signum)


def _end_in_time(wakeups: socket.socket, waker: socket.socket) -> None:
    while (first := wakeups.recv(1)[0]) not in SIGNALS:
        pass
    wakeups.settimeout(END_WITHIN)
    with contextlib.suppress(TimeoutError):
        wakeups.recv(1)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        teller = threading.Thread(target=tell, args=(first,), daemon=True)
        teller.start()
        teller.join(1.0)  # nobody may read what it says
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()  # one that stands still would stay
    os._exit(128 + first)


def _outlive_nobody(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
