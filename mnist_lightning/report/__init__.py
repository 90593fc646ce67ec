"""`report`: the runs' tables, figures and claims beside the paper's."""

from mnist_lightning.report.command import main

__all__ = ["main"]
