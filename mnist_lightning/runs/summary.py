"""`summary.json`, and the table that a fit prints at its end."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

from mnist_lightning.errors import SettingError
from mnist_lightning.measure.disturbance import disturbances
from mnist_lightning.parsing.config_file import text_of
from mnist_lightning.runs.layout import CONFIG, SUMMARY
from mnist_lightning.runs.program import command
from mnist_lightning.runs.shapes import Number, OrNone, misfits

LARGEST = 64 << 20  # bytes; of ten thousand epochs there are 1.5 million
NUMBER, SHARE, POSITIVE, COUNT = Number(), Number(above=-1e-9, most=1), Number(above=0), Number(above=0, whole=True)
RATES = {"*": NUMBER}
SHAPE = {
    "setup": re.compile(r"[1-9][0-9]{0,5}x(cpu|gpu|mps)"),
    "batch_size": COUNT,
    "seed": Number(above=-1, most=2**32 - 1, whole=True),
    "network?": str,
    "data": str,
    "train_images": COUNT,
    "test_images?": COUNT,
    "parameters": COUNT,
    "machine": {
        "precision": str,
        "processor?": str,
        "cores?": POSITIVE,
        "threads?": COUNT,
        "gpu?": OrNone(str),
        "commit?": OrNone(str),
        "code?": OrNone(str),
        "*": str | int | float | None,
    },
    "calibration?": {"before?": RATES, "after?": RATES},
    "neighbours?": {"*": NUMBER},
    "joules?": OrNone(NUMBER),
    "command?": str,
    "resumed?": bool,
    "epochs": COUNT,
    "steps": COUNT,
    "metrics": {
        "seconds/fit": POSITIVE,
        "seconds/warm_up": NUMBER,
        "val/loss?": POSITIVE,
        "val/accuracy?": SHARE,
        "*": NUMBER,
    },
    "median": {"images_per_second": POSITIVE, "*": NUMBER},
    "by_epoch": {
        "seconds/epoch": [NUMBER],
        "seconds/train_epoch?": [NUMBER],
        "seconds/val_epoch?": [NUMBER],
        "val/accuracy": [OrNone(SHARE)],
        "*": [OrNone(NUMBER)],
    },
    "step_seconds?": {"*": NUMBER},
}


def write_summary(run: Path, summary: dict[str, Any]) -> None:
    """Writes `summary.json` whole or not at all, since a run that has it has finished."""
    part = run / f".{SUMMARY}"
    part.write_text(json.dumps(summary, indent=2) + "\n")
    os.replace(part, run / SUMMARY)


def read_summary(run: Path) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
        SettingError: If the file is none.
    """
    path = run / SUMMARY
    try:
        summary = json.loads(text_of(path, largest=LARGEST))
    except SettingError:
        raise
    except (ValueError, RecursionError) as error:
        raise SettingError(f"{path} is no JSON ({error}): remove the run, or mend the file.") from error
    problem = next(misfits(summary, SHAPE), None)
    if problem is None and any(len(each) != summary["epochs"] for each in summary["by_epoch"].values()):
        problem = f"by_epoch does not have {summary['epochs']} values of each metric, an epoch one"
    if problem is not None:
        raise SettingError(f"{path} is no summary of a run ({problem}): remove the run, or mend the file.")
    return summary


def closing_table(summary: dict[str, Any], run: Path | None) -> str:
    """The paper's three quantities, whether their time can be trusted, and the commands that show and repeat the run."""
    metrics = summary["metrics"]
    loss, accuracy = (metrics.get(f"val/{name}") for name in ("loss", "accuracy"))
    sample = "" if summary["data"] == "mnist" else "  (sample data: not comparable with the paper)"
    total = summary["test_images"]
    seen = summary.get("validated_images", total)
    part = "" if seen in (0, total) else f"  (of {seen} of the {total} test images)"
    cell = f"{summary['setup']}, batch size {summary['batch_size']}, seed {summary['seed']}"
    lines = [
        "",
        f"  {cell}, {summary['epochs']} epoch{'s' * (summary['epochs'] != 1)}{sample}",
        f"  Training time  {metrics['seconds/fit']:10.2f} s  (and {metrics['seconds/warm_up']:.2f} s of warming up before)",
        f"  Test loss      {'—' if loss is None else format(loss, '.5f'):>10}",
        f"  Test accuracy  {'—' if accuracy is None else format(accuracy, '.4f'):>10}{part}",
    ]
    lines += [f"  warning: do not trust the time, since {found}" for found in disturbances(summary)]
    if run is not None:
        lines += ["", f"  run    {run}"]
        if any(run.glob("events.out.tfevents.*")):
            lines += [f"  look   tensorboard --logdir {shlex.quote(str(run))}"]
        if (run / CONFIG).exists():
            lines += [f"  rerun  {command('fit', '--config', run / CONFIG)}"]
    return "\n".join(lines)
