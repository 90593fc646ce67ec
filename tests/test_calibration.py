"""The code of a run, and other work on its machine. test_measure.py has the rates, and what a summary makes of them."""

import json
import subprocess
import sys

import pytest
import torch
from conftest import SMALL

import mnist_lightning
from mnist_lightning.measure.machine import describe_machine


def test_a_run_names_the_tree_of_its_code_which_a_page_of_documentation_does_not_change(tmp_path, monkeypatch):
    def git(*words):
        command = ["git", "-C", tmp_path, "-c", "user.name=me", "-c", "user.email=me@localhost", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()[:12]

    def told():
        machine = describe_machine(torch.device("cpu"), "32-true", 0.0)
        return machine["commit"], machine["code"]

    package = tmp_path / "mnist_lightning" / "__init__.py"
    monkeypatch.setattr(mnist_lightning, "__file__", str(package))
    package.parent.mkdir()
    for path in (package, tmp_path / "README.md"):
        path.touch()
        git("init")
        git("add", ".")
        git("commit", "-m", "one more file")
        assert told() == (git("rev-parse", "HEAD"), git("rev-parse", "HEAD:mnist_lightning"))
    commit, code = told()
    path.write_text("a page")
    assert told() == (commit, code)
    package.write_text("x = 1")
    assert told() == (f"{commit}+", f"{code}+")


@pytest.mark.slow
def test_another_program_is_noticed_while_a_run_trains(command, tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert command("fit", *SMALL, "--trainer.max_epochs=2", "--trainer.accelerator=cpu") == 0
    finally:
        other.kill()
        other.wait()
    cores = json.loads(next(tmp_path.rglob("summary.json")).read_text())["neighbours"]
    assert cores["own_cores"] > 0.1 and cores["other_cores"] > 0.1 and cores["stolen_cores"] >= 0
