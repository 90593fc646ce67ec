import contextlib
import os
import pty
import sys
import termios
import threading

from conftest import SMALL

FIT = ["fit", *SMALL, "--trainer.max_epochs=2", "--trainer.accelerator=cpu"]


def test_a_terminal_gets_a_bar(command, monkeypatch, capsys):
    (ours, theirs), shown = pty.openpty(), []
    termios.tcsetwinsize(theirs, (24, 80))

    def read():
        with contextlib.suppress(OSError):  # so Linux ends a terminal that nobody writes to any more
            while part := os.read(ours, 4096):
                shown.append(part)

    (reader := threading.Thread(target=read)).start()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert command(*FIT) == 0
    reader.join(30)
    said = b"".join(shown).decode()
    assert "\rEpoch 1: 100%" in said and "Training time" in said
    assert "loss=" in said.split("\rEpoch 1: 100%")[1]
    assert "epoch" not in capsys.readouterr().err


def test_a_file_gets_a_line_an_epoch(command, capsys):
    assert command(*FIT) == 0
    said = capsys.readouterr()
    assert [line[:25] for line in said.err.splitlines()] == [f"epoch {n}/2: val accuracy 0" for n in (1, 2)]
    assert not set(said.err + said.out) & {"\r", "\x1b", "\b"}
