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
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/data/runs", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
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
    # What is filtered is what is unfolded.
    html = page(f"{address}/?tagFilter=val%2F%7Ctrain%2F%7Cseconds%2Fepoch#timeseries", tmp_path / "profile")
    assert "1xcpu/batch_size=0480/seed=0/version_0" in html
    for metric in ("val/accuracy", "val/loss", "train/accuracy", "train/loss", "seconds/epoch"):
        assert f'title="{metric}"' in html, metric
    assert 'title="seconds/fit"' not in html
