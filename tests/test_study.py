"""`study`: which cells run, in which order, and what becomes of those that were interrupted or fail."""

import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, told
from processes import in_folder, wait_for

from mnist_lightning.durability.signals import Stopped
from mnist_lightning.errors import SettingError
from mnist_lightning.measure.disturbance import disturbances
from mnist_lightning.paper import BATCH_SIZES
from mnist_lightning.study import checks, rehearsal
from mnist_lightning.study import command as study
from mnist_lightning.study.cells import Cell, grid
from mnist_lightning.study.checks import refuse_changed, without_hardware

CONFIGS = PROJECT / "configs"
# A stand-in for Python that leaves what a `fit` of the same arguments leaves; batch size 13 fails.
FIT = """#!{python}
import json, os, pathlib, sys
if sys.argv[2] != "mnist_lightning":
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
value = dict(zip(sys.argv[4::2], sys.argv[5::2]))
with open("ran", "a") as ran:
    print(value["--data.batch_size"], value["--seed_everything"], value["--config"].split("/")[-1], file=ran)
if value["--data.batch_size"] == "13":
    sys.exit("error: data.batch_size 13 is unlucky.")
run = pathlib.Path(value["--trainer.logger.init_args.save_dir"], pathlib.Path(value["--config"]).stem)
run = run / f"batch_size={{int(value['--data.batch_size']):04d}}/seed={{value['--seed_everything']}}"
run.mkdir(parents=True, exist_ok=True)
there = [int(name.name.split("_")[1]) for name in run.glob("version_*")]
run = run / f"version_{{max(there, default=-1) + 1}}"
run.mkdir()
others = float(pathlib.Path("others").read_text()) if pathlib.Path("others").exists() else 0.0
neighbours = {{"own_cores": 2.0, "other_cores": others, "stolen_cores": 0.0}}
(run / "summary.json").write_text(json.dumps({{**json.loads({summary!r}), "neighbours": neighbours}}))
"""
SUMMARY = {
    "setup": "1xcpu",
    "batch_size": 32,
    "seed": 0,
    "data": "mnist",
    "train_images": 60_000,
    "parameters": 1_199_882,
    "machine": {"precision": "32-true", "cores": 2},
    "epochs": 1,
    "steps": 1875,
    "metrics": {"seconds/fit": 60.0, "seconds/warm_up": 0.0, "val/accuracy": 0.99, "val/loss": 0.03},
    "median": {"images_per_second": 1000.0},
    "by_epoch": {"seconds/epoch": [60.0], "val/accuracy": [0.99]},
}


@pytest.fixture
def fake_fit(tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text(FIT.format(python=sys.executable, summary=json.dumps(SUMMARY)))
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(study, "busy_cores", lambda: 0.0)
    monkeypatch.setattr(study, "refuse_changed", lambda finished: None)
    monkeypatch.setattr(study, "rehearse", lambda cells, missing: None)
    return lambda: Path("ran").read_text().splitlines() if Path("ran").exists() else []


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


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["mnist-lightning", "study", *map(str, arguments)])
    return told(study.main)


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


def test_repeats_are_versions_of_one_run(fake_fit, monkeypatch, capsys):
    arguments = ["--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml]", "--batch_sizes=[32, 64]"]
    assert run(monkeypatch, *arguments, "--repeats=2", "--shuffle=3") == 0
    assert sorted(fake_fit()) == ["32 0 1xcpu.yaml"] * 2 + ["64 0 1xcpu.yaml"] * 2
    assert sorted(path.name for path in Path("logs/x").glob("*/batch_size=0032/*/version_*")) == [
        "version_0",
        "version_1",
    ]
    # The study's own file makes the same cells in the same order.
    assert run(monkeypatch, "--config=logs/x/study.yaml") == 0
    assert len(fake_fit()) == 4 and capsys.readouterr().out.count("finished before") == 4
    assert yaml.safe_load(Path("logs/x/study.yaml").read_text())["shuffle"] == 3
    assert run(monkeypatch, *arguments, "--repeats=3") == 0
    assert len(fake_fit()) == 6


def test_disturbed_cells_are_run_again_at_the_end(fake_fit, monkeypatch, capsys, tmp_path):
    Path("others").write_text("0.11")  # more than 5 % of the two cores that a run uses
    arguments = ["--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml]", "--batch_sizes=[32]"]
    assert run(monkeypatch, *arguments, "--retry=0") == 0
    assert len(fake_fit()) == 1
    assert run(monkeypatch, *arguments) == 0
    assert len(fake_fit()) == 3
    said = capsys.readouterr().out
    assert (
        said.count("again: 1xcpu, batch size 32, seed 0, since other programs kept 0.11 cores while it used 2.00") == 2
    )
    (cell,) = Path("logs/x").glob("*/*/*")
    assert sorted(os.listdir(cell)) == ["disturbed_0", "disturbed_1", "settings.json", "version_2"]
    # It is disturbed, but has been tried twice.
    assert run(monkeypatch, *arguments) == 0
    assert len(fake_fit()) == 3
    Path("others").write_text("0.05")
    assert run(monkeypatch, *arguments, "--retry=3") == 0
    assert len(fake_fit()) == 4
    assert "disturbed_2" in os.listdir(cell) and "version_3" in os.listdir(cell)


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, 0),
        ({"other_cores": 0.1}, 0),
        ({"other_cores": 0.11}, 1),
        ({"other_cores": 0.11, "stolen_cores": 0.2}, 2),
        ({"after": 95.1}, 0),
        ({"after": 94.9}, 1),
        ({"after": 105.1}, 1),
    ],
)
def test_what_disturbs_a_run(changes, reasons):
    after = changes.get("after", 100.0)
    summary = {
        "machine": {"precision": "bf16-mixed", "cores": 4},
        "neighbours": {"own_cores": 2.0, "other_cores": 0.0, "stolen_cores": 0.0, **changes},
        "calibration": {
            "before": {"bf16_gflops": 1.0, "fp32_gflops": 100.0},
            "after": {"bf16_gflops": 50.0, "fp32_gflops": after},
        },
    }
    assert len(disturbances(summary)) == reasons
    # A run of before there was a calibration.
    assert disturbances({"machine": {"precision": "32-true", "cores": 2}, "neighbours": {"other_cores": 0.06}}) == []


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


@pytest.mark.parametrize(("content", "words"), [(b"{}", "setup is missing"), (b"\xff", "is no text")])
def test_a_summary_that_is_none_is_told(fake_fit, monkeypatch, capsys, content, words):
    arguments = ["--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml]", "--batch_sizes=[32]"]
    assert run(monkeypatch, *arguments) == 0
    (summary,) = Path("logs").rglob("summary.json")
    summary.write_bytes(content)
    assert run(monkeypatch, *arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_recorded_settings_that_are_none_are_told(tmp_path, content):
    (cell,) = grid(tmp_path, [CONFIGS / "1xcpu.yaml"], [32], [0], {}, {})
    cell.record()
    assert cell.recorded()["data.batch_size"] == 32
    (cell.folder / "settings.json").write_text(content)
    with pytest.raises(SettingError, match=r"settings\.json holds no settings of a cell"):
        cell.recorded()


def test_a_failed_cell_is_told_and_the_others_go_on(fake_fit, monkeypatch, capsys):
    arguments = ["--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml,{CONFIGS}/2xcpu.yaml]", "--seeds=[0, 1]"]
    assert run(monkeypatch, *arguments, "--batch_sizes=[13, 32]") == 1
    ran = fake_fit()
    for seed, cells in ((0, ran[:4]), (1, ran[4:])):
        assert sorted(cells) == [f"{size} {seed} {setup}.yaml" for size in (13, 32) for setup in ("1xcpu", "2xcpu")]
    said = capsys.readouterr().out
    failure = "1xcpu, batch size 13, seed 1: exit code 1: error: data.batch_size 13 is unlucky."
    assert f"FAILED  {failure}" in said.splitlines()[-4:]
    number = ran.index("32 0 1xcpu.yaml") + 1
    cell = f"[{number}/8] 1xcpu, batch size 32, seed 0"
    left = 8 - number
    time = f"{left} min" if left > 1 else "60 s"
    assert f"{cell}: 60.0 s, accuracy 0.9900, loss 0.03000; {left} left, about {time}" in said

    # What has finished is not run again; what has failed is.
    assert run(monkeypatch, *arguments, "--batch_sizes=[13, 32]") == 1
    assert len(fake_fit()) == 12
    assert f"{cell}: finished before" in capsys.readouterr().out


def test_an_interrupted_cell_is_put_aside_and_run_from_its_start(fake_fit, monkeypatch):
    cell = Path("logs/x/1xcpu/batch_size=0032/seed=0")
    (cell / "version_0").mkdir(parents=True)
    (cell / "version_0" / "half").write_text("kept")
    assert run(monkeypatch, "--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml]", "--batch_sizes=[32]") == 0
    assert sorted(os.listdir(cell)) == ["interrupted_0", "settings.json", "version_0"]
    assert (cell / "interrupted_0" / "half").read_text() == "kept"
    assert (cell / "version_0" / "summary.json").exists()


def test_a_cell_that_runs_elsewhere_and_a_study_that_does_are_left_alone(fake_fit, monkeypatch, capsys):
    cell = Path("logs/x/1xcpu/batch_size=0032/seed=0/version_0")
    cell.mkdir(parents=True)
    hold = (
        "import sys, pathlib, time; from mnist_lightning.durability.locks import held\n"
        "with held(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    arguments = ["--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml]", "--batch_sizes=[32]"]
    python = os.path.join(sys.prefix, "bin", "python")
    for folder, code, words in (
        (cell, 0, "another process runs it now"),
        (Path("logs/x"), 2, "another process runs now"),
    ):
        with subprocess.Popen([python, "-c", hold, folder], stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "held\n"
            assert run(monkeypatch, *arguments) == code
            other.kill()
        said = capsys.readouterr()
        assert words in said.out + said.err
    assert fake_fit() == []
    assert run(monkeypatch, *arguments) == 0


def test_setups_without_their_hardware_are_skipped_once(fake_fit, monkeypatch, capsys):
    monkeypatch.setattr(study, "without_hardware", lambda setups: ["2xgpu"])
    arguments = ["--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml,{CONFIGS}/2xgpu.yaml]"]
    assert run(monkeypatch, *arguments, "--batch_sizes=[32, 64]") == 0
    assert capsys.readouterr().out.count("2xgpu") == 1
    assert sorted(fake_fit()) == ["32 0 1xcpu.yaml", "64 0 1xcpu.yaml"]


def test_a_study_without_validations_is_told(fake_fit, monkeypatch, capsys):
    summary = {**SUMMARY, "metrics": {"seconds/fit": 60.0, "seconds/warm_up": 0.0}}
    monkeypatch.setattr(Cell, "summary", lambda cell: summary)
    config = ["--setups", f"[{CONFIGS / '1xcpu.yaml'}]", "--batch_sizes=[32]"]
    assert run(monkeypatch, "--name=blind", *config) == 0
    assert "seed 0: 60.0 s, no validation" in capsys.readouterr().out
    assert run(monkeypatch, "--name=blind", *config, "--dry_run") == 0
    assert capsys.readouterr().out == ""


def test_a_busy_machine_is_warned_of(fake_fit, monkeypatch, capsys):
    monkeypatch.setattr(study, "busy_cores", lambda: 1.5)
    assert run(monkeypatch, "--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml]", "--batch_sizes=[32]") == 0
    assert "warning: other programs keep 1.5 cores busy" in capsys.readouterr().out


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


def test_a_study_that_is_stopped_stops_its_cell(fake_fit, monkeypatch, tmp_path):
    (tmp_path / "python").write_text(
        f"#!{os.path.join(sys.prefix, 'bin', 'python')}\nimport os, pathlib, time\n"
        "pathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)\n"
    )

    def interrupt():
        while not Path("pid").exists() or not Path("pid").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    def stop(signum, frame):
        raise Stopped(signum)

    before = signal.signal(signal.SIGINT, stop)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(Stopped) as stopped:
            run(monkeypatch, "--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml]", "--batch_sizes=[32, 64]")
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped.value.exit_code == 130
    assert "goes on with the cells that are left" in stopped.value.__notes__[0]
    assert not Path("/proc", Path("pid").read_text()).exists()


TINY = {"data.source": "sample", "model.channels": [4, 8], "model.hidden": 16, "trainer.max_epochs": 3}


def start(folder: Path) -> subprocess.Popen:
    arguments = [
        "--name=x",
        f"--setups=[{CONFIGS}/1xcpu.yaml,{CONFIGS}/2xcpu.yaml]",
        "--batch_sizes=[480, 960]",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "mnist_lightning", "study", *arguments, f"--fit={json.dumps(TINY)}"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def accuracies(folder: Path) -> dict[str, float]:
    return {
        str(path.relative_to(folder)): json.loads(path.read_text())["metrics"]["val/accuracy"]
        for path in folder.rglob("version_*/summary.json")
    }


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_study_cut_short_goes_on_and_ends_as_one_that_ran_through(tmp_path, signum, code):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    through = start(whole)
    assert through.wait(300) == 0
    assert len(accuracies(whole)) == 4

    study = start(broken)
    # In the middle of the second cell, which is two processes.
    wait_for(lambda: list(broken.glob("logs/x/2xcpu/*/*/*/events*")), 200)
    study.send_signal(signum)
    assert study.wait(20) == code
    wait_for(lambda: not in_folder(broken), 10)
    assert len(accuracies(broken)) == 1

    assert start(broken).wait(300) == 0
    assert accuracies(broken) == accuracies(whole)
    assert in_folder(broken) == []
