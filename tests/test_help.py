"""What `--help` and the console show."""

import logging
import os
import re
import subprocess
import sys
import warnings

import pytest

from mnist_lightning import commands
from mnist_lightning.views.console import silence_noise

SIX = ["fit", "validate", "test", "predict", "study", "report"]


def test_help_lists_six_commands_and_imports_no_torch():
    code = (
        "import sys; sys.argv = ['mnist-lightning', '--help']; from mnist_lightning.commands import main; "
        "code = main(); heavy = {'torch', 'lightning', 'jsonargparse'} & set(sys.modules); sys.exit(code or bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")] == SIX
    script = os.path.join(os.path.dirname(sys.executable), "mnist-lightning")
    assert subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout == done.stdout


def test_the_help_of_fit_shows_the_papers_values(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mnist-lightning", "fit", "--help"])
    monkeypatch.setenv("COLUMNS", "110")
    with pytest.raises(SystemExit):
        commands.main()
    page = capsys.readouterr().out
    papers = {"channels": "(32, 64)", "hidden": "128", "dropout": "(0.25, 0.5)", "learning_rate": "1.0", "rho": "0.95"}
    defaults = {f"model.{name}": value for name, value in papers.items()} | {"model.eps": "1e-07"}
    defaults |= {"data.batch_size": "128", "data.source": "auto", "trainer.max_epochs": "10", "trainer.devices": "1"}
    for setting, default in {**defaults, "seed_everything": "0"}.items():
        entry = re.split(rf"\n  --{re.escape(setting)}[ ,]", page, maxsplit=1)[1].split("\n  --", 1)[0]
        assert f"default: {default})" in " ".join(entry.split()), setting


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("💡 Tip: For seamless cloud uploads and versioning, try something", False),
        ("GPU available: False, used: False", False),
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
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        silence_noise()
        warnings.warn("The 'train_dataloader' does not have many workers", stacklevel=1)
        warnings.warn("You have overridden your own setting", stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["You have overridden your own setting"]
