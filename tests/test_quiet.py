import logging
import subprocess
import sys
import threading

import pytest

from mnist_lightning.views.console import silence_noise


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("💡 Tip: For seamless cloud uploads and versioning, try something", False),
        ("GPU available: False, used: False", False),
        ("Seed set to 3", False),
        ("You are using a CUDA device ('a GPU') that has Tensor Cores. To properly utilize them, you should", False),
        ("Restoring states from the checkpoint path at last.ckpt", True),
        ("`Trainer.fit` stopped: `max_steps=5` reached.", True),
    ],
)
def test_advertising_is_silent_and_news_is_not(caplog, message, shown):
    silence_noise()
    with caplog.at_level(logging.INFO):
        logging.getLogger("lightning.pytorch.utilities.rank_zero").info(message)
    assert (message in caplog.messages) is shown


def test_the_compilers_debug_lines_do_not_bury_a_failure(caplog):
    logger = logging.getLogger("torch._inductor.debug_lines")
    logger.setLevel(logging.DEBUG)
    logger.debug("a graph of a hundred lines")
    logger.warning("news")
    assert caplog.messages == ["news"]


def test_a_lost_connection_is_no_page_of_frames():
    code = (
        "from mnist_lightning.views.console import silence_lost_connections\nsilence_lost_connections()\n"
        "from torch.distributed import DistNetworkError, TCPStore\n"
        "server = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)\n"
        "client = TCPStore('127.0.0.1', server.port, is_master=False)\ndel server\n"
        "try:\n    client.get('x')\nexcept DistNetworkError:\n    print('lost')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("lost\n", "")


def test_warnings_about_the_users_settings_show():
    code = (
        "import warnings\nfrom mnist_lightning.views.console import silence_noise\nsilence_noise()\n"
        "text = 'The \\'train_dataloader\\' does not have many workers which may be a bottleneck.'\nwarnings.warn(text)\n"
        "warnings.warn('You have overridden your own setting')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "many workers" not in done.stderr
    assert "You have overridden your own setting" in done.stderr


def test_a_writer_that_cannot_write_is_told_once_and_other_threads_in_full(capsys):
    class Writer(threading.Thread):
        """Of TensorBoard."""

    Writer.__module__ = "tensorboard.summary.writer.event_file_writer"

    def fail(error):
        raise error

    before = threading.excepthook
    silence_noise()
    try:
        for kind, error in (
            (Writer, OSError("no space")),
            (Writer, KeyError("defect")),
            (threading.Thread, OSError("lost")),
        ):
            thread = kind(target=fail, args=(error,))
            thread.start()
            thread.join()
    finally:
        threading.excepthook = before
    said = capsys.readouterr().err
    assert "no space" not in said
    assert "KeyError: 'defect'" in said and "OSError: lost" in said
