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

import pytest
from conftest import SMALL
from processes import wait_for

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1600", "--virtual-time-budget=30000"]


@pytest.fixture
def address(command, tmp_path) -> Iterator[str]:
    """Where TensorBoard shows a run of one epoch."""
    assert command("fit", *SMALL, "--trainer.max_epochs=1", "--trainer.accelerator=cpu") == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = f"http://127.0.0.1:{port}"

    def read() -> bool:  # TensorBoard answers before it has read the run
        try:
            with urllib.request.urlopen(f"{page}/data/plugin/scalars/tags", timeout=5) as tags:
                return b"seconds/warm_up" in tags.read()
        except OSError:
            return False

    board = [sys.executable, "-m", "tensorboard.main", "--logdir=logs", "--host=127.0.0.1", f"--port={port}"]
    with subprocess.Popen(board, cwd=tmp_path, stderr=subprocess.DEVNULL, process_group=0) as server:
        try:
            wait_for(read, 120)
            yield page
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def test_the_page_shows_the_run_and_its_metrics(address, tmp_path):
    metrics = ("val/accuracy", "val/loss", "train/accuracy", "train/loss", "seconds/epoch")
    for look in range(10):  # a busy machine may not have drawn all of them when the browser gives the page
        # What is filtered is what is unfolded.
        page = f"{address}/?tagFilter=val%2F%7Ctrain%2F%7Cseconds%2Fepoch#timeseries"
        browser = [BROWSER, *OPTIONS, f"--user-data-dir={tmp_path}/profile{look}", "--dump-dom", page]
        html = subprocess.run(browser, capture_output=True, text=True, timeout=120, check=True).stdout
        missing = [metric for metric in metrics if f'title="{metric}"' not in html]
        if not missing:
            break
        time.sleep(2 * look)
    assert missing == [], html[-2000:]
    assert "1xcpu-b0480-s0/version_0" in html and 'title="seconds/fit"' not in html
