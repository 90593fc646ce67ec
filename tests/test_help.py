import contextlib
import io
import os
import re
import subprocess
import sys

import pytest

from mnist_lightning import cli, commands
from mnist_lightning.commands import COMMANDS


def test_help_lists_the_commands_and_imports_no_torch():
    code = (
        "import sys; sys.argv = ['mnist-lightning', '--help']; from mnist_lightning.commands import main; "
        "code = main(); heavy = {'torch', 'lightning', 'jsonargparse'} & set(sys.modules); sys.exit(code or bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")] == list(COMMANDS)


@pytest.mark.parametrize(
    ("setting", "default"),
    [
        ("--model.channels", "(32, 64)"),
        ("--model.hidden", "128"),
        ("--model.dropout", "(0.25, 0.5)"),
        ("--model.learning_rate", "1.0"),
        ("--model.rho", "0.95"),
        ("--model.eps", "1e-07"),
        ("--data.batch_size", "128"),
        ("--data.source", "auto"),
        ("--trainer.max_epochs", "10"),
        ("--trainer.devices", "1"),
        ("--seed_everything", "0"),
    ],
)
def test_the_help_of_fit_shows_the_papers_values(fit_help, setting, default):
    entry = re.split(rf"\n  {re.escape(setting)}[ ,]", fit_help, maxsplit=1)[1].split("\n  --", 1)[0]
    assert f"default: {default})" in " ".join(entry.split())


def help_of(command: str) -> str:
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        patched.setattr(sys, "argv", ["mnist-lightning", command, "--help"])
        patched.setenv("COLUMNS", "110")
        commands.main()
    return said.getvalue()


@pytest.fixture(scope="module")
def fit_help() -> str:
    return help_of("fit")


def test_help_says_what_the_command_does_and_what_a_checkpoint_is(fit_help):
    assert fit_help.startswith("usage: python -m mnist_lightning")
    for name, page in (("fit", fit_help), ("test", help_of("test"))):
        said = " ".join(page.split())
        does = COMMANDS[name].help
        assert f" {does[0].upper()}{does[1:]}. options: " in said
        assert "Checkpoint: --ckpt_path CKPT_PATH Of a run, such as RUN/checkpoints/last.ckpt" in said


def test_the_script_is_the_same_program(tmp_path):
    script = os.path.join(os.path.dirname(sys.executable), "mnist-lightning")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m mnist_lightning")


def test_one_batch_is_not_all_batches(monkeypatch, capsys):
    """Python's cache of types may give the parser `float | int` for `int | float`, and 1.0 is a share."""
    for typed in ("1", "0.5"):
        monkeypatch.setattr(
            sys, "argv", ["mnist-lightning", "fit", f"--trainer.limit_train_batches={typed}", "--print_config"]
        )
        with pytest.raises(SystemExit):
            cli.main()
        assert f"  limit_train_batches: {typed}\n" in capsys.readouterr().out
