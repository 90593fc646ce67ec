"""The report as one HTML file with its figures inside, which a person can open and send."""

import base64
import re
from pathlib import Path

from markdown import markdown

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: 0.2rem 0.6rem; text-align: left; vertical-align: top; }
td[style*="right"] { white-space: nowrap; }
img { max-width: 100%; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: #0072b2; }
"""


def as_html(text: str, folder: Path) -> str:
    """A page of Markdown as HTML.

    Args:
        text: Markdown, in which images are named by files of the folder.
        folder: Where they are.
    """
    body = markdown(text.replace("<details>", '<details markdown="1">'), extensions=["tables", "md_in_html"])
    # No other address stays: a run's own text may be a link, or a picture from elsewhere.
    figures = {path.name: _inside(path) for path in folder.glob("*.svg")}
    body = re.sub(r' (?:src|href)="([^"]*)"', lambda found: f' src="{figures.get(found[1], "")}"', body)
    title = text.partition("\n")[0].lstrip("# ")
    head = f'<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _inside(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
