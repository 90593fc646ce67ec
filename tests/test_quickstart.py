"""The quickstart notebook."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from conftest import PROJECT
from nbclient import NotebookClient

NOTEBOOK = PROJECT / "docs" / "quickstart.ipynb"


def told(notebook: nbformat.NotebookNode) -> list[str]:
    """The kinds of the outputs of each code cell."""
    return [
        " ".join("picture" if "image/png" in output.get("data", {}) else output.output_type for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_the_committed_outputs_are_of_a_run_without_errors():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert "picture" in told(notebook) and "error" not in " ".join(told(notebook))
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [1, 2, 3, 4, 5]


def test_the_readme_says_what_the_notebook_shows():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    (accuracies,) = (line for line in _said(cells).splitlines() if line.startswith("[0."))
    first = json.loads(accuracies)[0]
    readme = " ".join((PROJECT / "README.md").read_text().split())
    assert f"on the sample, one epoch on one device gave an accuracy of {first:.4f}, " in readme
    assert "warning" not in _said(cells)  # the committed run was on an idle machine


def _said(cells: list[nbformat.NotebookNode]) -> str:
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


@pytest.mark.slow
def test_the_notebook_runs_and_its_network_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]))
    notebook, committed = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert [kinds.split()[0] for kinds in told(notebook)] == [kinds.split()[0] for kinds in told(committed)]
    assert float(_said(notebook.cells).split(" of 1000 test images are right")[0].split()[-1]) > 0.9
    assert list(Path().iterdir()) == []
