"""`report`: writes results.csv, report.md, the figures and an event file."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mnist_lightning import paper as papers
from mnist_lightning.errors import SettingError
from mnist_lightning.parsing import function_command
from mnist_lightning.report import page
from mnist_lightning.report.runs import Run, labelled, read_runs, tidy
from mnist_lightning.report.two_devices import Fitted, fitted, meetings, second_devices
from mnist_lightning.runs.program import command

FIGURES = {
    "figure-1-architecture": "Figure 1. The network, drawn from the settings of the runs.",
    "figure-3-time": "Figure 3. Time; the paper dashed, ours solid with the 95 % interval of the mean over seeds.",
    "figure-4-accuracy": "Figure 4. Accuracy, likewise.",
    "figure-5-loss": "Figure 5. Loss, likewise.",
    "fits": "Seconds over steps, and the fitted lines.",
    "step-parts": "Where a step's time goes.",
}
OF_TABLES = {"I": "figure-3-time", "II": "figure-4-accuracy", "III": "figure-5-loss"}


def report(logs: Sequence[Path] | Path = Path("logs"), out: Path = Path("report"), paper: bool = False) -> int:
    """Sets the tables, figures and claims of finished runs beside the paper's.

    Args:
        logs: Folder that holds runs, at any depth, or a list of such folders.
        out: Folder for results.csv, report.md, the figures and an event file; what is there is replaced.
        paper: The paper's own numbers alone; no logs are read.

    Returns:
        0.

    Raises:
        SettingError: If there is no finished run, or nothing can be written.
    """
    runs = [] if paper else read_runs([logs] if isinstance(logs, Path) else logs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write(out, runs)
    except OSError as error:
        raise SettingError(f"out is {out}, which cannot be written to ({error.strerror}): name another.") from error
    print(f"report  {out / 'report.md'}, of {len(runs)} runs")
    return 0


def write(out: Path, runs: Sequence[Run]) -> None:
    """Writes everything into a folder."""
    # These imports take seconds, which `--help` does not need.
    from jinja2 import Environment, PackageLoader

    from mnist_lightning.report.events import write_events

    table = tidy(runs)
    table.to_csv(out / "results.csv", index=False)
    by_column = dict(labelled(runs))
    networks = {column: _network(by_column[column]) for column in dict.fromkeys(table.column)}
    fits = fitted(table)
    drawn = _draw(out, table, fits, by_column, networks)
    templates = Environment(
        loader=PackageLoader("mnist_lightning.report", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    context = {
        "runs": runs,
        "table": table,
        "fits": fits,
        "meetings": meetings(fits),
        "second_devices": second_devices(fits),
        "page": page,
        "paper": papers,
        "command": command(*sys.argv[1:]),
        "figures": OF_TABLES,
        "captions": FIGURES,
        "drawn": drawn,
        "networks": len({str(network) for network in networks.values()}),
        "shown": next(iter(networks), None),
    }
    written = templates.get_template("report.md.jinja").make_module(context)
    (out / "report.md").write_text(str(written), encoding="utf-8")
    grid: Callable[..., str] = vars(written)["grid"]
    tables = {f"table {number}": grid(page.main_table(number, table)) for number in page.METRICS}
    tables["claims"] = grid(page.claims(table), words=True)
    write_events(out, {name: out / f"{name}.png" for name in drawn}, tables)


def _network(run: Run) -> dict[str, Any] | None:
    """The settings of the network; None if it is another one than the paper's."""
    network = {name: run.settings.get(f"model.{name}") for name in papers.ARCHITECTURE}
    return None if None in network.values() else network


def _draw(
    out: Path,
    table: pd.DataFrame,
    fits: Sequence[Fitted],
    runs: Mapping[str, Run],
    networks: Mapping[str, dict[str, Any] | None],
) -> list[str]:
    """Draws the figures that the runs give, as SVG and PNG; their names."""
    import matplotlib

    from mnist_lightning.report import figures

    matplotlib.rcParams["svg.hashsalt"] = "mnist-lightning"  # the same report is the same file
    drawn: dict[str, Any] = {}
    if not networks:
        drawn["figure-1-architecture"] = figures.architecture(papers.ARCHITECTURE, None)
    elif (network := networks[column := next(iter(networks))]) is not None:
        drawn["figure-1-architecture"] = figures.architecture(network, runs[column].summary["parameters"])
    for number, name in OF_TABLES.items():
        drawn[name] = figures.curves(table, number)
    drawn["fits"] = figures.fits(fits)
    if len(parts := page.step_parts(table)):
        drawn["step-parts"] = figures.step_parts(parts)
    for name in FIGURES:
        for kind in ("svg", "png"):
            (out / f"{name}.{kind}").unlink(missing_ok=True)
    for name, figure in drawn.items():
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})
        figure.savefig(out / f"{name}.png", dpi=110)
    return list(drawn)


def main() -> int:
    """Runs the command."""
    return function_command.run(report)
