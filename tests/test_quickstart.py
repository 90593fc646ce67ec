"""The quickstart notebook."""

import os
from pathlib import Path

import nbformat
import pytest
from conftest import PROJECT
from nbclient import NotebookClient

NOTEBOOK = PROJECT / "docs" / "quickstart.ipynb"


def said(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


def test_the_committed_outputs_are_of_a_run_without_errors():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert "error" not in {output.output_type for output in outputs} and "warning" not in said(notebook)


@pytest.mark.slow
def test_the_notebook_runs_and_its_network_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert float(said(notebook).split(" of 1000 test images are right")[0].split()[-1]) > 0.9
    assert list(Path().iterdir()) == []
