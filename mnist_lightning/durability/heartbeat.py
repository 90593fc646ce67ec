"""Notices within half a minute that a process of a run is lost, where a collective operation would wait for minutes."""

import atexit
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time

from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lightning.durability.signals import GO_ON, Stopped
from mnist_lightning.errors import ALONE, SettingError

BEAT = 1.0  # seconds
SILENT_BEATS = 30  # after so many seconds of silence a process counts as lost
ALIVE, DONE, FAILED, STOPPED, LOST = b".", b"d", b"f", b"s", b"l"


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
        for rank, peer in self.peers.items():
            threading.Thread(target=self._listen, args=(rank, peer), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self.patience = 3.0
        # If a collective operation fails because another process is gone, that process must be named, not this one.
        if not isinstance(exception, SettingError | Stopped) and self.peers and self.noticed.wait(2):
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
        here, seconds = trainer.num_nodes == 1, SILENT_BEATS * BEAT
        if self.rank == 0:
            with socket.create_server(("127.0.0.1" if here else "", 0), backlog=self.size) as server:
                token = secrets.token_bytes(16)
                trainer.strategy.broadcast((server.getsockname()[1], token))
                server.settimeout(seconds)
                while len(self.peers) < self.size - 1:
                    peer, _ = server.accept()
                    peer.settimeout(seconds)
                    hello = peer.recv(20, socket.MSG_WAITALL)
                    if secrets.compare_digest(hello[:16], token):
                        self.peers[int.from_bytes(hello[16:], "big")] = peer
        else:
            port, token = trainer.strategy.broadcast((0, b""))
            peer = socket.create_connection(("127.0.0.1" if here else os.environ["MASTER_ADDR"], port), seconds)
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
            if not word or FAILED in word or STOPPED in word:
                self.noticed.set()
            if DONE in word or self.ending.is_set():
                return
            if FAILED in word or STOPPED in word:
                if self.ending.wait(1.5):
                    return  # an error on all processes is told once, by the first one; a signal often reaches all of them
                if STOPPED in word and rank == 0:
                    os._exit(1)  # the first process has said it already
                what = "was stopped by a signal" if STOPPED in word else "has failed with an error of its own"
                self._give_up(rank, what, patience=5.0)  # it has yet to tell the error
            if LOST in word:
                self._give_up(word[word.index(LOST) + 1] - 128, "was lost")
            if not word:
                self._give_up(rank, f"was lost{self._cause(rank)}")
        self._give_up(rank, f"has not answered for {SILENT_BEATS * BEAT:.0f} seconds")

    def _cause(self, rank: int) -> str:
        """How a process ended, if this one started it."""
        if not 0 < rank <= len(self.children):
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.children[rank - 1].wait(timeout=1)
            return f", killed by {signal.Signals(-code).name}" if code < 0 else f", it ended with exit code {code}"
        return ""

    def _give_up(self, rank: int, what: str, patience: float = 0.0) -> None:
        self.noticed.set()
        with self.speaking:
            ended = f"error: process {rank} of {self.size} {what}, so process {self.rank} ends too."
            print(f"{ended} {GO_ON['how']()}", file=sys.stderr, flush=True)
            self._tell(LOST + bytes([128 + rank % 128]))
            self.patience = patience
            self.end_children()
            os._exit(1)
