"""Which settings a run may change when it goes on, what is refused, and a run that an earlier version of the code wrote."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml
from conftest import PROJECT, spawn
from test_fit import RUNS, SMALL_FIT, results, same_weights, summary_in, weights

from mnist_lightning.runs.config import FREE, flat

RUN = RUNS / "version_0"
LAST = RUN / "checkpoints" / "last.ckpt"
BASE = [*SMALL_FIT, "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--trainer.max_epochs=1"]
BASE += ["--trainer.gradient_clip_val=0.5"]
# Another valid value, where it does not follow from the one that the run has.
OTHERS = {
    "trainer.accelerator": "gpu",
    "trainer.precision": "64-true",
    "trainer.callbacks": "WeightAveraging",
    "trainer.limit_val_batches": "1.0",  # all of them, and not one
    "trainer.val_check_interval": "0.5",
    "trainer.overfit_batches": "0.5",
    "trainer.gradient_clip_algorithm": "value",
    "trainer.deterministic": "true",
    "trainer.benchmark": "true",
    "trainer.plugins": "AsyncCheckpointIO",
    "model.compile": "false",
    "data.source": "mnist",
    "network": "Perceptron",
    "data_module": "Negatives",
}
# Of several processes, which are started anew.
OUTSIDE = {"trainer.strategy": "ddp", "trainer.devices": "2", "trainer.num_nodes": "2"}


def changed(value: object) -> object:
    """Another value of the same type."""
    if isinstance(value, list):
        return [changed(value[0]), *value[1:]]
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value / 2


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a run of one epoch."""
    folder = tmp_path_factory.mktemp("made")
    done = spawn(folder, *BASE)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run(command, made):
    """Runs a command where a copy of the run is."""
    shutil.copytree(made, Path(), symlinks=True, dirs_exist_ok=True)
    return command


def shaping() -> dict[str, object]:
    """The settings of the run's config that are not free."""
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    return {name: value for name, value in flat(config, depth=2).items() if not name.startswith(FREE)}


def there() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(command, capsys, name: str, *options: object) -> None:
    before = there()
    capsys.readouterr()
    assert command("fit", f"--ckpt_path={LAST}", "--trainer.max_epochs=2", *options) == 2, options
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and name in last, last
    assert there() == before


def test_each_setting_that_shapes_the_numbers_is_refused(run, capsys, mnist_dir):
    """Those of the config of a real run, so that a new setting of Lightning is either free or in this test."""
    for name, value in shaping().items():
        if name not in OUTSIDE:
            other = OTHERS.get(name) or json.dumps(changed(value))
            refused(run, capsys, name, f"--{name}={other}", f"--data.data_dir={mnist_dir}")
            torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_processes(run, tmp_path):
    assert OUTSIDE.keys() <= shaping().keys()
    before = there()
    for name, value in OUTSIDE.items():
        nodes = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29871"} if name.endswith("num_nodes") else {}
        options = [f"--ckpt_path={LAST}", "--trainer.max_epochs=2", f"--{name}={value}"]
        with ThreadPoolExecutor(2) as hosts:
            ranks = range(2 if nodes else 1)
            started = [hosts.submit(spawn, tmp_path, "fit", *options, NODE_RANK=f"{rank}", **nodes) for rank in ranks]
        for host in started:
            done = host.result()
            assert done.returncode == 2 and name in done.stderr.splitlines()[-1], done.stderr
    assert there() == before


@pytest.mark.parametrize("edit", [{"learning_rate": 0.5}, {"hidden": 32}])
def test_an_edited_config_does_not_change_a_run(run, capsys, edit):
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    (RUN / "config.yaml").write_text(yaml.safe_dump({**config, "model": {**config["model"], **edit}}))
    refused(run, capsys, f"model.{next(iter(edit))}")


def test_what_changes_no_number_is_accepted_and_ends_with_the_same_bits(run):
    other = Path(shutil.copytree(RUN, "other/version_0", symlinks=True))
    free = ["detect_anomaly=true", "num_sanity_val_steps=2", "inference_mode=false", "log_every_n_steps=1"]
    free += ["callbacks=LearningRateMonitor", "profiler=simple", "logger.init_args.flush_secs=1", "max_epochs=2"]
    assert run("fit", "--ckpt_path", LAST, "--trainer.max_epochs=2") == 0
    options = [f"--trainer.{each}" for each in free]
    assert run("fit", "--ckpt_path", other / "checkpoints" / "last.ckpt", *options) == 0
    assert same_weights(RUN, other) and results(RUN) == results(other)
    assert summary_in(other)["steps"] == 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"loops": {}}, "end of an epoch"),
        ({"callbacks": {}}, "weights alone"),
        ({"datamodule_hyper_parameters": {"layers": 3}}, "not a checkpoint of this project"),
        ({"state_dict": {}}, "not a checkpoint of this project"),
        ({"state_dict": {"dense1.bias": torch.zeros(3)}}, "another network"),
    ],
)
def test_a_checkpoint_that_training_cannot_go_on_from_is_refused(run, capsys, change, named):
    whole = torch.load(LAST, weights_only=True)
    torch.save({**whole, **change}, "changed.ckpt")
    before = there()
    assert run("fit", "--data.source=sample", "--ckpt_path=changed.ckpt", "--trainer.max_epochs=2") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "ckpt_path" in last and named in last and there() == before
    if "callbacks" in change:  # weights are enough to evaluate
        assert run("test", "--data.source=sample", "--ckpt_path=changed.ckpt") == 0


def test_a_damaged_checkpoint_is_named(run, capsys):
    whole = LAST.read_bytes()
    middle = len(whole) // 2
    for content in (whole[:middle], whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :], b"text"):
        LAST.resolve().write_bytes(content)
        for command in ("fit", "test"):
            assert run(command, "--data.source=sample", "--ckpt_path", LAST) == 2
            assert f"ckpt_path {LAST}" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_a_run_of_earlier_code_is_rerun_and_resumed(command):
    shutil.copytree(PROJECT / "tests" / "written_before", RUN)
    LAST.symlink_to("epoch=00.ckpt")
    recorded = summary_in(RUN)["metrics"]
    assert command("fit", "--config", RUN / "config.yaml", "--trainer.max_epochs=2") == 0
    again = RUN.with_name("version_1")
    first = summary_in(again)["by_epoch"]["val/loss"][0]
    # Another processor rounds otherwise.
    assert first == pytest.approx(recorded["val/loss"], rel=1e-4)

    assert command("fit", "--ckpt_path", LAST, "--trainer.max_epochs=2") == 0
    summary = summary_in(RUN)
    assert (summary["epochs"], summary["steps"], summary["resumed"]) == (2, 18, True)
    for name, weight in weights(RUN).items():
        torch.testing.assert_close(weight, weights(again)[name], rtol=1e-3, atol=1e-4)
