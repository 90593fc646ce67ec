"""`study`: runs a grid of setups, batch sizes and seeds, one `fit` a cell."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import yaml

from mnist_lightning.durability.locks import held
from mnist_lightning.durability.signals import STUDY, Stopped
from mnist_lightning.errors import SettingError
from mnist_lightning.measure.load import busy_cores
from mnist_lightning.parsing import function_command
from mnist_lightning.runs.layout import SUMMARY
from mnist_lightning.study.cells import Cell, grid

PAPERS_BATCH_SIZES = [32, 64, 128, 256, 512, 1024, 2048]
BUSY = 0.25  # cores; more than this before a cell is worth a warning
PLACES = (
    "trainer.logger",
    "ckpt_path",
    "config",
)  # where a run lies and what it was called with are not what it is


def study(
    name: str,
    setups: list[Path],
    batch_sizes: list[int] = PAPERS_BATCH_SIZES,
    seeds: list[int] = [0],  # noqa: B006 jsonargparse shows it in the help
    axes: dict[str, list[Any]] | None = None,
    fit: dict[str, Any] | None = None,
    logs: Path = Path("logs"),
    dry_run: bool = False,
) -> int:
    """Runs each cell that has not finished, one after the other, and says how each ended.

    A run that was interrupted is put aside and its cell run from the start; a setup whose hardware is not here is
    skipped.

    Args:
        name: Of the study; its runs are in a folder of this name under `logs`.
        setups: The setups' files, such as configs/1xcpu.yaml; a file's name is its setup's.
        batch_sizes: Global batch sizes.
        seeds: Seeds of the experiment; the outermost loop.
        axes: Further settings of `fit` with the values that each takes, such as `model.hidden: [64, 128]`.
        fit: Settings of `fit` that all cells share, such as `trainer.precision: bf16-mixed`.
        logs: Folder of logs.
        dry_run: Print the commands of the cells that have not finished, one a line, and run none.

    Returns:
        0, or 1 if a cell failed.

    Raises:
        SettingError: If an argument is wrong, another process runs this study, or a finished cell was run with other
            settings.
    """
    axes, fit = axes or {}, fit or {}
    _refuse(name, setups, batch_sizes, seeds, axes, fit)
    cells = list(grid(logs / name, setups, batch_sizes, seeds, axes, fit))
    if dry_run:
        for cell in cells:
            if not cell.finished():
                print(cell.command)
        return 0
    (logs / name).mkdir(parents=True, exist_ok=True)
    with held(logs / name) as free:
        if not free:
            raise SettingError(f"name is {name}, a study that another process runs now: wait for it.")
        return _run_all(cells)


def _run_all(cells: list[Cell]) -> int:
    missing = _without_hardware(list(dict.fromkeys(cell.config for cell in cells)))
    for setup in missing:
        print(f"skipped: {setup}, which needs GPUs that this machine does not have")
    cells = [cell for cell in cells if cell.config.stem not in missing]
    _refuse_changed([cell for cell in cells if cell.finished()])

    seconds: dict[Cell, float] = {cell: _seconds(cell) for cell in cells if cell.finished()}
    failed = []
    for number, cell in enumerate(cells, 1):
        place = f"[{number}/{len(cells)}] {cell.label}"
        if cell in seconds:
            print(f"{place}: finished before", flush=True)
            continue
        if not _put_aside(cell):
            print(f"{place}: another process runs it now", flush=True)
            continue
        if (busy := busy_cores()) > BUSY:
            print(f"warning: other programs keep {busy:.1f} cores busy, which spoils the times", flush=True)
        problem = _run(cell)
        if problem is not None:
            failed.append(f"{cell.label}: {problem}")
            print(f"{place}: FAILED, {problem}", flush=True)
            continue
        seconds[cell] = _seconds(cell)
        left = [cell for cell in cells[number:] if cell not in seconds]
        print(f"{place}: {_result(cell)}{_remaining(left, seconds)}", flush=True)
    for failure in failed:
        print(f"FAILED  {failure}", flush=True)
    return 1 if failed else 0


def _refuse(
    name: str,
    setups: list[Path],
    batch_sizes: list[int],
    seeds: list[int],
    axes: dict[str, list[Any]],
    fit: dict[str, Any],
) -> None:
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise SettingError(f"name is {name!r}: give one that may name a folder.")
    for config in setups:
        if not config.is_file():
            raise SettingError(
                f"setups names {config}, which is no file: name one such as configs/1xcpu.yaml."
            )
        if not re.fullmatch(r"\d+x(cpu|gpu|mps)", config.stem):
            raise SettingError(
                f"setups names {config}: a setup's file is called what runs, such as 2xcpu.yaml."
            )
    for argument, values in (
        ("setups", setups),
        ("batch_sizes", batch_sizes),
        ("seeds", seeds),
        *axes.items(),
    ):
        if not isinstance(values, list) or not values:
            raise SettingError(f"{argument} is {values}: give a list of values.")
        if len({str(value) for value in values}) < len(values):
            raise SettingError(f"{argument} is {[str(value) for value in values]}: give each value once.")
    if min(batch_sizes) < 1:
        raise SettingError(f"batch_sizes is {batch_sizes}: give positive numbers.")
    for own, argument in (("data.batch_size", "batch_sizes"), ("seed_everything", "seeds")):
        if own in axes or own in fit:
            raise SettingError(f"{own} is set by {argument}: name its values there.")
    if fit.get("data.source") == "auto" or "auto" in axes.get("data.source", []):
        raise SettingError("data.source is auto, which may be other images tomorrow: give mnist or sample.")
    if both := axes.keys() & fit.keys():
        raise SettingError(f"{min(both)} is in axes and in fit: leave it out of one.")


def _without_hardware(setups: list[Path]) -> list[str]:
    """The setups that need more GPUs than there are."""
    needs = {}
    for config in setups:
        trainer = (yaml.safe_load(config.read_text()) or {}).get("trainer", {})
        if trainer.get("accelerator") in ("gpu", "cuda", "mps"):
            needs[config.stem] = int(trainer.get("devices", 1))
    if not needs:
        return []
    count = "import torch; print(torch.cuda.device_count() or int(torch.backends.mps.is_available()))"
    answer = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    return [setup for setup, devices in needs.items() if devices > int(answer.stdout)]


def _refuse_changed(finished: list[Cell]) -> None:
    """Makes sure that finished cells were run with the settings that they would be run with now."""
    if not finished:
        return
    answer = subprocess.run(
        [sys.executable, "-m", "mnist_lightning.study.planned"],
        input=json.dumps([cell.arguments for cell in finished]),
        check=False,
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        raise SettingError(answer.stderr.strip().split("\n")[-1].removeprefix("error: "))
    for cell, now in zip(finished, json.loads(answer.stdout), strict=True):
        run = cell.finished()
        before = _flat(yaml.safe_load((run / "config.yaml").read_text()))
        now = _flat(now)
        for setting in sorted(before.keys() | now.keys()):
            if before.get(setting) != now.get(setting) and not setting.startswith(PLACES):
                raise SettingError(
                    f"{setting} is {now.get(setting)}, but {run} was run with {before.get(setting)}: give the study "
                    "another name, or remove that run."
                )


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _put_aside(cell: Cell) -> bool:
    """Renames the runs of a cell that did not finish; whether none of them is running."""
    for run in cell.interrupted():
        with held(run) as free:
            if not free:
                return False
        number = len(list(cell.folder.glob("interrupted_*")))
        run.rename(cell.folder / f"interrupted_{number}")
    return True


def _run(cell: Cell) -> str | None:
    """Runs a cell to its end; what went wrong, if something did."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "mnist_lightning", *cell.arguments],
            env={**os.environ, STUDY: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C reaches the study alone, which passes it on
        )
        try:
            code = process.wait()
        except Stopped as stop:
            process.send_signal(stop.signum)
            stop.advice = "The same command goes on with the cells that are left."
            raise
        finally:
            _end(process)
        if code:
            return f"exit code {code}: {_last_words(said)}"
    return None if cell.finished() else f"it left no {SUMMARY} in {cell.folder}"


def _end(process: subprocess.Popen) -> None:
    """Waits a little for a run that was told to stop, then ends it; its own processes end with it."""
    try:
        process.wait(6)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_words(said: IO[str]) -> str:
    said.seek(0)
    lines = [line.strip() for line in said if line.strip()]
    return next(
        (line for line in lines if line.startswith("error: ")), lines[-1] if lines else "it said nothing"
    )


def _summary(cell: Cell) -> dict[str, Any]:
    return json.loads((cell.finished() / SUMMARY).read_text())


def _seconds(cell: Cell) -> float:
    metrics = _summary(cell)["metrics"]
    return metrics["seconds/fit"] + metrics["seconds/warm_up"]


def _result(cell: Cell) -> str:
    metrics = _summary(cell)["metrics"]
    accuracy, loss = (metrics.get(f"val/{name}") for name in ("accuracy", "loss"))
    validated = "no validation" if accuracy is None else f"accuracy {accuracy:.4f}, loss {loss:.5f}"
    return f"{metrics['seconds/fit']:.1f} s, {validated}"


def _remaining(left: list[Cell], seconds: dict[Cell, float]) -> str:
    """How many cells are left and how long they may take: what an equal cell of another seed took, or the mean."""
    if not left:
        return ""
    mean = sum(seconds.values()) / len(seconds)
    known = {(cell.config, cell.batch_size, str(cell.axes)): value for cell, value in seconds.items()}
    guess = sum(known.get((cell.config, cell.batch_size, str(cell.axes)), mean) for cell in left)
    return f"; {len(left)} left, about {guess / 60:.0f} min"


def main() -> int:
    """Runs the command."""
    return function_command.run(study)
