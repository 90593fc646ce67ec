"""Notices when another process of the run is lost. Without it a collective operation would wait for half an hour."""

import atexit
import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lightning.durability.signals import Stopped
from mnist_lightning.errors import ALONE, SettingError

BEAT = 1.0  # seconds
SILENT_BEATS = 30  # after so many seconds of silence a process counts as lost
START_WITHIN = 120.0  # seconds; how long a process may wait at the start for the others on its machine
START_ELSEWHERE_WITHIN = 300.0  # and for those that a launcher starts; the first may have to fetch MNIST
ALIVE, DONE, FAILED, STOPPED, LOST = b".", b"d", b"f", b"s", b"l"


def limit_start(trainer: Trainer, here: float = START_WITHIN, elsewhere: float = START_ELSEWHERE_WITHIN) -> None:
    """Ends this process if the others do not come in time. Call it before the Trainer starts, which no hook can do.

    Args:
        trainer: Of the run.
        here: Seconds, if the Trainer starts the other processes.
        elsewhere: Seconds, if a launcher starts them.
    """
    own = trainer.strategy.cluster_environment if trainer.world_size > 1 else None  # type: ignore[attr-defined]
    seconds = here if own is None or not own.creates_processes_externally else elsewhere
    for heartbeat in trainer.callbacks:  # type: ignore[attr-defined]
        if trainer.world_size > 1 and isinstance(heartbeat, Heartbeat):
            heartbeat.start = threading.Timer(seconds, _give_up_start, (trainer, seconds))
            heartbeat.start.daemon = True
            heartbeat.start.start()


class Heartbeat(Callback):
    """Connects the first process with each of the others; both ends report every second that they are alive.

    A process that is killed closes its connection, one that hangs sends nothing, and one that fails says so. The others
    then name that process and end with exit code 1, within half a minute.
    """

    def __init__(self) -> None:
        self.peers: dict[int, socket.socket] = {}
        self.children: list[subprocess.Popen] = []
        self.patience = 30.0  # seconds; how long the processes that this one started may take to end
        self.ending = threading.Event()  # this process is ending by itself
        self.noticed = threading.Event()  # another process has failed, stopped or disappeared
        self.speaking = threading.Lock()
        self.start: threading.Timer | None = None

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if trainer.world_size == 1 or self.peers:
            return
        self.rank, self.size = trainer.global_rank, trainer.world_size
        started: list[subprocess.Popen] = getattr(trainer.strategy.launcher, "procs", [])
        if started:
            # Lightning's own observer would kill this process without a message. It stops if the list is empty.
            self.children = list(started)
            started.clear()
            atexit.register(self.end_children)
        self._connect(trainer)
        if self.start is not None:
            self.start.cancel()
        for rank, peer in self.peers.items():
            threading.Thread(target=self._listen, args=(rank, peer), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self.patience = 3.0
        # If a collective operation fails because another process is gone, that process must be named, not this one.
        victim = not isinstance(exception, SettingError | Stopped) and self.peers and self.noticed.wait(2)
        if victim:
            time.sleep(60)  # the thread that noticed it ends this process
        self._end(STOPPED if isinstance(exception, Stopped) else FAILED)
        # The first process tells an error that all of them have. It waits longer than this before it ends the others.
        vars(exception)[ALONE] = bool(self.peers) and self.rank > 0 and not self.noticed.wait(1)

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self._end(DONE)

    def end_children(self) -> None:
        """Waits until the processes that this one started have ended, and kills those that have not in time."""
        deadline = time.monotonic() + self.patience
        for child in self.children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _connect(self, trainer: Trainer) -> None:
        """Connects the first process with all others. Lightning's broadcast carries the port and a token."""
        here = trainer.num_nodes == 1
        if self.rank == 0:
            with socket.create_server(("127.0.0.1" if here else "", 0), backlog=self.size) as server:
                token = secrets.token_bytes(16)
                trainer.strategy.broadcast((server.getsockname()[1], token))
                server.settimeout(SILENT_BEATS * BEAT)
                while len(self.peers) < self.size - 1:
                    peer, _ = server.accept()
                    peer.settimeout(SILENT_BEATS * BEAT)
                    hello = peer.recv(20, socket.MSG_WAITALL)
                    if secrets.compare_digest(hello[:16], token):
                        self.peers[int.from_bytes(hello[16:], "big")] = peer
        else:
            port, token = trainer.strategy.broadcast((0, b""))
            address = ("127.0.0.1" if here else os.environ["MASTER_ADDR"], port)
            peer = socket.create_connection(address, timeout=SILENT_BEATS * BEAT)
            peer.sendall(token + self.rank.to_bytes(4, "big"))
            self.peers[0] = peer

    def _beat(self) -> None:
        while not self.ending.wait(BEAT):
            self._tell(ALIVE)

    def _tell(self, word: bytes) -> None:
        for peer in self.peers.values():
            with contextlib.suppress(OSError):  # the thread that listens to this peer notices it
                peer.sendall(word)

    def _end(self, word: bytes) -> None:
        if not self.ending.is_set():
            self.ending.set()
            self._tell(word)

    def _listen(self, rank: int, peer: socket.socket) -> None:
        silent = 0
        # Beats are counted, not seconds, so that a run that is suspended as a whole (Ctrl-Z) can go on.
        peer.settimeout(BEAT)
        while silent < SILENT_BEATS:
            try:
                word = peer.recv(64)
            except TimeoutError:
                silent += 1
                continue
            except OSError:
                word = b""
            silent = 0
            if ended := FAILED in word or STOPPED in word:
                self.noticed.set()
            if DONE in word or self.ending.is_set():
                return
            if ended:
                # An error on all processes is told once, by the first one; a signal often reaches all of them.
                if self.ending.wait(1.5):
                    return
                if STOPPED in word and rank == 0:
                    os._exit(1)  # the first process has said it already
                what = "was stopped by a signal" if STOPPED in word else "has failed with an error of its own"
                self._give_up(rank, what, patience=5.0)  # it has yet to tell the error
            if lost := re.search(LOST + rb"(\d+);", word):
                self.noticed.set()
                self._give_up(int(lost[1]), "was lost")
            if not word:
                self.noticed.set()
                self._give_up(rank, f"was lost{self._cause(rank)}")
        self._give_up(rank, f"has not answered for {SILENT_BEATS * BEAT:.0f} seconds")

    def _cause(self, rank: int) -> str:
        """How a process ended, if this one started it."""
        for local, child in enumerate(self.children, start=1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(timeout=1) if local == rank else 0
                if code < 0:
                    return f", killed by {signal.Signals(-code).name}"
                if code:
                    return f", it ended with exit code {code}"
        return ""

    def _give_up(self, rank: int, what: str, patience: float = 0.0) -> Any:
        with self.speaking:
            print(
                f"error: process {rank} of {self.size} {what}, so process {self.rank} ends too: "
                "go on from the run's checkpoints/last.ckpt with --ckpt_path.",
                file=sys.stderr,
                flush=True,
            )
            self._tell(LOST + b"%d;" % rank)
            self.patience = patience
            self.end_children()
            os._exit(1)


def _give_up_start(trainer: Trainer, seconds: float) -> None:
    place = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
    print(
        f"error: process {trainer.global_rank} of {trainer.world_size} has waited {seconds:.0f} seconds for the others "
        f"at {place}, so it ends: start all of them together.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)  # the processes that this one started end with it
