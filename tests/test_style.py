"""Format, lint, types, and the order of the house."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter

import pytest
from conftest import PROJECT

PACKAGE = PROJECT / "mnist_lightning"
FILES = sorted(PACKAGE.rglob("*.py"))
# A folder is a room, and so is a module beside it. A room may use those of its own level and of the levels above it here.
LEVELS = (
    {"errors", "waiting", "paper", "run_files"},
    {"sources", "measure", "durability", "sampler", "dropout"},
    {"data", "metrics", "model", "speed", "callbacks"},
    {"runs"},
    {"views"},
    {"experiment"},
    {"cli", "study", "report", "commands", "__main__"},
)


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=lambda words: "-".join(words)
)
def test_it_has_nothing_to_say(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def imported(node: ast.AST) -> Iterator[str]:
    """The rooms that code imports when it runs, at its top or within a function."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{name}" for name in names]
    yield from (name.split(".")[1] for name in names if name.startswith("mnist_lightning."))
    for child in ast.iter_child_nodes(node):
        yield from imported(child)


def test_rooms_use_what_lies_below_them_and_go_round_in_no_circle():
    graph: dict[str, set[str]] = {}
    for path in FILES:
        first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if first != "__init__":  # it hands on names of all rooms, when they are asked for
            graph.setdefault(first, set()).update(set(imported(ast.parse(path.read_text()))) - {first})
    level = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
    assert graph.keys() == level.keys()
    assert [(room, used) for room in graph for used in graph[room] if level[used] > level[room]] == []
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_files_are_of_a_size_that_one_reads():
    assert max(len(path.read_text().splitlines()) for path in FILES) <= 250


def test_the_oldest_versions_are_those_that_are_tested():
    asked = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    oldest = {re.sub(r"\[.*\]", "", each.split(">=")[0]): each.split(">=")[1].split(",")[0] for each in asked}
    lines = (PROJECT / ".ci" / "oldest.txt").read_text().splitlines()
    assert dict(line.split("==") for line in lines if not line.startswith("#")) == oldest
