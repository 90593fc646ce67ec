"""`study`: which cells it has, and what it refuses before the first one runs."""

import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT
from studies import CONFIGS, SUMMARY, run

from mnist_lightning.errors import SettingError
from mnist_lightning.paper import BATCH_SIZES
from mnist_lightning.study import checks, rehearsal
from mnist_lightning.study import command as study
from mnist_lightning.study.cells import Cell, grid
from mnist_lightning.study.checks import refuse_changed, without_hardware


@pytest.fixture
def asked_here(monkeypatch):
    """Cells are asked about in this process, where torch is there already."""

    def answers(lines: str, count: int) -> list[dict]:
        said = io.StringIO()
        with monkeypatch.context() as patch, contextlib.redirect_stdout(said):
            patch.setattr(sys, "argv", ["mnist-lightning", "rehearse"])
            patch.setattr(sys, "stdin", io.StringIO(lines))
            assert rehearsal.main("") == 0
        return [json.loads(line) for line in said.getvalue().splitlines()]

    monkeypatch.setattr(checks, "_answers", answers)


def test_dry_run_prints_the_commands_of_the_papers_grid(asked_here, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(PROJECT)
    assert run(monkeypatch, "--config", "configs/paper.yaml", "--dry_run", "--logs", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * 7 * 3
    assert (
        "python -m mnist_lightning fit --config configs/1xgpu.yaml --data.source mnist --data.batch_size 64 "
        f"--seed_everything 0 --trainer.logger.init_args.save_dir {tmp_path}/paper"
    ) in lines[:21]
    assert [line.split("--seed_everything ")[1][0] for line in lines] == ["0"] * 21 + ["1"] * 21 + ["2"] * 21
    assert list(tmp_path.iterdir()) == []


def test_any_setting_can_be_an_axis(asked_here, monkeypatch, capsys):
    monkeypatch.chdir(PROJECT)
    assert run(monkeypatch, "--config", "configs/architecture.yaml", "--dry_run") == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3 * 3 * 3
    channels = [line[line.index("--model.channels") + 1] for line in lines]
    assert sorted(channels[:9]) == ["[16, 32]"] * 3 + ["[32, 64]"] * 3 + ["[64, 128]"] * 3
    assert "logs/architecture/model.channels=16-32/model.hidden=64" in [line[-1] for line in lines[:9]]


def test_the_cells_of_a_seed_are_shuffled_by_a_recorded_seed():
    def order(seed: int, shuffle: int) -> list[int]:
        cells = grid(Path("logs/x"), [CONFIGS / "1xcpu.yaml"], BATCH_SIZES, [0, 1], {}, {}, shuffle)
        return [cell.batch_size for cell in cells if cell.seed == seed]

    assert order(0, 0) == order(0, 0)
    orders = [order(seed, shuffle) for seed in (0, 1) for shuffle in (0, 1)]
    assert all(sorted(each) == list(BATCH_SIZES) != each for each in orders)
    assert len({tuple(each) for each in orders}) == 4


def test_the_shipped_grids_are_made_of_what_is_there():
    for name in ("paper", "architecture_gain", "architecture"):
        settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        assert settings["name"] == name
        assert all((PROJECT / setup).is_file() for setup in settings["setups"])
    assert settings["batch_sizes"] == [128]
    gain = yaml.safe_load((CONFIGS / "architecture_gain.yaml").read_text())
    # The paper's network is among them, and all are of the precision of the other grid, so that one report compares them.
    assert [32, 64] in gain["axes"]["model.channels"] and gain["fit"] == settings["fit"]
    paper = yaml.safe_load((CONFIGS / "paper.yaml").read_text())
    assert paper["batch_sizes"] == list(BATCH_SIZES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--name=a/b"], "name is 'a/b'"),
        (["--setups=[nowhere/1xcpu.yaml]"], "nowhere/1xcpu.yaml"),
        ([f"--setups=[{CONFIGS}/fast.yaml]"], "fast.yaml"),
        (["--batch_sizes=[]"], "batch_sizes is []"),
        (["--batch_sizes=[32, 32]"], "each value once"),
        (["--batch_sizes=[0]"], "batch_sizes is [0]"),
        (["--batch_sizes=[many]"], "batch_sizes"),
        (["--seeds=[]"], "seeds is []"),
        (['--axes={"model.hidden": 3}'], "axes"),
        (['--axes={"model.hidden": []}'], "model.hidden is []"),
        (['--axes={"data.batch_size": [32]}'], "batch_sizes"),
        (['--fit={"seed_everything": 3}'], "seeds"),
        (['--axes={"model.hidden": [3]}', '--fit={"model.hidden": 4}'], "model.hidden is in axes and in fit"),
        (['--fit={"data.source": "auto"}'], "data.source is auto"),
        (["--sed=3"], "--sed"),
        ([f"--setups=[{CONFIGS}/1xcpu.yaml, ./1xcpu.yaml]"], "setups names two files of 1xcpu"),
        (["--setups=[empty/1xcpu.yaml]"], "setups names empty/1xcpu.yaml is empty"),
        (["--setups=[list/1xcpu.yaml]"], "setups names list/1xcpu.yaml holds a list"),
        (["--setups=[garbage/1xcpu.yaml]"], "setups names garbage/1xcpu.yaml is no text"),
        (["--logs=empty/1xcpu.yaml"], "logs is empty/1xcpu.yaml, but empty/1xcpu.yaml is no folder"),
        (["--logs=empty/1xcpu.yaml/logs"], "but empty/1xcpu.yaml is no folder"),
        (["--repeats=1000000000000"], "The grid has 7,000,000,000,000 cells, more than 100,000"),
        (["--config=nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_bad_arguments_are_one_sentence(monkeypatch, capsys, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    for name, content in {"empty": b"# nothing", "list": b"[1]", "garbage": b"\xff\xfe"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "1xcpu.yaml").write_bytes(content)
    shutil.copy(CONFIGS / "1xcpu.yaml", tmp_path)
    good = ["--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml]"]
    assert run(monkeypatch, *good, *arguments) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and said.startswith("error: ")
    assert sorted(os.listdir()) == ["1xcpu.yaml", "empty", "garbage", "list"]


@pytest.mark.parametrize("dry", [[], ["--dry_run"]])
@pytest.mark.parametrize(
    ("setup", "arguments", "words"),
    [
        ("devices: 2", [], "setups names 1xcpu.yaml, which trains 2xcpu: call the file so, or change its settings"),
        ("max_epochs: 1", ['--fit={"trainer.logger": "CSVLogger"}'], None),
        (
            "max_epochs: 1",
            ['--fit={"trainer.logger": false}'],
            "cannot run. trainer.logger is {save_dir: 'logs/x'}: give",
        ),
        ("max_epochs: 1", ['--fit={"trainer.logger.init_args.name": "x"}'], "would write to logs/x/x, but"),
        ("max_epochs: 1", ['--axes={"trainer.logger.init_args.version": [1, 2]}'], "leave trainer.logger out"),
        ("max_epochs: 1", ['--axes={"model.hiden": [3]}'], "did you mean --model.hidden?"),
        ("max_epochs: 1", ['--axes={"model.hidden": [3, many]}'], "model.hidden is many: give a whole number"),
        ("max_epochs: 1", ['--axes={"model.hidden": [3, 0]}'], "model.hidden is 0: give a positive number"),
        ("max_epoch: 1", [], "unrecognized arguments: --trainer.max_epoch"),
    ],
)
def test_what_cells_would_run_is_asked_before_the_first(
    asked_here, monkeypatch, capsys, tmp_path, setup, arguments, words, dry
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "_run_all", lambda cells, missing, retries: 0)
    Path("1xcpu.yaml").write_text(f"trainer: {{accelerator: cpu, {setup}}}")
    code = run(monkeypatch, "--name=x", "--setups=[1xcpu.yaml]", "--batch_sizes=[32]", *arguments, *dry)
    said = capsys.readouterr().err
    if words is None:
        assert (code, said) == (0, "")
    else:
        assert code == 2 and words in said and said.count("\n") == 1 and said.startswith("error: ")
        assert os.listdir() == ["1xcpu.yaml"]


def test_a_batch_that_a_setup_cannot_share_is_told_before_the_first_cell(monkeypatch, capsys, tmp_path):
    """With a process that is asked."""
    monkeypatch.chdir(tmp_path)
    arguments = [f"--setups=[{CONFIGS}/1xcpu.yaml, {CONFIGS}/2xcpu.yaml]", "--batch_sizes=[32, 33]"]
    assert run(monkeypatch, "--name=x", *arguments) == 2
    assert "batch_sizes has 33, which cannot be shared by the 2 devices of 2xcpu" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_recorded_settings_that_are_none_are_told(tmp_path, content):
    (cell,) = grid(tmp_path, [CONFIGS / "1xcpu.yaml"], [32], [0], {}, {})
    cell.record()
    assert cell.recorded()["data.batch_size"] == 32
    (cell.folder / "settings.json").write_text(content)
    with pytest.raises(SettingError, match=r"settings\.json holds no settings of a cell"):
        cell.recorded()


def test_gpus_are_counted(monkeypatch):
    answers = {"0\n": ["1xgpu", "2xgpu"], "1\n": ["2xgpu"], "2\n": []}
    setups = [CONFIGS / f"{name}.yaml" for name in ("1xcpu", "1xgpu", "2xgpu")]
    for said, missing in answers.items():
        answer = subprocess.CompletedProcess([], 0, said, "")
        monkeypatch.setattr(subprocess, "run", lambda *_, answer=answer, **__: answer)
        assert without_hardware(setups) == missing


@pytest.mark.slow
def test_a_finished_cell_of_other_settings_stops_the_study(asked_here, command, monkeypatch, capsys, tmp_path):
    """With a real fit."""
    config = Path("1xcpu.yaml")
    settings = (CONFIGS / "1xcpu.yaml").read_text()
    config.write_text(settings)
    shared = {"data.source": "sample", "model.channels": [4, 8], "model.hidden": 16, "trainer.max_epochs": 1}
    (cell,) = grid(Path("logs/x"), [config], [480], [0], {}, shared)
    assert command(*cell.arguments) == 0
    assert cell.finished() is not None
    capsys.readouterr()

    def again(fit: dict) -> str:
        """What the study says: one sentence if it refuses to go on."""
        arguments = ["--name=x", f"--setups=[{config}]", "--batch_sizes=[480]", "--retry=0"]
        code = run(monkeypatch, *arguments, f"--fit={json.dumps(fit)}")
        said = capsys.readouterr()
        assert code == (2 if said.err else 0)
        return said.err.removesuffix(": give the study another name, or remove that run.\n") or said.out

    finished = cell.finished()
    assert "finished before" in again(shared)
    assert again({**shared, "model.hidden": 17}) == f"error: model.hidden is 17, but {finished} was run with 16"
    fewer = {name: value for name, value in shared.items() if name != "model.hidden"}
    assert again(fewer) == f"error: model.hidden is None, but {finished} was run with 16"
    config.write_text(settings + "  gradient_clip_val: 1.0\n")
    assert again(shared) == f"error: trainer.gradient_clip_val is 1.0, but {finished} was run with None"
    config.write_text(settings)

    # A run that was resumed by hand has another command; its config tells what it was.
    last = finished / "checkpoints" / "last.ckpt"
    assert command("fit", "--ckpt_path", last, "--trainer.max_epochs=2") == 0
    capsys.readouterr()
    assert "finished before" in again({**shared, "trainer.max_epochs": 2})
    assert again(shared) == f"error: trainer.max_epochs is 1, but {finished} was run with 2"


def test_a_finished_cell_is_compared_with_the_settings_that_the_study_recorded(tmp_path):
    config = tmp_path / "1xcpu.yaml"
    config.write_text("model: {rho: 0.9, learning_rate: 1e-3, dropout: [0.25, 0.5]}")

    def cell(**fit: object) -> Cell:
        (cell,) = grid(tmp_path / "x", [config], [480], [0], {}, {"data.source": "sample", **fit})
        return cell

    first = cell(data={"batch_size": 480})
    first.record()
    run = first.folder / "version_0"
    run.mkdir()
    command = " ".join(["python -m mnist_lightning", *map(shlex.quote, first.arguments)])
    (run / "summary.json").write_text(json.dumps({**SUMMARY, "command": command}))
    (run / "config.yaml").write_text("model: {rho: 0.9, learning_rate: 0.001}")
    refuse_changed([first])
    for text, name, now, before in (
        ("model: {learning_rate: 0.001, dropout: [0.25, 0.5]}", "rho", None, 0.9),
        ("model: {rho: 0.9, learning_rate: 0.001, dropout: [0, 0]}", "dropout", [0, 0], [0.25, 0.5]),
    ):
        config.write_text(text)
        with pytest.raises(SettingError) as refused:
            refuse_changed([first])
        assert str(refused.value).startswith(f"model.{name} is {now}, but {run} was run with {before}: ")
    # Another way to write the same number is the same setting.
    config.write_text("model: {rho: 0.90, learning_rate: 0.001, dropout: [0.25, 0.5]}")
    refuse_changed([first])
    # A run that was resumed in Python has a command that tells nothing.
    (run / "summary.json").write_text(json.dumps({**SUMMARY, "command": "python resume.py"}))
    refuse_changed([first])
