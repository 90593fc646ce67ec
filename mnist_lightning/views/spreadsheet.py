"""Texts of CSV files, which many open in a spreadsheet."""

import re

_FORMULA = re.compile(r"\s*[=+@\-\t\r]", re.ASCII)


def harmless(text: str) -> str:
    """A text that a spreadsheet shows and does not run: an apostrophe comes before what would begin a formula."""
    return f"'{text}" if _FORMULA.match(text) else text
