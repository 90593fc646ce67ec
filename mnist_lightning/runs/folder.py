"""The folder of a run: made before anything is written, removed if nothing was trained."""

import contextlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from mnist_lightning.durability.locks import alone_in, held, holder
from mnist_lightning.errors import KEPT_IN, SettingError
from mnist_lightning.runs.epochs import DivergedError
from mnist_lightning.runs.from_python import FITTED, default_loggers, refuse_bad_start, settings_of
from mnist_lightning.runs.identity import code_in
from mnist_lightning.runs.jobs import JOB, job_name
from mnist_lightning.runs.layout import CONFIG, LAST, SUMMARY, run_of_checkpoint
from mnist_lightning.runs.program import command


class RunFolder(Callback):
    """Gives each fit a folder of its own, before anything is written, and the loggers that write to it.

    A resumed run goes on in its own folder. A run has one writer: its folder is locked while it is trained. If a fit ends before its first checkpoint, the folder is removed; if it
    ends later, the exception gets a note that says how to go on. The Trainer must be made with `logger=False`, since
    Lightning makes the folders of its loggers before any callback is asked.

    Args:
        loggers: They are handed to the Trainer; by default one of TensorBoard, below `logs/`.
    """

    def __init__(self, loggers: Sequence[Logger] | None = None) -> None:
        self.loggers = loggers
        self.made: list[Path] = []
        self.trains = self.used = False
        self.places: dict[Any, Any] = {}
        self.lock = contextlib.ExitStack()
        self.config_before: bytes | None = None  # of a run that goes on

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        # A variable of another program, such as RANK, must not silence the loggers of the one process that there is.
        vars(rank_zero_only)["rank"] = trainer.global_rank
        # An evaluation before the fit must not choose the folder of the checkpoints.
        self.places = self.places or {each: vars(each).get("dirpath") for each in trainer.checkpoint_callbacks}
        if stage != "fit":
            return
        self.made = []
        if is_fast_dev_run(trainer):
            return
        refuse_bad_start(trainer, module, self.used)
        self.used = True
        for checkpoint, dirpath in self.places.items():
            checkpoint.dirpath = dirpath
        trainer.loggers = default_loggers(trainer) if self.loggers is None else list(self.loggers)
        if not trainer.loggers:
            _keep_nothing(self.places)
        if not trainer.is_global_zero:
            return
        if (run := run_of_checkpoint(trainer.ckpt_path)) is not None:
            folder = run_folder(trainer)
            if folder is not None and folder.resolve() != run.resolve():
                raise SettingError(f"The loggers write to {folder}, but the run goes on in {run}: leave them out.")
            if not self.lock.enter_context(held(run)):
                raise SettingError(
                    f"ckpt_path lies in {run}, the folder of a run that {holder(run)} writes now: wait until that has ended."
                )
            self.config_before = (run / CONFIG).read_bytes() if (run / CONFIG).exists() else None
            return
        try:
            self.made = reserve_run_folder(trainer, self.lock)
        except FileExistsError as error:
            raise SettingError(
                f"trainer.logger names {error.filename}, which is there already: leave out its version."
            ) from error
        if self.made and (job := job_name()) is not None:
            (self.made[0] / JOB).write_text(job)

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if self.made and run_of_checkpoint(trainer.ckpt_path) is not None:
            raise SettingError(
                "ckpt_path was given to Trainer.fit, too late for the run to go on in its own folder: "
                "set trainer.ckpt_path before you call fit."
            )
        run = run_folder(trainer)
        # The command line has written it already.
        if run is not None and (self.loggers is None or not (run / CONFIG).exists()):
            (run / CONFIG).write_text(yaml.safe_dump(settings_of(trainer, module), sort_keys=False))

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.trains = True
        vars(module)[FITTED] = True

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.is_global_zero and (run := run_folder(trainer)) is not None:
            (run / SUMMARY).unlink(missing_ok=True)  # it tells of the weights before

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self.lock.close()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        run = self.made[0] if self.made else run_folder(trainer)
        if run is not None and self.config_before is not None and not self.trains:
            (run / CONFIG).write_bytes(self.config_before)  # what was asked for was not begun
        self.lock.close()
        if trainer.state.fn != "fit":
            return
        lasts = run is not None and (run / LAST).exists()
        if lasts:
            vars(exception)[KEPT_IN] = run
        if not trainer.is_global_zero:
            return
        if run is not None and lasts:
            # Lightning's CSVLogger cannot go on with its file; TensorBoard's can go on beside it.
            csv = any(isinstance(logger, CSVLogger) for logger in trainer.loggers)
            named = code_in(yaml.safe_load((run / CONFIG).read_text()))
            own = ["--config", run / CONFIG] if named else []
            other = ["--trainer.logger=TensorBoardLogger"] if csv else []
            go_on = f"Go on with {command('fit', '--ckpt_path', run / LAST, *own, *other)}"
            # To go on would diverge again.
            kept = f"The checkpoint before it is {run / LAST}."
            exception.add_note(kept if isinstance(exception, DivergedError) else go_on)
            return
        if self.made:
            for logger in trainer.loggers:
                with contextlib.suppress(Exception):  # what it has not written is not needed any more
                    logger.finalize("failed")
            trainer.loggers = []
            drop_run_folder(self.made)
        if self.trains:
            exception.add_note("No epoch was finished, and nothing is kept.")


def _keep_nothing(places: Mapping[Any, Any]) -> None:
    """A fit without loggers has no folder. Its checkpoints would lie in the working folder, over those of another fit."""
    for checkpoint, dirpath in places.items():
        if dirpath is None:
            checkpoint.save_top_k = 0


def is_fast_dev_run(trainer: Trainer) -> bool:
    """Whether the Trainer runs a few batches to try the code, and writes nothing."""
    return bool(getattr(trainer, "fast_dev_run", False))


def run_folder(trainer: Trainer) -> Path | None:
    """The folder of a Trainer's run, if it has one. Unlike `Trainer.log_dir`, it can be called on one process only."""
    folders = [folder for logger in trainer.loggers if (folder := getattr(logger, "log_dir", None))]
    return Path(folders[0]) if folders and not is_fast_dev_run(trainer) else None


def reserve_run_folder(trainer: Trainer, lock: contextlib.ExitStack) -> list[Path]:
    """Makes the folder of a new run. Two runs that start at the same moment get two folders.

    Args:
        trainer: Its loggers choose the next version.
        lock: It holds the lock on the folder, so that a study does not take it for a run that was interrupted.

    Returns:
        What was made: the run's folder and those above it. Nothing if no logger has a folder.

    Raises:
        FileExistsError: If the folder that the user named is there already.
    """
    with_folders: list[Any] = [logger for logger in trainer.loggers if getattr(logger, "root_dir", None)]
    if not with_folders:
        return []
    if any(getattr(logger, "sub_dir", None) for logger in with_folders):
        raise SettingError("trainer.logger has a sub_dir, which would part the events from the run: leave it out.")
    root = Path(with_folders[0].root_dir)
    above = [path for path in (root, *root.parents) if not path.exists()]
    while True:
        with contextlib.suppress(FileNotFoundError):  # another run has failed and removed the empty folders
            root.mkdir(parents=True, exist_ok=True)
            with alone_in(root):
                # A logger chooses its version when it is first asked. All are asked here, so that all choose the same.
                folders = [Path(logger.log_dir) for logger in with_folders]
                folders[0].mkdir()
                lock.enter_context(held(folders[0]))
                return [folders[0], *above]


def drop_run_folder(made: list[Path]) -> None:
    """Removes the folder of a run, and those above it that were made for it and are empty."""
    shutil.rmtree(made[0], ignore_errors=True)
    with contextlib.suppress(OSError):  # another run has been put into them
        for folder in made[1:]:
            folder.rmdir()


def refuse_unwritable(folder: Path, setting: str) -> None:
    """Makes sure that a folder, or the nearest one above it that is there, can be written to; makes none.

    Raises:
        SettingError: If it cannot.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise SettingError(
            f"{setting} is {folder}, but nothing can be written to {there} ({error.strerror}): name another folder."
        ) from error
