"""Format, lint, types, and the order of the house."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import PROJECT

PACKAGE = PROJECT / "mnist_lightning"
FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=lambda words: "-".join(words)
)
def test_it_has_nothing_to_say(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def module(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts)


MODULES = {module(path): path for path in FILES if path.name != "__init__.py"}


def imported(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else node.module for name in names)


def test_imports_go_round_in_no_circle():
    graph = {name: {other for other in imported(path) if other in MODULES} for name, path in MODULES.items()}
    assert len(graph) > 40 and sum(map(len, graph.values())) > 100
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)  # raises CycleError


def test_files_are_of_a_size_that_one_reads():
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    assert lines[PACKAGE / "cli.py"] <= 150
    assert max(lines.values()) <= 250


def test_the_packages_own_names_are_imported_when_asked_for():
    code = (
        "import sys, mnist_lightning; assert not {'torch', 'lightning'} & set(sys.modules); "
        "from mnist_lightning import MNISTClassifier, MNISTDataModule, commands, experiment; "
        "print(MNISTClassifier.__module__, MNISTDataModule.__module__, commands.__name__, experiment.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == [f"mnist_lightning.{name}" for name in ("model", "data", "commands", "experiment")]
