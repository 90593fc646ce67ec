"""The bar in a terminal and the lines in a file, of a fit in this process."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading

import pytest
from conftest import SMALL

FIT = ["fit", *SMALL, "--trainer.max_epochs=2", "--trainer.accelerator=cpu"]


@pytest.mark.parametrize("columns", [80, pytest.param(200, marks=pytest.mark.slow)])
def test_the_bar_fits_the_terminal(command, monkeypatch, columns):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    shown = b""

    def read():
        nonlocal shown
        # Linux ends a terminal that nobody writes to any more with an error.
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert command(*FIT) == 0
        monkeypatch.undo()
    reader.join(30)
    os.close(ours)
    bars = [line for line in re.split(r"[\r\n]+", shown.decode()) if "step" in line]
    assert bars and max(map(len, bars)) <= columns
    assert "\x1b" not in shown.decode()
    assert re.search(r"epoch 2/2: +100%.* 18/18 .*val accuracy 0\.\d{4}", bars[-1]), bars[-1]


def test_a_file_gets_a_line_an_epoch(command, capsys):
    assert command(*FIT) == 0
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("epoch")]
    assert [line[:25] for line in lines] == ["epoch 1/2: val accuracy 0", "epoch 2/2: val accuracy 0"]
    assert not set(said) & {"\r", "\x1b", "\b"}
