"""The experiment's Trainer, for the command line and for Python: its settings, and its callbacks in their order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import SLURMEnvironment

from mnist_lightning.runs.loggers import make_loggers

TRAINER: dict[str, Any] = {
    "max_epochs": 10,  # the paper's
    "devices": 1,  # `auto` would take all GPUs, whatever the batch size
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}
CHECKPOINT: dict[str, Any] = {
    # Only the newest epoch is kept; CheckpointFile points last.ckpt to it.
    "filename": "{epoch:02d}",
    # A file of the same epoch that is there already is replaced.
    "enable_version_counter": False,
    # Also of an epoch without validation.
    "save_on_train_epoch_end": True,
}


def trainer_settings(**changes: Any) -> dict[str, Any]:
    """The arguments of a Trainer for this experiment, some of them changed, such as `max_epochs` or `devices`."""
    return {**TRAINER, "logger": False, **changes, "plugins": with_plugins(changes.get("plugins"))}


def with_plugins(given: Any) -> list[Any]:
    """The Trainer's plugins: the given ones (one, a list or None) and, under Slurm, the experiment's own."""
    plugins = list(given) if isinstance(given, list) else [] if given is None else [given]
    if SLURMEnvironment.detect():
        # Slurm requeues the job by itself. Lightning's way leaves a file that later runs in the folder would load.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


def callbacks(
    loggers: Logger | Sequence[Logger] | Callable[[Trainer], list[Logger]] = make_loggers,
    checkpoint: bool = True,
    given: Mapping[str, Any] | None = None,
) -> list[Callback]:
    """The experiment's callbacks, in the order in which Lightning asks them at each hook.

    What works when training starts comes before the clock, which starts last; what works at the end of an epoch comes
    after it. docs/timing.md lists what happens at the end of the last epoch, in order.

    Args:
        loggers: Of the run, or what makes them, unless the Trainer has loggers; by default one of TensorBoard in the
            run's folder below `logs/`.
        checkpoint: Whether to save the last epoch.
        given: The settings of the command line, for the run's `config.yaml`.
    """
    # Late, since --help offers all callbacks that are there, and these nobody can pass.
    from mnist_lightning.callbacks import StopSignals, WallClock, WholeEpochs
    from mnist_lightning.durability.heartbeat import Heartbeat
    from mnist_lightning.measure.calibration import Calibration
    from mnist_lightning.measure.neighbours import Neighbours
    from mnist_lightning.runs.folder import RunFolder
    from mnist_lightning.runs.record import RunRecord
    from mnist_lightning.speed.warm_up import WarmUp
    from mnist_lightning.views.board import Board
    from mnist_lightning.views.progress import EpochLines

    clock, warm_up, calibration, neighbours = WallClock(), WarmUp(), Calibration(), Neighbours()
    record = RunRecord(clock, warm_up, calibration, neighbours)
    return [
        StopSignals(),  # sets the handlers before anything can wait
        Heartbeat(),  # knows the other processes before anything waits for them
        RunFolder(loggers, given),  # checks the run, and makes its folder before anything is written to it
        calibration,  # measures the machine before the record tells it, and before the warm-up
        warm_up,  # before the clock starts
        neighbours,  # starts after the warm-up, as the clock does
        EpochLines(),
        clock,
        WholeEpochs(),  # ends a fit that has gone wrong when the clock has been read, and before anything is saved
        record,  # reads the clock; logs what ran before the board shows it
        Board(record),
        *([ModelCheckpoint(**CHECKPOINT)] if checkpoint else []),  # Lightning moves it to the end in any case
    ]
