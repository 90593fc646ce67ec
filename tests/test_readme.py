import json
import re

from conftest import PROJECT

README = (PROJECT / "README.md").read_text()
RECORD = PROJECT / "results/amd-epyc-2-cores/1xcpu/batch_size=0128/seed=0/summary.json"


def test_the_first_row_is_the_recorded_run():
    record = json.loads(RECORD.read_text())
    metrics = record["metrics"]
    row = next(line for line in README.splitlines() if line.startswith("| this project, `1xcpu`"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:4] == [
        f"{metrics['seconds/fit']:.2f} s",
        f"{metrics['val/loss']:.5f}",
        f"{metrics['val/accuracy']:.4f}",
    ]
    assert (record["setup"], record["batch_size"], record["epochs"], record["steps"]) == (
        "1xcpu",
        128,
        10,
        4690,
    )
    assert (record["data"], record["train_images"], record["test_images"]) == ("mnist", 60_000, 10_000)
    assert record["machine"]["precision"] == "32-true"
    assert f"{record['machine']['cores']} cores of an {record['machine']['processor']}" in row
    assert f"torch {record['machine']['torch']}" in row
    assert record["command"] == "python -m mnist_lightning fit"


def test_the_recorded_run_learned_what_the_paper_did():
    metrics = json.loads(RECORD.read_text())["metrics"]
    assert 0.9890 <= metrics["val/accuracy"] <= 0.9930
    assert 0.0240 <= metrics["val/loss"] <= 0.0310


def test_every_path_in_the_layout_exists():
    layout = README.split("## Layout")[1].split("```")[1]
    names = re.findall(r"^( *)(\S+)(?: |$)", layout, re.MULTILINE)
    assert len(names) > 15
    folder = ""
    for indent, name in names:
        folder = folder if indent else name
        path = PROJECT / (folder + name if indent else name)
        assert path.exists(), path
    modules = {path.name for path in (PROJECT / "mnist_lightning").glob("*.py")} - {"__init__.py"}
    assert modules == {name for indent, name in names if indent}


def test_every_named_config_exists():
    named = set(re.findall(r"configs/\w+\.yaml", README))
    assert named
    assert all((PROJECT / name).exists() for name in named)


def test_the_installation_commands_stand_on_lines_of_their_own():
    lines = README.splitlines()
    assert "pip install -e . && python -m mnist_lightning fit" in lines
    assert "pip install -e '.[test]' && pytest" in lines
