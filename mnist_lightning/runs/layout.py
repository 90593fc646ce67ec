"""Where the files of a run are. Needs no torch, so that the study and the report start fast."""

from pathlib import Path

SUMMARY = "summary.json"  # written last, in one step: a run that has it has finished
CONFIG = "config.yaml"  # all settings of the run
LAST = Path("checkpoints") / "last.ckpt"  # the newest checkpoint


def run_name(setup: str, batch_size: int, seed: int) -> str:
    """The folder of equal runs below the folder of logs; each version of the run is a folder in it."""
    return f"{setup}/batch_size={batch_size:04d}/seed={seed}"


def run_of_checkpoint(checkpoint: str | Path | None) -> Path | None:
    """The folder of the run that wrote a checkpoint; None if the file does not lie in a run's folder."""
    if checkpoint is None:
        return None
    # Not resolved: Lightning compares the checkpoint's folder with the saved one as text.
    run = Path(checkpoint).parent.parent
    return run if (run / CONFIG).is_file() else None


def first_new_epoch(epoch: int) -> int:
    """The first epoch after a checkpoint, as TensorBoard's axis counts epochs, from 1.

    TensorBoard then drops the points that an interrupted run wrote from there on.
    """
    return epoch + 2
