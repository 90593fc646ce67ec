"""Writes results.csv, report.md, report.html and the figures."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from mnist_lightning import paper
from mnist_lightning.report import figures
from mnist_lightning.report.html import as_html
from mnist_lightning.report.page import TABLES, Page
from mnist_lightning.report.runs import Run
from mnist_lightning.report.sentences import sentences
from mnist_lightning.report.tables import networks
from mnist_lightning.run_files import command

FIGURES = {
    "time-to-accuracy": "Errors on the test images over seconds, from epoch to epoch.",
    "figure-3-time": "Figure 3. Seconds: the paper's thin and dashed, each of our runs a dot, a line through the means.",
    "figure-4-accuracy": "Figure 4. Accuracy, drawn like Figure 3.",
    "figure-5-loss": "Figure 5. Loss, drawn like Figure 3.",
    "networks": "Each network over the reference; filled ones go beyond noise.",
}
OF_TABLES = dict(zip(TABLES, list(FIGURES)[1:4], strict=True))


def write(out: Path, runs: Sequence[Run]) -> None:
    """Writes everything into a folder."""
    page = Page(runs)
    page.table.to_csv(out / "results.csv", index=False)
    drawn = _draw(out, page)
    loader = PackageLoader("mnist_lightning.report", ".")
    templates = Environment(
        loader=loader, trim_blocks=True, lstrip_blocks=True, finalize=_harmless, keep_trailing_newline=True
    )
    known = {"runs": runs, "alike": page.alike, "paper": paper, "command": command(*sys.argv[1:])}
    known |= {"captions": FIGURES, "drawn": drawn, "of_tables": OF_TABLES, **sentences(page)}
    text = templates.get_template("report.md.jinja").render(known)
    cited = re.findall(r"\]\((https:[^)]*)\)", loader.get_source(templates, "report.md.jinja")[0])
    (out / "report.md").write_text(text, encoding="utf-8")
    (out / "report.html").write_text(as_html(text, out, cited), encoding="utf-8")


def _harmless(value: Any) -> Any:
    """What a run says, as text: a browser must not run it."""
    return value.replace("<", "&lt;") if isinstance(value, str) else value


def _draw(out: Path, page: Page) -> list[str]:
    """Draws the figures that the runs give, as SVG and PNG; their names."""
    matplotlib.rcParams["svg.hashsalt"] = "mnist-lightning"  # the same report is the same file
    matplotlib.rcParams["text.parse_math"] = False  # a `$` in a setting is a `$`
    drawn: dict[str, Figure] = {}
    if page.alike or not page.runs:
        drawn |= {name: figures.curves(page.table, page.alike, number) for number, name in OF_TABLES.items()}
    found = networks(page)
    compared = {each.column for each in found} - {column.name for column in page.alike}
    if shown := {run: column for run, column in page.column_of.items() if column.name not in compared}:
        drawn["time-to-accuracy"] = figures.time_to_accuracy(shown, bool(page.alike))
    if found:
        drawn["networks"] = figures.networks(found)
    for name in FIGURES:
        for kind in ("svg", "png"):
            (out / f"{name}.{kind}").unlink(missing_ok=True)
    for name, figure in drawn.items():
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})
        figure.savefig(out / f"{name}.png", dpi=110)
    return list(drawn)
