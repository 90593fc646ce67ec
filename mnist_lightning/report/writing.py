"""Writes results.csv, report.md, the figures and an event file."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from jinja2 import Environment, PackageLoader

from mnist_lightning import paper
from mnist_lightning.report import figures, page
from mnist_lightning.report.events import write_events
from mnist_lightning.report.runs import OURS, Run, labelled, tidy
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


def write(out: Path, runs: Sequence[Run]) -> None:
    """Writes everything into a folder."""
    table = tidy(runs)
    table.to_csv(out / "results.csv", index=False)
    by_column = dict(labelled(runs))
    networks = {column: _network(by_column[column]) for column in dict.fromkeys(table.column)}
    fits = fitted(table)
    pairs = meetings(fits)
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
        "meetings": pairs,
        "second_devices": second_devices(pairs),
        "page": page,
        "paper": paper,
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
    network = {name: run.settings.get(f"model.{name}") for name in paper.ARCHITECTURE}
    return network if run.network == OURS else None


def _draw(
    out: Path,
    table: pd.DataFrame,
    fits: Sequence[Fitted],
    runs: Mapping[str, Run],
    networks: Mapping[str, dict[str, Any] | None],
) -> list[str]:
    """Draws the figures that the runs give, as SVG and PNG; their names."""
    matplotlib.rcParams["svg.hashsalt"] = "mnist-lightning"  # the same report is the same file
    drawn: dict[str, Any] = {}
    if not networks:
        drawn["figure-1-architecture"] = figures.architecture(paper.ARCHITECTURE, None)
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
