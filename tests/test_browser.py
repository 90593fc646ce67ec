"""TensorBoard's page, in a real browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import QUICK

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")


@pytest.fixture
def address(command, tmp_path) -> Iterator[str]:
    """Where TensorBoard shows a run of one epoch."""
    assert command("fit", *QUICK, "--trainer.max_epochs=1", "--trainer.accelerator=cpu") == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        "logs",
        "--host=127.0.0.1",
        f"--port={port}",
    ]
    with (tmp_path / "said").open("w") as said:
        server = subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said, start_new_session=True)
    try:
        end, read = time.monotonic() + 120, False  # a busy machine takes its time
        while not read and time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/plugin/scalars/tags", timeout=5) as tags:
                    read = b"seconds/warm_up" in tags.read()  # TensorBoard answers before it has read the run
            except OSError:
                pass
            time.sleep(0.1)
        assert read, (tmp_path / "said").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def page(address: str, profile: Path) -> str:
    """A page once its scripts have run, as HTML."""
    options = [
        *(
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
        ),
        *("--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"),
        *("--window-size=1400,1600", "--virtual-time-budget=30000", "--dump-dom"),
    ]
    done = subprocess.run([BROWSER, *options, address], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_the_page_shows_the_run_and_its_metrics(address, tmp_path):
    metrics = ("val/accuracy", "val/loss", "train/accuracy", "train/loss", "seconds/epoch")
    for look in range(10):  # a busy machine may not have drawn all of them when the browser gives the page
        # What is filtered is what is unfolded.
        html = page(f"{address}/?tagFilter=val%2F%7Ctrain%2F%7Cseconds%2Fepoch#timeseries", tmp_path / f"profile{look}")
        missing = [metric for metric in metrics if f'title="{metric}"' not in html]
        if not missing:
            break
        time.sleep(2 * look)
    assert missing == [], html[-2000:]
    assert "1xcpu/batch_size=0480/seed=0/version_0" in html
    assert 'title="seconds/fit"' not in html
