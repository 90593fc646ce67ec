"""The commands, links, paths and examples of README and docs."""

import csv
import re
import runpy
import shlex
from pathlib import Path

import torch
from conftest import PROJECT, SMALL

from mnist_lightning.sources.sample import read_sample

README = (PROJECT / "README.md").read_text()
DOCS = PROJECT / "docs"
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
DIGITS, STUDIED, SPEED = ((DOCS / f"{name}.md").read_text() for name in ("own-digits", "study-and-report", "speed"))


def test_every_path_in_the_layout_exists_and_every_module_is_in_it():
    layout = README.split("## Layout")[1].split("```")[1]
    names = re.findall(r"^( *)(\S+)(?: |$)", layout, re.MULTILINE)
    folder = ""
    for indent, name in names:
        folder = folder if indent else name
        assert (PROJECT / (folder + name if indent else name)).exists(), name
    package = PROJECT / "mnist_lightning"
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    modules |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert modules == {name for indent, name in names if indent}


def test_every_link_and_named_config_leads_to_a_file_and_every_page_is_reached():
    links = [(page, target) for page in PAGES for target in re.findall(r"\]\(([^)#]+)", page.read_text())]
    links = [(page, target) for page, target in links if not target.startswith("https://")]
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []
    assert {page.relative_to(PROJECT).as_posix() for page in PAGES[1:]} <= {target for _, target in links}
    named = {name for page in PAGES for name in re.findall(r"configs/\w+\.yaml", page.read_text())}
    assert named and all((PROJECT / name).exists() for name in named)


def test_the_commands_and_the_code_of_the_readme_work_on_a_small_network(command, tmp_path, capsys):
    """But for those of two devices, of TensorBoard and of help."""
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    run = "logs/1xcpu-b0480-s0/version_0"
    added = {
        "fit": [*SMALL, "--trainer.max_epochs=1", "--trainer.accelerator=cpu"],
        "test": ["--data.source=sample", "--trainer.accelerator=cpu"],
        "study": ["--dry_run=true"],
    }
    lines = README.split("## Use")[1].split("```bash\n")[1].split("```")[0].splitlines()
    words = [shlex.split(line.replace("$RUN", run), comments=True) for line in lines]
    ran = [each[3:] for each in words if not {"2", "configs/2xgpu.yaml", "--help", "tensorboard"} & set(each)]
    for name, *options in ran:
        assert command(name, *options, *added.get(name, [])) == 0, (name, options)
    assert {name for name, *_ in ran} == {"fit", "test", "study", "report"}
    assert Path("report/report.html").exists() and capsys.readouterr().out.count("fit --config configs/") >= 63

    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    small = {"max_epochs=1": 'max_epochs=1, accelerator="cpu"', "Module()": 'Module(source="sample", batch_size=480)'}
    small["Classifier()"] = "Classifier(channels=(8, 16), hidden=16)"
    for there, here in small.items():
        assert code.count(there) == 1
        code = code.replace(there, here)
    Path("code.py").write_text(code)
    module, first = (runpy.run_path("code.py")["trainer"].model, torch.load(f"{run}/checkpoints/last.ckpt"))
    assert all(torch.equal(module.state_dict()[name], each) for name, each in first["state_dict"].items())

    (code,) = re.findall(r"```python\n(.*?)```", DIGITS, re.DOTALL)
    Path("code.py").write_text(code.replace("last.ckpt", f"{run}/checkpoints/last.ckpt"))
    digits = runpy.run_path("code.py", {"images": read_sample()[1][0]})["digits"]
    assert command("predict", *added["test"], "--ckpt_path", f"{run}/checkpoints/last.ckpt") == 0
    with open("predictions.csv", newline="") as file:
        assert [int(row["prediction"]) for row in csv.DictReader(file)] == digits.tolist()
