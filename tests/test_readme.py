"""The commands, links, paths and examples of README and docs."""

import csv
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import PROJECT, QUICK

from mnist_lightning.sources.sample import read_sample

README = (PROJECT / "README.md").read_text()
DOCS = PROJECT / "docs"
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
USE, DIGITS, STUDIED, SPEED = (
    (DOCS / f"{name}.md").read_text() for name in ("use", "own-digits", "study-and-report", "speed")
)


def test_every_path_in_the_layout_exists():
    layout = README.split("## Layout")[1].split("```")[1]
    names = re.findall(r"^( *)(\S+)(?: |$)", layout, re.MULTILINE)
    assert len(names) > 15
    folder = ""
    for indent, name in names:
        folder = folder if indent else name
        path = PROJECT / (folder + name if indent else name)
        assert path.exists(), path
    package = PROJECT / "mnist_lightning"
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    modules |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert modules == {name for indent, name in names if len(indent) == 4}


def test_every_link_leads_to_a_file():
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text())
        if not target.startswith("https://")
    ]
    assert len(links) >= 20
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []
    # Each page is reached from the first one.
    assert {page.relative_to(PROJECT).as_posix() for page in PAGES[1:]} <= {target for _, target in links}


def test_the_readme_fits_on_two_screens():
    assert len(README.splitlines()) <= 150


BLOCKS = re.findall(r"<!-- run -->\s+```bash\n(.*?)```", USE, re.DOTALL)


def test_the_marked_commands_work_on_a_small_network(command, tmp_path, capsys):
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    small = [option for option in QUICK if not option.startswith("--data.")]
    (block,) = BLOCKS
    lines = block.splitlines()
    run = next(line.removeprefix("RUN=") for line in lines if line.startswith("RUN="))
    ran = [shlex.split(line.replace("$RUN", run)) for line in lines if not line.startswith("RUN=")]
    for words in ran:
        assert words[:3] == ["python", "-m", "mnist_lightning"]
        assert command(*words[3:], *(small if words[3] == "fit" else [])) == 0
    assert [words[3] for words in ran] == ["fit", "test", "report", "study"]
    assert (Path(run) / "summary.json").exists() and (tmp_path / "report" / "report.md").exists()
    assert capsys.readouterr().out.count("python -m mnist_lightning fit --config configs/") == 63


@pytest.mark.slow
def test_the_marked_commands_run(tmp_path):
    """In a folder that has the configs and nothing else."""
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in BLOCKS:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "Training time" in said and "test/accuracy" in said
    assert (tmp_path / "report" / "report.md").exists()
    assert said.count("python -m mnist_lightning fit --config configs/") == 63


def test_a_checkpoint_is_a_network_in_the_lines_that_the_readme_shows(command, tmp_path):
    assert command("fit", *QUICK, "--trainer.max_epochs=1", "--trainer.accelerator=cpu") == 0
    (last,) = tmp_path.glob("logs/*/*/*/*/checkpoints/last.ckpt")
    shutil.copy(last, "last.ckpt")
    (code,) = re.findall(r"```python\n(.*?)```", DIGITS, re.DOTALL)
    (tmp_path / "code.py").write_text(code)
    digits = runpy.run_path("code.py", {"images": read_sample()[1][0]})["digits"]
    assert digits.shape == (1000,) and digits.dtype == torch.int64
    options = ["--data.source=sample", "--ckpt_path", tmp_path / "last.ckpt", "--trainer.accelerator=cpu"]
    assert command("predict", *options) == 0
    with open("predictions.csv", newline="") as file:
        assert [int(row["prediction"]) for row in csv.DictReader(file)] == digits.tolist()


def test_every_named_config_exists():
    named = {name for page in PAGES for name in re.findall(r"configs/\w+\.yaml", page.read_text())}
    assert len(named) >= 5
    assert all((PROJECT / name).exists() for name in named)


def test_the_installation_commands_stand_on_lines_of_their_own():
    lines = README.splitlines()
    assert "pip install -e . && python -m mnist_lightning fit" in lines
    assert "pip install -e '.[test]' && pytest" in lines
