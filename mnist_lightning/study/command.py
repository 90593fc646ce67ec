"""`study`: runs a grid of setups, batch sizes and seeds, one `fit` a cell."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_lightning import paper
from mnist_lightning.durability.locks import held
from mnist_lightning.errors import SettingError
from mnist_lightning.measure.load import BUSY, busy_cores
from mnist_lightning.parsing import function_command
from mnist_lightning.study.cells import Cell, grid
from mnist_lightning.study.checks import refuse_bad_arguments, refuse_changed, without_hardware
from mnist_lightning.study.running import put_aside, run_cell


def study(
    name: str,
    setups: list[Path],
    batch_sizes: Sequence[int] = paper.BATCH_SIZES,
    seeds: Sequence[int] = (0,),
    axes: dict[str, list[Any]] | None = None,
    fit: dict[str, Any] | None = None,
    logs: Path = Path("logs"),
    dry_run: bool = False,
) -> int:
    """Runs each cell that has not finished, one after the other, and says how each ended.

    A run that was interrupted is renamed, and its cell is run from the start. A setup whose hardware is missing is skipped.

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
    refuse_bad_arguments(name, setups, batch_sizes, seeds, axes, fit)
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
    missing = without_hardware(list(dict.fromkeys(cell.config for cell in cells)))
    for setup in missing:
        print(f"skipped: {setup}, which needs GPUs that this machine does not have")
    cells = [cell for cell in cells if cell.config.stem not in missing]
    refuse_changed([cell for cell in cells if cell.finished()])

    seconds: dict[Cell, float] = {cell: _seconds(cell) for cell in cells if cell.finished()}
    failed = []
    for number, cell in enumerate(cells, 1):
        place = f"[{number}/{len(cells)}] {cell.label}"
        if cell in seconds:
            print(f"{place}: finished before", flush=True)
            continue
        if not put_aside(cell):
            print(f"{place}: another process runs it now", flush=True)
            continue
        if (busy := busy_cores()) > BUSY:
            print(f"warning: other programs keep {busy:.1f} cores busy, which spoils the times", flush=True)
        problem = run_cell(cell)
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
    if not left:
        return ""
    mean = sum(seconds.values()) / len(seconds)
    known = {(cell.config, cell.batch_size, str(cell.axes)): value for cell, value in seconds.items()}
    guess = sum(known.get((cell.config, cell.batch_size, str(cell.axes)), mean) for cell in left)
    return f"; {len(left)} left, about {guess / 60:.0f} min"


def main() -> int:
    """Runs the command."""
    return function_command.run(study)
