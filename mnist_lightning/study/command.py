"""`study`: runs a grid of setups, batch sizes and seeds, one `fit` a cell."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse.typing import NonNegativeInt, PositiveInt
from tqdm import tqdm

from mnist_lightning import paper
from mnist_lightning.durability.locks import held
from mnist_lightning.errors import SettingError
from mnist_lightning.measure.disturbance import disturbances
from mnist_lightning.measure.load import BUSY, busy_cores
from mnist_lightning.parsing import function_command
from mnist_lightning.study.cells import Cell, grid
from mnist_lightning.study.checks import refuse_bad_arguments, refuse_changed, rehearse, without_hardware
from mnist_lightning.study.running import put_aside, run_again, run_cell


def study(
    name: str,
    setups: list[Path],
    batch_sizes: Sequence[int] = paper.BATCH_SIZES,
    seeds: Sequence[int] = (0,),
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
    Cells whose times other programs disturbed are run again at the end.

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

    Returns:
        0, or 1 if a cell failed.

    Raises:
        SettingError: If an argument is wrong, another process runs this study, or a finished cell was run with other
            settings.
    """
    axes, fit = axes or {}, fit or {}
    refuse_bad_arguments(name, setups, batch_sizes, seeds, axes, fit, repeats)
    if problem := next(
        (path for path in (logs / name, *(logs / name).parents) if path.exists() and not path.is_dir()), None
    ):
        raise SettingError(f"logs is {logs}, but {problem} is no folder: name another one.")
    cells = list(grid(logs / name, setups, batch_sizes, seeds, axes, fit, shuffle, repeats))
    missing = without_hardware(setups)
    rehearse(cells, missing)
    if dry_run:
        for cell in cells:
            if not cell.finished():
                print(cell.command)
        return 0
    (logs / name).mkdir(parents=True, exist_ok=True)
    with held(logs / name) as free:
        if not free:
            raise SettingError(f"name is {name}, a study that another process runs now: wait for it.")
        # The arguments, as a file that `--config` takes.
        given: dict[str, Any] = {
            "name": name,
            "setups": [str(path) for path in setups],
            "batch_sizes": list(batch_sizes),
        }
        given |= {"seeds": list(seeds), "axes": axes, "fit": fit, "shuffle": shuffle, "repeats": int(repeats)}
        (logs / name / "study.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
        return _run_all(cells, missing, retry * repeats)


def _run_all(cells: list[Cell], missing: list[str], retries: int) -> int:
    for setup in missing:
        print(f"skipped: {setup}, which needs GPUs that this machine does not have")
    cells = [cell for cell in cells if cell.config.stem not in missing]
    refuse_changed([cell for cell in cells if cell.finished()])

    with tqdm(total=len(cells), disable=None, leave=False, bar_format="{n}/{total} |{bar}| {desc}") as bar:
        study = Progress(cells, bar)
        for cell in cells:
            study.run(cell)
        for cell in cells:
            while cell.finished() and cell.disturbed() < retries and (reasons := disturbances(cell.summary())):
                bar.write(f"again: {cell.label}, since {' and '.join(reasons)}")
                if not study.run(cell, run_again):
                    break
    for failure in study.failed:
        print(f"FAILED  {failure}", flush=True)
    return 1 if study.failed else 0


class Progress:
    """How far a study is: which cells have finished, how long each took, and which failed."""

    def __init__(self, cells: list[Cell], bar: tqdm) -> None:
        self.cells, self.bar = cells, bar
        self.seconds: dict[Cell, float] = {cell: _seconds(cell) for cell in cells if cell.finished()}
        self.failed: list[str] = []

    def run(self, cell: Cell, how: Callable[[Cell], str | None] = run_cell) -> bool:
        """Runs a cell that has not finished, or one again, and says how it ended; whether it has finished now."""
        number = self.cells.index(cell)
        place = f"[{number + 1}/{len(self.cells)}] {cell.label}"
        if how is run_cell and cell in self.seconds:
            told = "finished before"
        elif not put_aside(cell):
            told = "another process runs it now"
        else:
            if (busy := busy_cores()) > BUSY:
                self.bar.write(f"warning: other programs keep {busy:.1f} cores busy, which spoils the times")
            if (problem := how(cell)) is None:
                self.seconds[cell] = _seconds(cell)
                told = _result(cell)
            else:
                self.failed.append(f"{cell.label}: {problem}")
                told = f"FAILED, {problem}"
        left = _remaining([other for other in self.cells[number:] if other not in self.seconds], self.seconds)
        self.bar.write(f"{place}: {told}{left}")
        self.bar.set_description_str(left.removeprefix("; "), refresh=False)
        self.bar.update(how is run_cell)
        return cell in self.seconds and not told.startswith("FAILED")


def _seconds(cell: Cell) -> float:
    metrics = cell.summary()["metrics"]
    return metrics["seconds/fit"] + metrics["seconds/warm_up"]


def _result(cell: Cell) -> str:
    metrics = cell.summary()["metrics"]
    accuracy, loss = (metrics.get(f"val/{name}") for name in ("accuracy", "loss"))
    validated = "no validation" if accuracy is None else f"accuracy {accuracy:.4f}, loss {loss:.5f}"
    return f"{metrics['seconds/fit']:.1f} s, {validated}"


def _remaining(left: list[Cell], seconds: dict[Cell, float]) -> str:
    """How many cells are left, and how long they may take: as long as the same cell of another seed, or the mean."""
    if not left or not seconds:
        return ""
    mean = sum(seconds.values()) / len(seconds)
    known = {(cell.config, cell.batch_size, str(cell.axes)): value for cell, value in seconds.items()}
    guess = sum(known.get((cell.config, cell.batch_size, str(cell.axes)), mean) for cell in left)
    time = f"{guess / 60:.0f} min" if guess >= 120 else f"{guess:.0f} s"
    return f"; {len(left)} left, about {time}"


def main() -> int:
    """Runs the command."""
    return function_command.run(study)
