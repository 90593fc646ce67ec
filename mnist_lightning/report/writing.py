"""Writes results.csv, report.md, report.html and the figures."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from mnist_lightning import paper
from mnist_lightning.report import drawing, figures, page
from mnist_lightning.report.columns import is_papers
from mnist_lightning.report.html import as_html
from mnist_lightning.report.page import Page, make_page
from mnist_lightning.report.reproduction import alone
from mnist_lightning.report.runs import OURS, Run
from mnist_lightning.report.two_devices import predicted
from mnist_lightning.run_files import command

CURVES = {"I": "figure-3-time", "II": "figure-4-accuracy", "III": "figure-5-loss"}
FIGURES = {
    "figure-3-time": "Figure 3. Seconds; the paper's are thin and dashed. Each of our runs is a dot, and lines join the means.",
    "figure-4-accuracy": "Figure 4. Accuracy, drawn like Figure 3.",
    "figure-5-loss": "Figure 5. Loss, drawn like Figure 3.",
    "second-device": "Seconds of two devices minus those of one.",
    "networks": "Accuracy over seconds, a number a network and a dot a run.",
    "figure-1-architecture": "Figure 1. The network, drawn from the settings of the runs.",
}


def write(out: Path, runs: Sequence[Run]) -> None:
    """Writes everything into a folder."""
    found = make_page(runs)
    found.table.to_csv(out / "results.csv", index=False)
    drawn = _draw(out, found)
    templates = Environment(
        loader=PackageLoader("mnist_lightning.report", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_harmless,
    )
    context = {
        "page": page,
        "found": found,
        "paper": paper,
        "alone": alone,
        "predicted": predicted,
        "command": command(*sys.argv[1:]),
        "curves": CURVES,
        "captions": FIGURES,
        "drawn": drawn,
    }
    text = templates.get_template("report.md.jinja").render(context)
    (out / "report.md").write_text(text, encoding="utf-8")
    (out / "report.html").write_text(as_html(text, out), encoding="utf-8")


def _harmless(value: Any) -> Any:
    """What a run says, as text: a browser must not run it."""
    return value.replace("<", "&lt;") if isinstance(value, str) else value


def _draw(out: Path, found: Page) -> list[str]:
    """Draws the figures that the runs give, as SVG and PNG; their names."""
    matplotlib.rcParams["svg.hashsalt"] = "mnist-lightning"  # the same report is the same file
    matplotlib.rcParams["text.parse_math"] = False  # a `$` in a setting is a `$`
    drawn: dict[str, Figure] = {name: figures.curves(found.main, number) for number, name in CURVES.items()}
    if found.seconds:
        drawn["second-device"] = figures.second_device(found.seconds)
    if found.networks:
        drawn["networks"] = figures.networks(max(found.networks, key=lambda grid: len(grid.networks)), found.table)
    if (network := _network(found.runs)) is not None:
        drawn["figure-1-architecture"] = drawing.architecture(*network)
    for name in FIGURES:
        for kind in ("svg", "png"):
            (out / f"{name}.{kind}").unlink(missing_ok=True)
    for name, figure in drawn.items():
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})
        figure.savefig(out / f"{name}.png", dpi=110)
    return list(drawn)


def _network(runs: Sequence[Run]) -> tuple[dict[str, Any], int | None] | None:
    """The settings and the parameters of the network that is drawn: the paper's, or that of the first run; None if its class is
    another."""
    if not runs:
        return dict(paper.ARCHITECTURE), None
    run = next(filter(is_papers, runs), runs[0])
    if run.network != OURS:
        return None
    return {name: run.settings.get(f"model.{name}") for name in paper.ARCHITECTURE}, run.summary["parameters"]
