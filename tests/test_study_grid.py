"""`study`: which cells it has, and what it refuses before the first one runs."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import PROJECT
from studies import CONFIGS, run

from mnist_lightning.paper import BATCH_SIZES
from mnist_lightning.study.cells import grid


def test_dry_run_prints_the_commands_of_the_papers_grid(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(PROJECT)
    assert run(monkeypatch, "--config", "configs/paper.yaml", "--dry_run=true", "--logs", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * 7 * 3
    assert (
        "python -m mnist_lightning fit --config configs/1xgpu.yaml --data.source mnist --data.batch_size 64 "
        f"--seed_everything 0 --trainer.logger.init_args.save_dir {tmp_path}/paper"
    ) in lines[:21]
    assert [line.split("--seed_everything ")[1][0] for line in lines] == ["0"] * 21 + ["1"] * 21 + ["2"] * 21
    assert list(tmp_path.iterdir()) == []


def test_any_setting_can_be_an_axis(monkeypatch, capsys):
    monkeypatch.chdir(PROJECT)
    assert run(monkeypatch, "--config", "configs/architecture.yaml", "--dry_run=true") == 0
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


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([f"--setups=[{CONFIGS}/fast.yaml]"], "setups"),
        ([f"--setups=[{CONFIGS}/1xcpu.yaml, 1xcpu.yaml]"], "setups"),
        (["--setups=[list/1xcpu.yaml]"], "list/1xcpu.yaml"),
        (["--batch_sizes=[0]"], "batch_sizes"),
        (['--axes={"model.hidden": 3}'], "axes"),
        (['--axes={"seed_everything": [3]}'], "seed_everything"),
        (['--axes={"model.hidden": [3]}', '--fit={"model.hidden": 4}'], "model.hidden"),
        (["--sed=3"], "--sed"),
    ],
)
def test_bad_arguments_are_named_and_leave_nothing(monkeypatch, capsys, tmp_path, arguments, name):
    monkeypatch.chdir(tmp_path)
    Path("list").mkdir()
    Path("list/1xcpu.yaml").write_text("[1]")
    shutil.copy(CONFIGS / "1xcpu.yaml", tmp_path)
    assert run(monkeypatch, "--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml]", *arguments) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and name in said
    assert sorted(os.listdir()) == ["1xcpu.yaml", "list"]


@pytest.mark.slow
def test_a_finished_cell_of_other_settings_stops_the_study(command, monkeypatch, capsys):
    """With a real fit, whose config has all settings."""
    config = Path("1xcpu.yaml")
    timer = "{class_path: lightning.pytorch.callbacks.Timer, init_args: {interval: epoch}}"
    config.write_text(
        f"trainer: {{accelerator: cpu, precision: 32, callbacks: {timer}}}\nmodel: {{learning_rate: 1e-1}}"
    )
    shared = {"data.source": "sample", "model.channels": [8, 16], "model.hidden": 16, "trainer.max_epochs": 1}
    shared["model.compile"] = False
    arguments = ["--name=x", f"--setups=[{config}]", "--batch_sizes=[480]", "--retry=0"]
    assert run(monkeypatch, *arguments, f"--fit={json.dumps(shared)}") == 0
    (finished,) = Path().glob("logs/x/1xcpu-b0480-s0/version_0")
    assert "accuracy 0." in capsys.readouterr().out

    def again(fit: dict, refused: str = "") -> None:
        assert run(monkeypatch, *arguments, f"--fit={json.dumps(fit)}") == (2 if refused else 0)
        said = capsys.readouterr()
        assert "finished before" in said.out or f"error: {refused} is " in said.err and str(finished) in said.err

    again(shared)
    again({**shared, "model.hidden": 17}, "model.hidden")
    again({name: value for name, value in shared.items() if name != "model.hidden"}, "model.hidden")
    again({**shared, "trainer.max_epochs": 2}, "trainer.max_epochs")
    for number, refused in (("2e-1", "model.learning_rate"), ("0.10", "")):  # the latter is the same number
        config.write_text(config.read_text().replace("1e-1", number))
        again(shared, refused)
        config.write_text(config.read_text().replace(number, "1e-1"))
    # A run that was resumed by hand has another command; its config tells what it was.
    assert command("fit", "--ckpt_path", finished / "checkpoints" / "last.ckpt", "--trainer.max_epochs=2") == 0
    capsys.readouterr()
    again({**shared, "trainer.max_epochs": 2})
    again(shared, "trainer.max_epochs")
