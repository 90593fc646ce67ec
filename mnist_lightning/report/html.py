"""The report as one HTML file with its figures inside, which a person can open and send."""

import base64
import re
from collections.abc import Collection
from pathlib import Path

from markdown import markdown

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 14px; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: 0.2rem 0.6rem; text-align: left; vertical-align: top; }
td[style*="right"] { white-space: nowrap; }
img { max-width: 100%; }
code { background: #eee; padding: 0 0.2rem; }
"""


def as_html(text: str, folder: Path, cited: Collection[str]) -> str:
    """A page of Markdown as HTML.

    Args:
        text: Markdown, in which images are named by files of the folder.
        folder: Where they are.
        cited: Addresses that it may lead to.
    """
    body = markdown(text, extensions=["tables"])
    # No address stays but those that the template cites: a run's own text may be a link, or a picture from elsewhere.
    kept = {path.name: _inside(path) for path in folder.glob("*.svg")} | {address: address for address in cited}
    body = re.sub(r' (src|href)="([^"]*)"', lambda found: f' {found[1]}="{kept.get(found[2], "")}"', body)
    title = text.partition("\n")[0].lstrip("# ")
    head = f'<meta charset="utf-8">\n<title>{title}</title>\n<style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _inside(path: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
