"""The wheel holds all that the commands need, and runs from another folder than the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT, SMALL


@pytest.mark.slow
def test_the_wheel_fits_studies_and_reports(tmp_path):
    def run(*command: str, folder: Path = tmp_path) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    environment = dict(os.environ)
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(PROJECT))
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel))
    environment["PYTHONPATH"] = str(site)
    work = tmp_path / "work"
    work.mkdir()
    assert run("-c", "import mnist_lightning; print(mnist_lightning.__file__)", folder=work).startswith(str(site))
    (work / "1xcpu.yaml").write_text("trainer:\n  accelerator: cpu\n")
    program = ("-m", "mnist_lightning")
    assert "Training time" in run(*program, "fit", *SMALL, "--trainer.max_epochs=1", folder=work)
    fit = {"data.source": "sample", "model.channels": [4, 8], "model.hidden": 16, "trainer.max_epochs": 1}
    study = ["--name=x", "--setups=[1xcpu.yaml]", "--batch_sizes=[480]", f"--fit={json.dumps(fit)}"]
    assert "[1/1]" in run(*program, "study", *study, folder=work)
    assert "of 1 run\n" in run(*program, "report", "--logs", "logs/x", folder=work)
    assert (work / "report" / "report.md").read_text().startswith("# The paper's experiment, run again")
