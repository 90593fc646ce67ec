import logging
import subprocess
import sys

import pytest

from mnist_lightning.quiet import silence_noise


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("💡 Tip: For seamless cloud uploads and versioning, try something", False),
        ("GPU available: False, used: False", False),
        ("Seed set to 3", False),
        ("Restoring states from the checkpoint path at last.ckpt", True),
        ("`Trainer.fit` stopped: `max_steps=5` reached.", True),
    ],
)
def test_advertising_is_silent_and_news_is_not(caplog, message, shown):
    silence_noise()
    with caplog.at_level(logging.INFO):
        logging.getLogger("lightning.pytorch.utilities.rank_zero").info(message)
    assert (message in caplog.messages) is shown


def test_warnings_about_the_users_settings_show():
    code = (
        "import warnings; from mnist_lightning.quiet import silence_noise; silence_noise(); "
        "warnings.warn('The \\'train_dataloader\\' does not have many workers which may be a bottleneck.'); "
        "warnings.warn('You have overridden your own setting')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "many workers" not in done.stderr
    assert "You have overridden your own setting" in done.stderr
