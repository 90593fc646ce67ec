"""`summary.json`, and the table that a fit prints at its end."""

import json
import shlex
from pathlib import Path
from typing import Any

from mnist_lightning.errors import blaming
from mnist_lightning.measure.disturbance import disturbances
from mnist_lightning.run_files import CONFIG, SUMMARY, command, write_whole


def write_summary(run: Path, summary: dict[str, Any]) -> None:
    """Writes `summary.json` whole or not at all, since a run that has it has finished."""
    write_whole(run / SUMMARY, f"{json.dumps(summary, indent=2)}\n".encode())


def read_summary(run: Path) -> dict[str, Any]:
    """The summary of a finished run."""
    with blaming(str(run / SUMMARY)):
        summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
        summary["metrics"]["seconds/fit"], summary["machine"]["precision"]
        return summary


def closing_table(summary: dict[str, Any], run: Path | None) -> str:
    """The paper's three quantities, whether their time can be trusted, and the commands that show and repeat the run."""
    metrics = summary["metrics"]
    loss, accuracy = (metrics.get(f"val/{name}") for name in ("loss", "accuracy"))
    sample = "" if summary["data"] == "mnist" else f"  ({summary['data']}: not comparable with the paper)"
    seen, total = summary.get("validated_images", 0), summary.get("test_images", 0)
    part = "" if seen in (0, total) else f"  (of {seen} of the {total} test images)"
    cell = f"{summary['setup']}, batch size {summary['batch_size']}, seed {summary['seed']}"
    lines = [
        "",
        f"  {cell}, {summary['epochs']} epoch{'s' * (summary['epochs'] != 1)}{sample}",
        f"  Training time  {metrics['seconds/fit']:10.2f} s  (and {metrics['seconds/warm_up']:.2f} s of warming up before)",
        f"  Test loss      {'—' if loss is None else format(loss, '.5f'):>10}",
        f"  Test accuracy  {'—' if accuracy is None else format(accuracy, '.4f'):>10}{part}",
    ]
    if found := disturbances(summary):
        lines += [f"  warning: do not trust the time, since {' and '.join(found)}"]
    if run is not None:
        lines += ["", f"  run    {run}"]
        if any(run.glob("events.out.tfevents.*")):
            lines += [f"  look   tensorboard --logdir {shlex.quote(str(run))}"]
        told = summary["command"]  # a script may have callbacks of its own, which the config cannot make
        script = not told.startswith(command("fit")) and "ipykernel" not in told
        lines += [f"  rerun  {told if script else command('fit', '--config', run / CONFIG)}"]
    return "\n".join(lines)
