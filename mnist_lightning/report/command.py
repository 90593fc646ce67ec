"""`report`: the runs' tables, figures and claims beside the paper's."""

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import auto_cli

from mnist_lightning.errors import SettingError
from mnist_lightning.run_files import command


def report(logs: Sequence[Path] | Path = Path("logs"), out: Path = Path("report"), paper: bool = False) -> int:
    """Sets the tables, figures and claims of finished runs beside the paper's.

    Args:
        logs: Folder that holds runs, at any depth, or a list of such folders.
        out: Folder for report.html, report.md, results.csv and the figures; what is there is replaced.
        paper: The paper's own numbers alone; no logs are read.

    Raises:
        SettingError: If there is no finished run, or nothing can be written.
    """
    # pandas and matplotlib take seconds, which `--help` does not need.
    from mnist_lightning.report.runs import read_runs
    from mnist_lightning.report.writing import write

    runs = [] if paper else read_runs([logs] if isinstance(logs, Path) else logs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write(out, runs)
    except OSError as error:
        raise SettingError(f"out is {out}, which cannot be written to ({error.strerror}): name another.") from error
    print(f"report  {out / 'report.html'}, of {len(runs)} run{'s' * (len(runs) != 1)}")
    return 0


def main() -> int:
    """Runs the command."""
    return auto_cli(report, args=sys.argv[2:], prog=command("report"), as_positional=False, exit_on_error=False)
