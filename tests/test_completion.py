"""Completion in a shell."""

import shutil
import subprocess
import sys

import pytest


def script(shell: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mnist_lightning", "--print_completion", shell],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_and_settings(tmp_path):
    (tmp_path / "completion").write_text(script("bash"))

    def completed(*words: str) -> list[str]:
        line = (
            f"source completion; COMP_WORDS=(mnist-lightning {' '.join(words)}); COMP_CWORD={len(words)}; "
            'function=$(complete -p mnist-lightning | grep -o "_[a-z_]* " | tail -1); $function; echo "${COMPREPLY[@]}"'
        )
        answer = ["bash", "--norc", "-c", line]
        return subprocess.run(
            answer, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=True
        ).stdout.split()

    assert {"fit", "validate", "test", "predict", "study", "report"} <= set(completed('""'))
    assert completed("rep") == ["report"]
    assert "--data.batch_size" in completed("fit", "--data.b")
    assert completed("study", "--dry") == ["--dry_run"]


@pytest.mark.slow
def test_zsh_gets_a_script_of_its_own():
    text = script("zsh")
    assert text.startswith("#compdef mnist-lightning")
    assert "--data.batch_size" in text and "--dry_run" in text


def test_an_unknown_shell_is_refused():
    command = [sys.executable, "-m", "mnist_lightning", "--print_completion", "dos"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: --print_completion needs the name of a shell: bash or zsh.\n"
