"""Writes results.csv, report.md, report.html and the figures."""

import base64
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import matplotlib
from jinja2 import Environment
from markdown import markdown
from matplotlib.figure import Figure

from mnist_lightning import paper
from mnist_lightning.report import figures
from mnist_lightning.report.facts import facts, listed, plural
from mnist_lightning.report.page import TABLES, Network, Page, networks
from mnist_lightning.report.runs import Run
from mnist_lightning.run_files import command

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: 0.2rem 0.6rem; text-align: left; vertical-align: top; }
td[style*="right"] { white-space: nowrap; }
img { max-width: 100%; }
code { background: #eee; padding: 0 0.2rem; }
"""


def write(out: Path, runs: Sequence[Run]) -> None:
    """Writes everything into a folder."""
    page = Page(runs)
    compared = networks(page) if runs else []
    page.table.to_csv(out / "results.csv", index=False)
    drawn = _draw(out, page, compared)
    known = {"paper": paper, "command": command(*sys.argv[1:]), "drawn": drawn}
    known |= {"listed": listed, "plural": plural, **facts(page, compared)}
    template = Path(__file__).with_name("report.md.jinja").read_text(encoding="utf-8")
    # What a run says is text: a browser must not run it.
    jinja = Environment(trim_blocks=True, lstrip_blocks=True, finalize=lambda each: str(each).replace("<", "&lt;"))
    text = jinja.from_string(template).render(known)
    cited = re.findall(r"\]\((https:[^)]*)\)", template)
    (out / "report.md").write_text(text, encoding="utf-8")
    (out / "report.html").write_text(_as_html(text, out, cited), encoding="utf-8")


def _draw(out: Path, page: Page, compared: Sequence[Network]) -> list[str]:
    """Draws the figures that the runs give, as SVG; their names."""
    matplotlib.rcParams["svg.hashsalt"] = "mnist-lightning"  # the same report is the same file
    matplotlib.rcParams["text.parse_math"] = False  # a `$` in a setting is a `$`
    drawn: dict[str, Figure] = {}
    if page.alike or not page.runs:
        drawn = {table.figure: figures.curves(page, number) for number, table in TABLES.items()}
    apart = {each.column for each in compared} - {column.name for column in page.alike}
    if shown := [column.name for column in page.columns if column.name not in apart]:
        drawn["time-to-accuracy"] = figures.time_to_accuracy(page, shown)
    if compared:
        drawn["networks"] = figures.networks(compared)
    for name in (*(table.figure for table in TABLES.values()), "time-to-accuracy", "networks"):
        (out / f"{name}.svg").unlink(missing_ok=True)
    for name, figure in drawn.items():
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})
    return list(drawn)


def _as_html(text: str, folder: Path, cited: Collection[str]) -> str:
    """A page of Markdown as HTML, with the images of a folder inside and links to nothing but what the report cites."""
    body = markdown(text, extensions=["tables"])
    # A run's own text may be a link, or a picture from elsewhere.
    kept = {address: address for address in cited}
    for path in folder.glob("*.svg"):
        kept[path.name] = f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
    body = re.sub(r' (src|href)="([^"]*)"', lambda found: f' {found[1]}="{kept.get(found[2], "")}"', body)
    title = text.partition("\n")[0].lstrip("# ")
    head = f'<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'
