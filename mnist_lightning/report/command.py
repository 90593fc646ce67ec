"""`report`: writes results.csv, report.md, the figures and an event file."""

import csv
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnist_lightning import paper
from mnist_lightning.errors import SettingError
from mnist_lightning.parsing import function_command
from mnist_lightning.report import page
from mnist_lightning.report.runs import Column, Run, columns, read_runs
from mnist_lightning.report.seeds import scatter

UNITS = {"I": "seconds of 10 epochs", "II": "test accuracy", "III": "test loss"}
FIGURES = {
    "figure-1-architecture": "Figure 1. The network, drawn from the settings of the runs.",
    "figure-2-machine": "Figure 2. What ran it, by the runs' own records.",
    "figure-3-time": "Figure 3. Time; the paper dashed, ours solid with the 95 % interval of the mean over seeds.",
    "figure-4-accuracy": "Figure 4. Accuracy, likewise.",
    "figure-5-loss": "Figure 5. Loss, likewise.",
    "fits": "Seconds over steps, and the fitted lines.",
    "step-parts": "Where a step's time goes.",
}


def report(logs: list[Path] = [Path("logs")], out: Path = Path("report"), paper: bool = False) -> int:  # noqa: B006
    """Sets the tables, figures and claims of finished runs beside the paper's.

    Args:
        logs: Folders that hold runs, at any depth.
        out: Folder for results.csv, report.md, the figures and an event file; what is there is replaced.
        paper: The paper's own numbers alone; no logs are read.

    Returns:
        0.

    Raises:
        SettingError: If there is no finished run, or nothing can be written.
    """
    runs = [] if paper else read_runs(logs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write(out, runs)
    except OSError as error:
        raise SettingError(
            f"out is {out}, which cannot be written to ({error.strerror}): name another."
        ) from error
    print(f"report  {out / 'report.md'}, of {len(runs)} runs")
    return 0


def write(out: Path, runs: Sequence[Run]) -> None:
    """Writes everything into a folder."""
    from mnist_lightning.report.events import (
        write_events,
    )  # a second of imports that --help shall not wait for

    cells = columns(runs)
    _write_csv(out / "results.csv", cells)
    drawn = _draw(out, runs, cells)
    text = _text(runs, cells, drawn)
    (out / "report.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    tables = {f"table {table}": "\n".join(page.main_table(table, cells)) for table in page.METRICS}
    tables["claims"] = "\n".join(page.claims(cells))
    write_events(out, {name: out / f"{name}.png" for name in drawn}, tables)


def _write_csv(path: Path, cells: Sequence[Column]) -> None:
    """One row a run and metric."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["column", "setup", "precision", "batch_size", "seed", "metric", "value", "commit"])
        for column in cells:
            for run in sorted(column.runs, key=lambda run: (run.batch_size, run.seed)):
                machine = run.summary["machine"]
                values = {**run.summary["metrics"], **_medians(run)}
                reached = run.seconds_to(page.TARGET)
                values |= {"seconds/to_99": reached} if reached is not None else {}
                for metric, value in sorted(values.items()):
                    place = [column.label, column.setup, machine["precision"], run.batch_size, run.seed]
                    writer.writerow([*place, metric, value, machine.get("commit", "")])


def _medians(run: Run) -> dict[str, float]:
    return {f"median/{name}": value for name, value in run.summary["median"].items()}


def _network(run: Run) -> dict[str, Any]:
    return {name: run.settings[f"model.{name}"] for name in paper.ARCHITECTURE}


def _draw(out: Path, runs: Sequence[Run], cells: Sequence[Column]) -> list[str]:
    """Draws the figures that the runs give, as SVG and PNG; their names."""
    import matplotlib

    from mnist_lightning.report import figures

    matplotlib.rcParams["svg.hashsalt"] = "mnist-lightning"  # the same report is the same file
    shown = cells[0].runs[0] if cells else None
    model = _network(shown) if shown else paper.ARCHITECTURE
    drawn = {
        "figure-1-architecture": figures.architecture(model, shown.summary["parameters"] if shown else None)
    }
    if runs:
        drawn["figure-2-machine"] = figures.machines(page.machine_records(runs))
    for name, (table, (metric, _, _)) in zip(list(FIGURES)[2:5], page.METRICS.items(), strict=True):
        drawn[name] = figures.curves(
            page.published(table), cells, metric, scatter(cells, metric), UNITS[table]
        )
    groups: dict[str, list] = {}
    for each in page.fitted(cells):
        line = (each.label.partition(", ")[2], each.setup, each.steps, each.seconds, each.line)
        groups.setdefault(each.group, []).append(line)
    drawn["fits"] = figures.fits(groups)
    if parts := page.step_parts(cells):
        drawn["step-parts"] = figures.step_parts(parts)
    for name in FIGURES:
        for kind in ("svg", "png"):
            (out / f"{name}.{kind}").unlink(missing_ok=True)
    for name, figure in drawn.items():
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})
        figure.savefig(out / f"{name}.png", dpi=110)
    return list(drawn)


def _text(runs: Sequence[Run], cells: Sequence[Column], drawn: Sequence[str]) -> list[str]:
    def figure(name: str) -> list[str]:
        return [f"![{FIGURES[name]}]({name}.svg)", "", FIGURES[name], ""] if name in drawn else []

    command = shlex.join(["python", "-m", "mnist_lightning", *sys.argv[1:]])
    lines = ["# The paper's experiment, run again", ""]
    if runs:
        lines += [f"{len(runs)} runs of `fit`, set beside the paper's by `{command}`.", ""]
        lines += [
            "Each cell is the mean over seeds ± the standard deviation of one run, and n; a missing one is —.",
            "",
        ]
        lines += [*page.caveats(runs), ""] if page.caveats(runs) else []
    else:
        lines += [f"The paper's own numbers alone, by `{command}`.", ""]
    lines += [f"The paper ran on {paper.MACHINE}; each of its cells is one run.", ""]
    for table, name in zip(page.METRICS, list(FIGURES)[2:5], strict=True):
        lines += [
            f"## Table {table}. {page.METRICS[table][1]}",
            "",
            *page.main_table(table, cells),
            *figure(name),
        ]
    lines += ["## What the paper claims", "", *page.claims(cells)]
    if differences := page.real_differences(cells):
        lines += ["## Are the differences in accuracy real?", "", *differences]
    fits = page.fitted(cells)
    lines += ["## Why were two GPUs slower?", ""]
    lines += ["Seconds of a run = fixed + per step × steps, by least squares, ± standard errors.", ""]
    lines += [
        *page.fit_table(fits),
        *page.crossover_table(fits),
        *page.why_two_are_slower(fits),
        *figure("fits"),
    ]
    if steps := page.step_table(cells):
        lines += [
            "## Where a step's time goes",
            "",
            "Milliseconds, the mean over seeds of a run's median epoch.",
            "",
        ]
        lines += [*steps, *figure("step-parts")]
    if runs:
        lines += ["## Time to 99 %", "", *page.target_table(cells)]
    lines += [
        "## The network and the machine",
        "",
        *figure("figure-1-architecture"),
        *(
            [f"Of the networks that ran, this is that of `{cells[0].label}`.", ""]
            if len({str(_network(run)) for run in runs}) > 1
            else []
        ),
        *figure("figure-2-machine"),
    ]
    return lines


def main() -> int:
    """Runs the command."""
    return function_command.run(report)
