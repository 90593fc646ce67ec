"""`study`: how its cells run, and what becomes of those that are disturbed, interrupted or fail."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from processes import in_folder, wait_for
from studies import CONFIGS, SUMMARY, run

from mnist_lightning.durability.signals import Stopped
from mnist_lightning.measure.disturbance import disturbances
from mnist_lightning.study import command as study
from mnist_lightning.study.cells import Cell

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


@pytest.mark.parametrize(("content", "words"), [(b"{}", "setup is missing"), (b"\xff", "is no text")])
def test_a_summary_that_is_none_is_told(fake_fit, monkeypatch, capsys, content, words):
    arguments = ["--name=x", f"--setups=[{CONFIGS}/1xcpu.yaml]", "--batch_sizes=[32]"]
    assert run(monkeypatch, *arguments) == 0
    (summary,) = Path("logs").rglob("summary.json")
    summary.write_bytes(content)
    assert run(monkeypatch, *arguments) == 2
    assert words in capsys.readouterr().err


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
        "--shuffle=1",  # first a cell of one process, then one of two
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
