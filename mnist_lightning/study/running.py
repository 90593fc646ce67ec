"""Runs one cell of a study as a process of its own."""

import os
import subprocess
import sys
import tempfile
from typing import IO

from mnist_lightning.durability.locks import held
from mnist_lightning.durability.signals import STUDY, Stopped
from mnist_lightning.runs.layout import SUMMARY
from mnist_lightning.runs.program import PROGRAM
from mnist_lightning.study.cells import Cell


def put_aside(cell: Cell) -> bool:
    """Renames the unfinished runs of a cell. Returns False if another process runs one of them."""
    for run in cell.interrupted():
        with held(run) as free:
            if not free:
                return False
        number = len(list(cell.folder.glob("interrupted_*")))
        run.rename(cell.folder / f"interrupted_{number}")
    return True


def run_cell(cell: Cell) -> str | None:
    """Runs a cell to its end. Returns what went wrong, or None."""
    cell.record()
    parts = ["--step_parts=true"] if cell.step_parts else []
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, *PROGRAM[1:], *cell.arguments, *parts],
            env={**os.environ, STUDY: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C then reaches the study only, which passes it on
        )
        try:
            code = process.wait()
        except Stopped as stop:
            process.send_signal(stop.signum)
            stop.add_note("The same command goes on with the cells that are left.")
            raise
        finally:
            _end(process)
        if code:
            return f"exit code {code}: {_last_words(said)}"
    return None if cell.finished() else f"it left no {SUMMARY} in {cell.folder}"


def run_again(cell: Cell) -> str | None:
    """As `run_cell` for a cell that has finished; its older run is then renamed, so that the newer one counts."""
    older = cell.finished_run()
    problem = run_cell(cell)
    if problem is None:
        older.rename(cell.folder / f"disturbed_{cell.disturbed()}")
    return problem


def _end(process: subprocess.Popen) -> None:
    """Waits some seconds for a run that was told to stop, then kills it. The processes that it started end with it."""
    try:
        process.wait(6)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_words(said: IO[str]) -> str:
    said.seek(0)
    lines = [line.strip() for line in said if line.strip()]
    return next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "it said nothing")
