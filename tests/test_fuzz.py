"""Settings drawn at random from what the parsers know: each command ends in time, and in one sentence if it refuses.

`FUZZ=1000 pytest -m slow tests/test_fuzz.py` tries 1,000 command lines and 1,000 files; by default it takes a minute.
"""

import contextlib
import inspect
import io
import json
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import QUICK, spawn, told
from handmade_runs import make_run
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from mnist_lightning import cli, data
from mnist_lightning.report import command as report
from mnist_lightning.sources import mnist_files
from mnist_lightning.study import checks, rehearsal
from mnist_lightning.study import command as study

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("FUZZ", "100"))
WITHIN = 60  # seconds; no command may take longer to say what is wrong
LAST = "run/checkpoints/last.ckpt"
LONG = "9" * 5000
# fmt: off
PATHS = ["a_file", "a_folder", "missing/file", "loop", "fifo", "/dev/zero", "/dev/null", ".", "..", "x/" * 2500, LAST]
PATHS += ["setups/1xcpu.yaml", "setups/2xcpu.yaml", "setups/1xgpu.yaml", "logs", "a_file/logs", "no.csv", "x" * 300]
NUMBERS = ["0", "-0", "1", "2", "-1", "3.5", "1e3", "1e30", "1e400", "-1e400", "nan", ".nan", "inf", "-.inf", LONG]
NUMBERS += ["08", "010", "0x10", "0o17", "0b1", "1_000", "1:30", "1.5.2", "4294967296", "18446744073709551616", "٣"]
TEXTS = ["", " ", "null", "~", "true", "off", "é", "日本", "\u202eabc", "🙂", "\udcff", "a\tb", "a\nb", "'", '"', "%s"]
TEXTS += ["gs://bucket/x", "http://host/x", "file:///x", "2026-01-01", "2026-99-99", "auto", "last", "=", "-", "--", "<<"]
FRAGMENTS = ["[]", "{}", "[1]", "[1, 2]", "[16, 32]", "[null]", "{a: 1}", "{a: {b: {c: [1]}}}", "[" * 60, "&a [*a]", "*a"]
FRAGMENTS += ["!!python/name:os.system", "!!binary x", "!!set {a}", "? x", "a: b: c", "- a", "|", "{a: 1, a: 2}", "{: }"]
FRAGMENTS += ["{class_path: os.system}", "{class_path: 3}", "{class_path: Timer, init_args: null}", "{init_args: {a: 1}}"]
CLASSES = ["Timer", "EarlyStopping", "ModelCheckpoint", "StochasticWeightAveraging", "BatchSizeFinder", "RichProgressBar"]
CLASSES += ["ddp", "ddp_spawn", "fsdp", "deepspeed", "DDPStrategy", "CSVLogger", "TensorBoardLogger", "WandbLogger"]
CLASSES += ["cpu", "gpu", "tpu", "mps", "16-mixed", "bf16-true", "64-true", "simple", "advanced", "pytorch"]
CLASSES += ["SLURMEnvironment", "AsyncCheckpointIO", "HalfPrecision", "LearningRateMonitor", "os.system", "nowhere.X"]
CLASSES += ["LambdaCallback", "GradientAccumulationScheduler", "OnExceptionCheckpoint", "WeightAveraging"]
CLASSES += ["{class_path: EarlyStopping, init_args: {monitor: x}}", "[{class_path: Timer, init_args: {duration: x}}]"]
# fmt: on
VALID = ["data.source=sample", "data.batch_size=480", "model.hidden=16", "trainer.max_epochs=1", f"ckpt_path={LAST}"]


def options() -> dict[str, dict[str, str]]:
    """The options of each command and what kind each is, by the parsers that they are for."""
    found: dict[str, dict[str, str]] = {}

    class Parsed(Exception):
        pass

    def keep(self: cli.MNISTCLI, parser: Any, args: Any) -> None:
        for name in self.subcommands():
            actions = [(each, text) for each in self._parser(name)._actions for text in each.option_strings]
            found[name] = {text[2:]: str(vars(each).get("_typehint")) for each, text in actions if text[:2] == "--"}
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Parsed):
        patch.setattr(cli.MNISTCLI, "parse_arguments", keep)
        patch.setattr(sys, "argv", ["mnist-lightning", "fit"])
        cli.main()
    for function in (study.study, report.report):
        parameters = inspect.signature(function).parameters.values()
        found[function.__name__] = {"config": "str"} | {each.name: str(each.annotation) for each in parameters}
    return found


OPTIONS = options()
EXTRA = ["trainer.logger.init_args.save_dir", "trainer.logger.init_args.version", "trainer.callbacks+", "nonsense", "c"]
EXTRA += [
    "trainer.logger.init_args.sub_dir",
    "trainer.strategy.init_args.static_graph",
    "config",
    "model.seed",
    "data.seed",
]
scalars = st.one_of(
    *map(st.sampled_from, (PATHS, NUMBERS, TEXTS, FRAGMENTS, CLASSES)),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
)


def fitting(kind: str) -> st.SearchStrategy[str]:
    """Values that an option of a kind parses."""
    given = []
    if "Literal" in kind:
        given.append(st.sampled_from(re.findall(r"'([^']+)'|(\d+)", kind)).map("".join))
    if "int" in kind:
        given.append(st.integers(-1, 5).map(str))
    if "float" in kind:
        given.append(st.floats(0, 2).map(str) | st.floats().map(str))
    if "bool" in kind:
        given.append(st.sampled_from(["true", "false"]))
    if "str" in kind or "Path" in kind:
        given.append(st.sampled_from([*PATHS, *TEXTS, *CLASSES]))
    if "Sequence" in kind or "list" in kind or "tuple" in kind:
        numbers = st.integers(0, 9) | st.floats(0, 1)
        given.append(
            st.lists(numbers, min_size=1, max_size=2).map(str) | st.sampled_from(PATHS).map(lambda path: f"[{path}]")
        )
    if "lightning." in kind:
        given.append(st.sampled_from(CLASSES))
    return st.one_of(given) if given else scalars


def setting(command: str) -> st.SearchStrategy[str]:
    """An option with a value, which parses more often than not; at times without one."""
    kinds = OPTIONS[command] | (dict.fromkeys(EXTRA, "") if command not in ("study", "report") else {})
    names = st.sampled_from(list(kinds))
    parsed = names.flatmap(lambda name: fitting(kinds[name]).map(lambda value: f"--{name}={value}"))
    hostile = st.tuples(names, scalars).map(lambda pair: f"--{pair[0]}={pair[1]}")
    usual = st.sampled_from([f"--{each}" for each in VALID])
    rare = names.map(lambda name: f"--{name}") | scalars
    return st.sampled_from([parsed] * 9 + [hostile] * 4 + [usual, rare]).flatmap(lambda kind: kind)


def needed(command: str) -> list[str]:
    """What makes a command valid by itself."""
    return {
        "fit": QUICK,
        "study": ["--name=s", "--setups=[setups/1xcpu.yaml]", "--dry_run"],
        "report": ["--logs=runs"],
    }.get(command, [*QUICK[:2], f"--ckpt_path={LAST}"])


commands = st.sampled_from(["fit", "fit", "fit", "test", "predict", "validate", "study", "study", "report"])
lines = commands.flatmap(
    lambda command: st.tuples(st.sampled_from([True, True, False]), st.lists(setting(command), max_size=4)).map(
        lambda drawn: [command, *(needed(command) if drawn[0] else []), *drawn[1]]
    )
)
# Of YAML: objects, which are dumped, and texts, which are put in as they are.
objects = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4)
    | st.sampled_from(PATHS + TEXTS[:-1] + CLASSES).filter(lambda text: "\udcff" not in text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def nested(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Settings by dotted name as a config has them."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        *groups, last = name.split(".")
        place = found
        for group in groups:
            place = place[group] if isinstance(place.get(group), dict) else place.setdefault(f"{group}", {})
            if not isinstance(place, dict):
                break
        else:
            place[last] = value
    return found


def understood(text: str) -> Any:
    """What YAML takes a text for; the text, if it is no YAML."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


def document(command: str) -> st.SearchStrategy[bytes]:
    """A config of a command."""
    names = st.sampled_from([*OPTIONS[command], *(EXTRA if command not in ("study", "report") else [])])
    values = {name: fitting(kind).map(understood) for name, kind in OPTIONS[command].items()}
    fits = names.flatmap(lambda name: st.tuples(st.just(name), values.get(name, objects)))
    pairs = st.sampled_from([fits] * 4 + [st.tuples(names, objects)]).flatmap(lambda drawn: drawn)
    dumped = st.lists(pairs, min_size=1, max_size=3).map(
        lambda pairs: yaml.safe_dump(nested(pairs), allow_unicode=True)
    )
    raw = st.lists(st.tuples(names, scalars), min_size=1, max_size=4).map(
        lambda pairs: "\n".join(f"{name.replace('.', ': {', 1)}: {value}{'}' * ('.' in name)}" for name, value in pairs)
    )
    texts = st.one_of(dumped, dumped, dumped, dumped, raw, raw, st.text(max_size=40)).map(
        lambda text: text.encode(errors="surrogatepass")
    )
    return texts | st.binary(max_size=40)


files = commands.flatmap(
    lambda command: st.tuples(st.just(command), st.sampled_from([True, True, False]), document(command))
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """A folder with what the values name, in which nothing is trained, fetched or drawn, and a small run."""
    folder = tmp_path_factory.mktemp("fuzz")
    made = spawn(folder, "fit", *QUICK, "--trainer.max_epochs=1")
    assert made.returncode == 0, made.stderr
    (run,) = folder.glob("logs/*/*/*/version_0")
    run.rename(folder / "run")
    shutil.rmtree(folder / "logs")
    (folder / "a_file").write_text("not a setting")
    for name in ("a_folder", "setups"):
        (folder / name).mkdir()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    for name, trainer in (("1xcpu", "cpu"), ("2xcpu", "cpu"), ("1xgpu", "gpu")):
        text = yaml.safe_dump({"trainer": {"accelerator": trainer, "devices": int(name[0])}})
        (folder / "setups" / f"{name}.yaml").write_text(text)
    make_run(folder / "runs", "1xcpu", 128, 0, 100.0, 0.99, 0.03)
    ensure = mnist_files.ensure_files

    def ensure_here(data_dir: str) -> None:
        if Path(data_dir).is_absolute():
            raise mnist_files.MissingFilesError("the files are not there.")
        ensure(data_dir)

    def answers(lines: str, count: int) -> list[dict[str, Any]]:
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            patch.setattr(sys, "argv", ["mnist-lightning", "rehearse"])
            patch.setattr(sys, "stdin", io.StringIO(lines))
            rehearsal.main("")
        return [json.loads(line) for line in said.getvalue().splitlines()]

    def fetch(*_: Any) -> None:
        raise OSError("there is no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(data, "ensure_files", ensure_here)
        patch.setattr(mnist_files, "_download", fetch)
        for name in ("fit", "validate", "test", "predict"):
            patch.setattr(cli.MNISTCLI, name, lambda self, **given: None)
        patch.setattr(cli, "limit_start", lambda trainer: None)
        patch.setattr("mnist_lightning.report.writing.write", lambda out, runs: None)
        patch.setattr(study, "_run_all", lambda cells, missing, retries: 0)
        patch.setattr(checks, "_answers", answers)
        patch.setattr(study, "without_hardware", lambda setups: [])
        yield folder


def there(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def ended(line: list[str]) -> tuple[int, str]:
    """The exit code of a command line, and what it said as an error."""

    def hangs(*_: Any) -> None:
        raise KeyboardInterrupt(f"still there after {WITHIN} seconds: {line}")

    mains = {"study": study.main, "report": report.main}
    said, before = io.StringIO(), signal.signal(signal.SIGALRM, hangs)
    signal.alarm(WITHIN)
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            patch.setattr(sys, "argv", ["mnist-lightning", *line])
            code = told(mains.get(line[0], cli.main))
    except SystemExit as end:  # of --help and --print_config
        code = int(end.code or 0)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        torch.use_deterministic_algorithms(False)
    return code, said.getvalue()


def holds(folder: Path, line: list[str]) -> None:
    """What is promised of any command line."""
    before = there(folder)
    code, said = ended(line)
    event(f"{line[0]} ends with exit code {code}")
    shown = f"{shlex.join(line)}\n{said}"
    assert code in (0, 2), shown  # 1 would be an error that nobody expected
    assert "Traceback" not in said, shown
    if code == 2:
        assert said.splitlines()[-1].startswith("error: ") and len(said.splitlines()) <= 3, shown
        assert len(said) < 2000, shown
        assert there(folder) == before, shown
    for path in set(there(folder)) - set(before):
        shutil.rmtree(folder / path, ignore_errors=True)


fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="FUZZ" not in os.environ,
    suppress_health_check=list(HealthCheck),
)


@fuzzed
@given(line=lines)
def test_any_command_line_ends_in_a_sentence(place, line):
    holds(place, line)


@fuzzed
@given(drawn=files)
def test_any_config_ends_in_a_sentence(place, drawn):
    command, whole, text = drawn
    config = place / "config.yaml"
    config.write_bytes(text)
    holds(place, [command, *(needed(command) if whole else []), f"--config={config.name}"])


numbers = st.integers(1, 3)
TRAINED: dict[str, st.SearchStrategy[Any]] = {
    "data.batch_size": st.integers(1, 4001) | st.sampled_from([2, 480, 4000]),
    "seed_everything": st.integers(0, 2**32),
    "step_parts": st.booleans(),
    "tf32": st.booleans(),
    "model.kernel_size": st.integers(1, 14),
    "model.pool_size": st.integers(1, 14),
    "model.dropout": st.lists(st.floats(0, 1), min_size=2, max_size=2),
    "model.learning_rate": st.floats(1e-300, 1e300),
    "model.rho": st.floats(0, 1),
    "model.eps": st.floats(1e-320, 1e10),
    "trainer.devices": st.integers(1, 2),
    "trainer.strategy": st.sampled_from(["auto", "ddp", "ddp_find_unused_parameters_true", "single_device"]),
    "trainer.precision": st.sampled_from(["64-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "32-true"]),
    "trainer.max_epochs": st.integers(-1, 2),
    "trainer.max_steps": st.integers(-1, 3),
    "trainer.max_time": st.sampled_from(["00:00:00:00", "00:00:00:01", "{seconds: 0}", "{days: 1}"]),
    "trainer.limit_train_batches": st.integers(1, 3) | st.floats(0, 0.01),
    "trainer.limit_val_batches": st.integers(0, 3) | st.floats(0, 1),
    "trainer.check_val_every_n_epoch": numbers,
    "trainer.accumulate_grad_batches": numbers,
    "trainer.num_sanity_val_steps": st.integers(-1, 2),
    "trainer.gradient_clip_val": st.floats(0, 1e9),
    "trainer.gradient_clip_algorithm": st.sampled_from(["norm", "value"]),
    "trainer.deterministic": st.sampled_from(["true", "false", "warn"]),
    "trainer.detect_anomaly": st.booleans(),
    "trainer.inference_mode": st.booleans(),
    "trainer.profiler": st.sampled_from(["simple", "advanced"]),
    "trainer.fast_dev_run": st.sampled_from([False, True, 2]),
    "trainer.logger": st.sampled_from(["CSVLogger", "TensorBoardLogger", "false"]),
    "trainer.enable_checkpointing": st.booleans(),
    "trainer.enable_model_summary": st.booleans(),
    "trainer.reload_dataloaders_every_n_epochs": st.integers(0, 1),
    "trainer.callbacks+": st.sampled_from(
        [
            *CLASSES[:4],
            "LearningRateMonitor",
            "WeightAveraging",
            "EMAWeightAveraging",
            "DeviceStatsMonitor",
            "ModelSummary",
        ]
        + [CLASSES[-2].replace("monitor: x", "monitor: val/loss"), "GradientAccumulationScheduler"]
    ),
    "checkpoint.save_top_k": st.integers(-1, 2),
}
TINY = ["--data.source=sample", "--data.batch_size=480", "--model.channels=[1, 1]", "--model.hidden=1"]
TINY += [
    "--model.compile=false",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=1",
]
trained = st.lists(
    st.sampled_from(list(TRAINED)).flatmap(
        lambda name: TRAINED[name].map(lambda value: f"--{name}={json_or_text(value)}")
    ),
    min_size=1,
    max_size=4,
)


def json_or_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@settings(fuzzed, max_examples=max(3, EXAMPLES // 20), phases=[Phase.generate])
@given(drawn=trained)
def test_any_tiny_fit_ends_in_time(tmp_path_factory, drawn):
    """In a process of its own, with all that trains."""
    folder = tmp_path_factory.mktemp("tiny")
    done = spawn(folder, "fit", *TINY, *drawn, timeout=WITHIN)
    shown = f"{shlex.join(drawn)}\n{done.stderr}"
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode, len(errors)) in ((0, 0), (2, 1)), shown
    assert "Traceback" not in done.stderr + done.stdout, shown
    finished = list(folder.rglob("summary.json"))
    assert not (done.returncode and finished), shown
    # What ends before its first epoch is saved leaves nothing.
    assert done.returncode == 0 or "epoch 1/" in done.stderr or not list(folder.iterdir()), shown
    shutil.rmtree(folder)
