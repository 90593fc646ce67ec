"""The experiment's Trainer, for the command line and for Python.

from lightning.pytorch import Trainer
from mnist_lightning import MNISTClassifier, MNISTDataModule, experiment

trainer = Trainer(**experiment.trainer_settings(max_epochs=1), callbacks=experiment.callbacks())
trainer.fit(MNISTClassifier(), MNISTDataModule())
"""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.plugins.environments import SLURMEnvironment

from mnist_lightning.callbacks import StopSignals, WallClock
from mnist_lightning.durability.checkpoint_file import CheckpointFile
from mnist_lightning.durability.heartbeat import Heartbeat
from mnist_lightning.measure.calibration import Calibration
from mnist_lightning.measure.energy import Energy
from mnist_lightning.measure.neighbours import Neighbours
from mnist_lightning.measure.step_parts import StepParts
from mnist_lightning.runs.epochs import WholeEpochs
from mnist_lightning.runs.folder import RunFolder
from mnist_lightning.runs.record import RunRecord
from mnist_lightning.runs.setups import refuse_copies
from mnist_lightning.speed.shared_gradients import SharedGradients
from mnist_lightning.speed.warm_up import WarmUp
from mnist_lightning.views.board import Board
from mnist_lightning.views.console import silence_noise
from mnist_lightning.views.progress import FitProgress

TRAINER: dict[str, Any] = {
    "max_epochs": 10,  # the paper's
    "devices": 1,  # `auto` would take all GPUs, whatever the batch size
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the data module deals the images itself, each once
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
    """The arguments of a Trainer for this experiment. It also silences messages that do not concern the run.

    Args:
        changes: Arguments of the Trainer that shall have other values, such as `max_epochs` or `devices`.

    Raises:
        SettingError: If the strategy starts its processes in a way that cannot work.
    """
    refuse_copies(changes.get("strategy"))
    silence_noise()
    plugins = with_plugins(changes.pop("plugins", None))
    return {**TRAINER, "logger": False, **changes, "plugins": plugins}


def with_plugins(given: Any) -> list[Any]:
    """The Trainer's plugins: the given ones (one, a list or None) and the experiment's own."""
    plugins = _listed(given)
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(CheckpointFile())
    if SLURMEnvironment.detect():
        # Slurm requeues the job by itself. Lightning's way leaves a file that later runs in the folder would load.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


def with_callbacks(given: Any, loggers: Sequence[Logger], progress: bool, step_parts: bool) -> list[Callback]:
    """The Trainer's callbacks for the command line, which makes the callback that saves checkpoints by itself.

    Args:
        given: The user's, which may be one, a list or None; they come first, and run outside the clock at the start.
        loggers: Of the run.
        progress: Whether to show a bar, unless the user gives one.
        step_parts: Whether to record where the time of a step goes.
    """
    own = _listed(given)
    has_bar = any(isinstance(callback, ProgressBar) for callback in own)
    return [*own, *callbacks(loggers, progress=progress and not has_bar, checkpoint=False, step_parts=step_parts)]


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list) else [] if given is None else [given]


def callbacks(
    loggers: Sequence[Logger] | None = None,
    progress: bool = True,
    checkpoint: bool = True,
    step_parts: bool = False,
) -> list[Callback]:
    """The experiment's callbacks, in the order in which Lightning asks them at each hook.

    The order matters. A callback that must act before anything can fail or write comes first. A callback that works when
    training starts comes before the clock, so that the clock starts last. A callback that works at the end of an epoch
    or of the fit comes after the clock, so that the clock has been read by then. docs/timing.md lists what happens at the
    end of the last epoch, in order.

    Args:
        loggers: Of the run; by default one of TensorBoard in the run's folder below `logs/`.
        progress: Whether to show a bar, or a line an epoch.
        checkpoint: Whether to save the last epoch.
        step_parts: Whether to record where the time of a step goes.
    """
    clock, warm_up, neighbours, parts = WallClock(), WarmUp(), Neighbours(), StepParts(step_parts)
    calibration, energy = Calibration(), Energy()
    record = RunRecord(clock, warm_up, calibration, neighbours, energy, parts)
    return [
        StopSignals(),  # sets the handlers before anything can wait
        Heartbeat(),  # knows the other processes before anything waits for them
        RunFolder(loggers),  # the folder is there before anything is written to it
        calibration,  # measures the machine before the record tells it, and before the warm-up
        SharedGradients(),  # before the first step, which is of the warm-up
        warm_up,  # compiles before the clock starts
        neighbours,  # starts after the warm-up, as the clock does
        energy,  # counts what the clock times
        parts,  # its hooks are in place before the first step
        *([FitProgress()] if progress else []),
        clock,
        WholeEpochs(),  # ends a fit that has gone wrong when the clock has been read, and before anything is saved
        record,  # reads the clock; logs what ran before the board shows it
        Board(record, clock),
        *([ModelCheckpoint(**CHECKPOINT)] if checkpoint else []),  # Lightning moves it to the end in any case
    ]
