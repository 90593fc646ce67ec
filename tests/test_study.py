"""`study`: how its cells run, and what becomes of those that are disturbed, interrupted or fail."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from processes import in_folder, wait_for
from studies import CONFIGS, SUMMARY, run, start, write_fit

from mnist_lightning.run_files import lock_of
from mnist_lightning.study import command as study

ONE_CELL = ["--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml]", "--batch_sizes=[32]"]


@pytest.fixture
def fake_fit(tmp_path, monkeypatch):
    """Gives the cells that ran."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(write_fit(tmp_path)))
    monkeypatch.setattr(study, "busy_cores", lambda: 0.0)
    return lambda: Path("ran").read_text().splitlines() if Path("ran").exists() else []


def versions() -> list[str]:
    """The folders of the cell's runs."""
    (cell,) = Path("logs/x").glob("*-b0032-s0")
    return sorted(path.name for path in cell.iterdir() if path.is_dir())


def test_repeats_are_versions_of_one_run_and_the_studys_own_file_makes_the_same_cells(fake_fit, monkeypatch, capsys):
    arguments = [*ONE_CELL[:2], "--batch_sizes=[32, 64]"]
    assert run(monkeypatch, *arguments, "--repeats=2", "--shuffle=3") == 0
    assert sorted(fake_fit()) == ["32 0 1xcpu"] * 2 + ["64 0 1xcpu"] * 2
    assert versions() == ["version_0", "version_1"]
    assert run(monkeypatch, "--config=logs/x/study.yaml") == 0
    assert len(fake_fit()) == 4 and capsys.readouterr().out.count("finished before") == 4
    assert yaml.safe_load(Path("logs/x/study.yaml").read_text())["shuffle"] == 3
    assert run(monkeypatch, *arguments, "--repeats=3") == 0
    assert len(fake_fit()) == 6


def test_disturbed_cells_are_run_again_at_the_end(fake_fit, monkeypatch, capsys):
    def others(cores: float) -> None:
        neighbours = {"own_cores": 2.0, "other_cores": cores, "stolen_cores": 0.0}
        Path("changes.json").write_text(json.dumps({"neighbours": neighbours}))

    others(0.11)  # more than 5 % of the two cores that a run uses
    assert run(monkeypatch, *ONE_CELL, "--retry=0") == 0
    assert len(fake_fit()) == 1
    for _ in range(2):  # the second time it has been tried twice
        assert run(monkeypatch, *ONE_CELL) == 0
        assert len(fake_fit()) == 3 and versions() == ["disturbed_0", "disturbed_1", "version_2"]
    assert capsys.readouterr().out.count("since other programs kept 0.11 cores while it used 2.00") == 2
    others(0.05)
    assert run(monkeypatch, *ONE_CELL, "--retry=3") == 0
    assert versions() == ["disturbed_0", "disturbed_1", "disturbed_2", "version_3"]


def test_a_failed_cell_is_told_and_the_others_go_on(fake_fit, monkeypatch, capsys):
    setups = f"--setups=[{CONFIGS}/1xcpu.yaml,{CONFIGS}/2xcpu.yaml]"
    arguments = ["--name=x", setups, "--seeds=[0, 1]", "--batch_sizes=[13, 32]"]
    assert run(monkeypatch, *arguments) == 1
    ran = fake_fit()
    for seed, cells in ((0, ran[:4]), (1, ran[4:])):
        assert sorted(cells) == [f"{size} {seed} {setup}" for size in (13, 32) for setup in ("1xcpu", "2xcpu")]
    said = capsys.readouterr().out
    failure = "1xcpu, batch size 13, seed 1: exit code 1: error: data.batch_size 13 is unlucky."
    assert f"FAILED  {failure}" in said.splitlines()[-4:]
    number = ran.index("32 0 1xcpu") + 1
    cell = f"[{number}/8] 1xcpu, batch size 32, seed 0"
    assert f"{cell}: 60.0 s, accuracy 0.9900, loss 0.03000" in said
    # What has finished is not run again; what has failed is.
    assert run(monkeypatch, *arguments) == 1
    assert Counter(fake_fit()[8:]) == Counter(each for each in ran if each.startswith("13"))
    assert f"{cell}: finished before" in capsys.readouterr().out


def test_an_interrupted_cell_is_put_aside_and_run_from_its_start(fake_fit, monkeypatch, capsys):
    monkeypatch.setattr(study, "busy_cores", lambda: 1.5)
    cell = Path("logs/x/1xcpu-b0032-s0")
    (cell / "version_0").mkdir(parents=True)
    (cell / "version_0" / "half").write_text("kept")
    with lock_of(cell / "version_0"):  # as its `fit` holds it
        assert run(monkeypatch, *ONE_CELL) == 0
    assert fake_fit() == [] and "another process runs it now" in capsys.readouterr().out
    assert run(monkeypatch, *ONE_CELL) == 0
    assert versions() == ["interrupted_0", "version_0"] and (cell / "interrupted_0" / "half").read_text() == "kept"
    assert (cell / "version_0" / "summary.json").exists()
    assert "warning: other programs keep 1.5 cores busy" in capsys.readouterr().out


def test_two_studies_share_the_cells(tmp_path, monkeypatch):
    """As the tasks of a job array of Slurm do."""
    monkeypatch.setenv("SECONDS_OF_A_FIT", "0.5")
    arguments = ["--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml,{CONFIGS}/2xcpu.yaml]", "--batch_sizes=[32, 64, 128]"]
    both = [start(tmp_path, *arguments, "--seeds=[0, 1]") for _ in range(2)]
    said = [each.communicate(timeout=60)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    ran = (tmp_path / "ran").read_text().splitlines()
    assert len(ran) == len(set(ran)) == 12 == len(list(tmp_path.rglob("version_0/summary.json")))
    studies = {line.split()[0] for line in (tmp_path / "studies").read_text().splitlines()}
    assert studies == {str(each.pid) for each in both}


@pytest.mark.parametrize(("count", "ran"), [(0, ["1xcpu"]), (1, ["1xcpu", "1xgpu"]), (2, ["1xcpu", "1xgpu", "2xgpu"])])
def test_setups_without_their_hardware_are_skipped_once(fake_fit, monkeypatch, capsys, count, ran):
    monkeypatch.setenv("GPUS", str(count))
    setups = ",".join(f"{CONFIGS}/{name}.yaml" for name in ("1xcpu", "1xgpu", "2xgpu"))
    assert run(monkeypatch, "--name=x", f"--setups=[{setups}]", "--batch_sizes=[32, 64]") == 0
    assert sorted(fake_fit()) == [f"{size} 0 {setup}" for size in (32, 64) for setup in ran]
    assert capsys.readouterr().out.count("skipped: ") == 3 - len(ran)


def test_a_cell_without_validations_and_one_whose_summary_is_damaged(fake_fit, monkeypatch, capsys):
    metrics = {name: value for name, value in SUMMARY["metrics"].items() if not name.startswith("val/")}
    Path("changes.json").write_text(json.dumps({"metrics": metrics}))
    assert run(monkeypatch, *ONE_CELL) == 0
    assert "seed 0: 60.0 s, accuracy nan" in capsys.readouterr().out
    assert run(monkeypatch, *ONE_CELL, "--dry_run=true") == 0
    assert capsys.readouterr().out == ""  # no cell is left
    (summary,) = Path("logs").rglob("summary.json")
    for content in (b"{}", b"\xff"):
        summary.write_bytes(content)
        assert run(monkeypatch, *ONE_CELL) == 2
        assert str(summary) in capsys.readouterr().err


def test_ctrl_c_stops_the_cell_and_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("SECONDS_OF_A_FIT", "60")
    process = start(tmp_path, *ONE_CELL)
    wait_for(lambda: (tmp_path / "studies").exists() and (tmp_path / "studies").read_text(), 20)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 130 and "goes on with the cells that are left" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "studies").read_text().split()[1]), 0)


def begin(folder: Path, **environment: str) -> subprocess.Popen[str]:
    """A study of real fits, first a cell of one process, then one of two. Slurm runs it."""
    setups = f"--setups=[{CONFIGS}/1xcpu.yaml,{CONFIGS}/2xcpu.yaml]"
    fit = {"data.source": "sample", "model.channels": [8, 16], "model.hidden": 16}
    fit["trainer.max_epochs"] = 3
    arguments = ["--name=x", setups, "--batch_sizes=[480]", "--retry=0", f"--fit={json.dumps(fit)}"]
    return subprocess.Popen(
        [sys.executable, "-m", "mnist_lightning", "study", *arguments],
        cwd=folder,
        env={**os.environ, "SLURM_JOB_ID": "17", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def accuracies(folder: Path) -> dict[str, float]:
    paths = folder.rglob("version_*/summary.json")
    return {str(path.relative_to(folder)): json.loads(path.read_text())["metrics"]["val/accuracy"] for path in paths}


def _trains(folder: Path, before: set[Path]) -> bool:
    """Whether a new run of two processes has a checkpoint."""
    new = set(folder.glob("logs/x/2xcpu-*/version_*/events*")) - before
    return any((events.parent / "checkpoints/last.ckpt").exists() for events in new)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_a_study_cut_short_goes_on_and_ends_as_one_that_ran_through(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    assert begin(whole).wait(300) == 0
    assert len(accuracies(whole)) == 2
    for signum, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
        before = set(broken.rglob("events*"))
        cut = begin(broken, SLURM_RESTART_COUNT="1")
        # In the middle of the second cell, which is two processes, when it has a checkpoint.
        wait_for(lambda before=before: _trains(broken, before), 200)
        cut.send_signal(signum)
        assert cut.wait(20) == code
        wait_for(lambda: not in_folder(broken), 10)
        assert len(accuracies(broken)) == 1
    assert begin(broken, SLURM_RESTART_COUNT="2").wait(300) == 0
    assert accuracies(broken) == accuracies(whole) and in_folder(broken) == []
