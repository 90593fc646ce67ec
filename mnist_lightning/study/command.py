"""`study`: runs a grid of setups, batch sizes and seeds, one `fit` a cell."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import yaml
from filelock import FileLock, Timeout
from jsonargparse import auto_cli
from jsonargparse.typing import NonNegativeInt, PositiveInt

from mnist_lightning import paper
from mnist_lightning.durability.signals import GO_ON, STUDY, Stopped
from mnist_lightning.errors import SettingError
from mnist_lightning.measure.disturbance import BUSY, busy_cores, disturbances
from mnist_lightning.run_files import LOCK, PROGRAM, SUMMARY, command, lock_of, shipped, write_whole
from mnist_lightning.runs.config import flat, read_config
from mnist_lightning.study.cells import Cell, grid


def study(
    name: str,
    setups: list[Path],
    batch_sizes: Sequence[PositiveInt] = paper.BATCH_SIZES,
    seeds: Sequence[NonNegativeInt] = (0,),
    axes: dict[str, list[Any]] | None = None,
    fit: dict[str, Any] | None = None,
    logs: Path = Path("logs"),
    shuffle: int = 0,
    repeats: PositiveInt = 1,
    retry: NonNegativeInt = 2,
    dry_run: bool = False,
) -> int:
    """Runs each cell that has not finished, one after the other, and says how each ended.

    A run that was interrupted is renamed, and its cell is run from the start. A setup whose hardware is missing is skipped.
    Cells whose times other programs disturbed are run again at the end. Several studies of one name share the cells: each
    takes those that no other runs.

    Args:
        name: Of the study; its runs are in a folder of this name under `logs`.
        setups: The setups' files, such as configs/1xcpu.yaml; a file's name is its setup's.
        batch_sizes: Global batch sizes.
        seeds: Seeds of the experiment; the outermost loop.
        axes: Further settings of `fit` with the values that each takes, such as `model.hidden: [64, 128]`.
        fit: Settings of `fit` that all cells share, such as `trainer.precision: bf16-mixed`.
        logs: Folder of logs.
        shuffle: Seed of the order in which the cells of one seed of the experiment run.
        repeats: How often each cell is run: the same numbers, other times.
        retry: How often a disturbed cell is run again, at most.
        dry_run: Print the commands of the cells that have not finished, one a line, and run none.
    """
    axes, fit = axes or {}, fit or {}
    batch_sizes, seeds = [int(size) for size in batch_sizes], [int(seed) for seed in seeds]  # as YAML knows them
    setups = [shipped(setup) for setup in setups]
    names = [setup.stem for setup in setups]
    if wrong := [each for each in setups if names.count(each.stem) > 1 or not re.fullmatch(r"\d+x[a-z]+", each.stem)]:
        raise SettingError(f"setups: {wrong[0]} must be called as what it trains, such as 1xcpu.yaml, once.")
    own = {"data.batch_size", "seed_everything"}
    if twice := ((own | axes.keys()) & fit.keys()) or axes.keys() & own:
        raise SettingError(f"fit, axes, batch_sizes and seeds: {min(twice)} is set twice.")
    cells = list(grid(logs / name, setups, batch_sizes, seeds, axes, fit, shuffle, repeats))
    missing = without_hardware(setups)
    for cell in cells:
        cell.refuse_changed()
    if dry_run:
        for cell in cells:
            if not cell.finished():
                print(command(*cell.arguments))
        return 0
    # The arguments, as a file that `--config` takes.
    given: dict[str, Any] = {"name": name, "setups": list(map(str, setups)), "batch_sizes": batch_sizes}
    given |= {"seeds": seeds, "axes": axes, "fit": fit, "shuffle": shuffle, "repeats": int(repeats)}
    write_whole(logs / name / "study.yaml", yaml.safe_dump(given, sort_keys=False).encode())
    for setup in missing:
        print(f"skipped: {setup}, which needs GPUs that this machine does not have")
    return Progress([cell for cell in cells if cell.config.stem not in missing], retry * repeats).run()


class Progress:
    """Runs the cells of a study, and tells how far it is and how long the rest may take."""

    def __init__(self, cells: list[Cell], retries: int) -> None:
        self.cells, self.retries = cells, retries
        self.failed: list[str] = []

    def run(self) -> int:
        """Runs all cells, and again those that other programs disturbed. Returns 1 if one failed, else 0."""
        for cell in self.cells:
            self.tell(cell, "finished before" if cell.finished() else self.alone(cell))
        for cell in self.cells:
            while (reasons := disturbances(cell.summary())) and len(cell.disturbed()) < self.retries:
                told = self.alone(cell, again=True)
                self.tell(cell, f"again, since {' and '.join(reasons)}: {told}")
                if told.startswith(("FAILED", "another")):
                    break
        for failure in self.failed:
            print(f"FAILED  {failure}", flush=True)
        return 1 if self.failed else 0

    def alone(self, cell: Cell, again: bool = False) -> str:
        """Runs a cell unless another study has it. Returns how it ended, in words."""
        cell.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(cell.folder / f".study{LOCK}", blocking=False):  # `fit` itself takes LOCK
                if cell.finished() and not again:
                    return "finished by another study"
                if (busy := busy_cores()) > BUSY:
                    print(f"warning: other programs keep {busy:.1f} cores busy, which spoils the times", flush=True)
                problem = run_cell(cell)
        except Timeout:
            return "another process runs it now"
        if problem is not None:
            self.failed.append(f"{cell.label}: {problem}")
            return f"FAILED, {problem}"
        metrics = cell.summary()["metrics"]
        accuracy, loss = (metrics.get(f"val/{name}", float("nan")) for name in ("accuracy", "loss"))
        return f"{metrics['seconds/fit']:.1f} s, accuracy {accuracy:.4f}, loss {loss:.5f}"

    def tell(self, cell: Cell, told: str) -> None:
        """Says how a cell ended, and how long those that are left may take: as long as the others did on average."""
        known = [each.summary()["metrics"] for each in self.cells if each.finished()]
        seconds = [metrics["seconds/fit"] + metrics["seconds/warm_up"] for metrics in known]
        left = len(self.cells) - len(seconds)
        guess = f"; {left} left, about {left * sum(seconds) / len(seconds) / 60:.0f} min" if left and seconds else ""
        print(f"[{self.cells.index(cell) + 1}/{len(self.cells)}] {cell.label}: {told}{guess}", flush=True)


def run_cell(cell: Cell) -> str | None:
    """Runs a cell to its end, and renames older runs of it, unless another process trains them. Returns what went wrong."""
    with FileLock(cell.folder / LOCK):  # while no `fit` makes a folder there
        for run in cell.interrupted():
            with lock_of(run):
                run.rename(run.with_name(f"interrupted_{len(list(cell.folder.glob('interrupted_*')))}"))
    older = cell.finished()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, *PROGRAM[1:], *cell.arguments],
            # A cell begins anew, and does not go on with what this job left when Slurm started it before.
            env={**os.environ, STUDY: str(os.getpid()), "SLURM_RESTART_COUNT": "0"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C then reaches the study only, which passes it on
        )
        try:
            code = process.wait()
        except Stopped as stop:
            process.send_signal(stop.signum)
            GO_ON["how"] = lambda: "The same command goes on with the cells that are left."
            raise
        finally:
            try:
                process.wait(6)
            except subprocess.TimeoutExpired:
                process.kill()  # the processes that it started end with it
                process.wait()
        if code:
            return f"exit code {code}: {_last_words(said)}"
    if older is not None:
        older.rename(older.with_name(f"disturbed_{len(cell.disturbed())}"))  # the newer one counts
    return None if cell.finished() else f"it left no {SUMMARY} in {cell.folder}"


def _last_words(said: IO[str]) -> str:
    said.seek(0)
    lines = [line.strip() for line in said if line.strip()]
    return next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "it said nothing")


def without_hardware(setups: list[Path]) -> list[str]:
    """The setups that need more GPUs than there are."""
    needs = {}
    for config in setups:
        settings = flat(read_config(config))
        if settings.get("trainer.accelerator") in ("gpu", "cuda", "mps"):
            needs[config.stem] = int(settings.get("trainer.devices", 1))
    if not needs:
        return []
    count = "import torch; print(torch.cuda.device_count() or int(torch.backends.mps.is_available()))"
    answer = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    return [setup for setup, devices in needs.items() if devices > int(answer.stdout)]


def main() -> int:
    """Runs the command."""
    return auto_cli(study, args=sys.argv[2:], prog=command("study"), as_positional=False, exit_on_error=False)
