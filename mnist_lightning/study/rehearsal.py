"""What the cells of a study would run, asked of `fit` itself, which nothing is trained or written for."""

import json
import sys
from pathlib import Path
from typing import Any

from mnist_lightning import cli
from mnist_lightning.data import MNISTDataModule
from mnist_lightning.errors import sentence
from mnist_lightning.model import MNISTClassifier


class Rehearsal(cli.MNISTCLI):
    """A `fit` that ends when its model, data and Trainer are made. It prints the setup that it would train, and the folder
    that versions of the run would be made in: none if it would make none, or a version that is named."""

    def before_fit(self) -> None:
        pass

    def fit(self, **options: Any) -> None:
        loggers = self.config.fit.trainer.logger
        folder = None
        if loggers and (place := loggers[0].init_args).get("version") is None:
            folder = str(Path(place.save_dir) / place.name)
        print(json.dumps({"setup": self.setup_name, "folder": folder}), flush=True)


def main(about: str, model: type = MNISTClassifier, data: type = MNISTDataModule) -> int:
    """Reads command lines as JSON, one a line, and prints an answer or an error for each in the same way. Returns 0."""
    for line in sys.stdin:
        sys.argv[1:] = json.loads(line)
        try:
            cli.main(about, model, data, Rehearsal)
        except Exception as error:  # noqa: BLE001 - the study tells it
            print(json.dumps({"error": sentence(error) or type(error).__name__}), flush=True)
    return 0
