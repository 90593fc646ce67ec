"""The wheel holds all that the commands need, and runs from another folder than the checkout."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import PROJECT, SMALL


@pytest.mark.slow
def test_the_wheel_fits_studies_and_reports(tmp_path):
    source, site, work = (tmp_path / name for name in ("source", "site", "work"))
    work.mkdir()

    def run(*command: object) -> str:
        words = [sys.executable, *map(str, command)]
        environment = os.environ | {"PYTHONPATH": str(site)}
        done = subprocess.run(
            words, cwd=work, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    shutil.copytree(PROJECT / "mnist_lightning", source / "mnist_lightning")
    shutil.copytree(PROJECT / "configs", source / "configs")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel)
    assert run("-c", "import mnist_lightning; print(mnist_lightning.__file__)").startswith(str(site))
    program = "-m", "mnist_lightning"
    assert "Training time" in run(*program, "fit", *SMALL, "--config=1xcpu.yaml", "--trainer.max_epochs=1")
    # The configs come with it, under their names.
    assert "--config 1xcpu.yaml" not in (commands := run(*program, "study", "--config", "paper.yaml", "--dry_run=true"))
    assert len(commands.splitlines()) == 63 and f"--config {site}/mnist_lightning/configs/2xgpu.yaml" in commands
    fit = {"data.source": "sample", "model.channels": [8, 16], "model.hidden": 16, "trainer.max_epochs": 1}
    study = ["--name=x", "--setups=[1xcpu.yaml]", "--batch_sizes=[480]", f"--fit={json.dumps(fit)}"]
    assert "[1/1]" in run(*program, "study", *study)
    assert "of 1 run\n" in run(*program, "report", "--logs", "logs/x")
