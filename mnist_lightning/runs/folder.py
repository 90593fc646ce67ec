"""The folder of a run: made before anything is written, removed if nothing was trained."""

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from mnist_lightning.data import data_module
from mnist_lightning.durability.checkpoint_file import CheckpointFile
from mnist_lightning.durability.signals import GO_ON
from mnist_lightning.errors import SettingError
from mnist_lightning.run_files import CONFIG, LAST, LOCK, SUMMARY, command, lock_of, run_of_checkpoint
from mnist_lightning.runs.checks import (
    check_fit,
    check_resumed,
    images_of,
    read_checkpoint,
    refuse_finders,
    refuse_other_network,
)
from mnist_lightning.runs.config import settings_of
from mnist_lightning.runs.loggers import make_loggers
from mnist_lightning.runs.resuming import JOB, job_name


class RunFolder(Callback):
    """Gives each fit a folder of its own, before anything is written, and the loggers that write to it.

    A resumed run goes on in its own folder. A run has one writer: its folder is locked while it is trained. If a fit ends
    before its first checkpoint, the folder is removed; if it ends later, the exception says how to go on. Loggers that the
    Trainer was made with choose the folder themselves, as ever in Lightning, and a run that goes on gets a new one.
    """

    def __init__(
        self,
        loggers: Logger | Sequence[Logger] | Callable[[Trainer], list[Logger]] = make_loggers,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.loggers = [loggers] if isinstance(loggers, Logger) else loggers
        self.given = given or {}
        self.made: list[Path] = []
        self.mine: list[Logger] = []
        self.trained = False
        self.checked: Any = None  # checkpoint
        self.places: dict[Any, Any] = {}
        self.lock: FileLock | None = None

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        GO_ON["how"] = str  # what another fit has left to say
        # A variable of another program, such as RANK, must not silence the loggers of the one process that there is.
        vars(rank_zero_only)["rank"] = trainer.global_rank
        # An evaluation before the fit must not choose the folder of the checkpoints.
        self.places = self.places or {each: vars(each).get("dirpath") for each in trainer.checkpoint_callbacks}
        if stage != "fit" and trainer.ckpt_path is not None:
            self._evaluate(trainer, module, stage)
        if stage != "fit" or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return  # the latter tries the code, and writes nothing
        check_fit(trainer, module, self.given, self.trained)
        self.checked = trainer.ckpt_path
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = CheckpointFile()
        if trainer.loggers == self.mine:
            trainer.loggers = self.mine = self._loggers(trainer)
        for checkpoint, dirpath in self.places.items():
            checkpoint.dirpath = dirpath
            if not trainer.loggers and dirpath is None:
                checkpoint.save_top_k = 0  # a fit without loggers has no folder to keep it in
        if trainer.is_global_zero:
            self._take_folder(trainer)
        # The other processes do not know it, and say it if the first one is lost.
        run = trainer.strategy.broadcast(run_folder(trainer) if trainer.is_global_zero else None)
        GO_ON["how"] = partial(self._how_to_go_on, trainer, run)

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # `Trainer.fit(ckpt_path=...)` tells the path only now. Later, Lightning's Tuner restores what it has saved itself.
        if trainer.state.fn == "fit" and not trainer.optimizers and trainer.ckpt_path != self.checked:
            check_resumed(trainer, module, self.given)

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        refuse_finders(trainer)  # not earlier: Lightning's Tuner is such a callback that ends the fit before this point

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.trained = True
        vars(module)["was_fitted"] = True
        run = run_folder(trainer)
        if trainer.is_global_zero and run is not None:
            settings = settings_of(trainer, module, self.given)
            (run / CONFIG).write_text(yaml.safe_dump(settings, sort_keys=False))

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.is_global_zero and (run := run_folder(trainer)) is not None:
            (run / SUMMARY).unlink(missing_ok=True)  # it tells of the weights before
            for logger in trainer.loggers:
                logger.save()  # what a checkpoint ends must be there when the checkpoint is

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if self.lock is not None:
            self.lock.release()
        if stage == "fit" and not self.trained:  # Lightning's Tuner has tried something, and removed its own checkpoint
            self._drop(trainer)
            trainer.ckpt_path = None

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        how, run = GO_ON["how"](), self.made[0] if self.made else run_folder(trainer)
        kept = trainer.current_epoch > 0 or (run is not None and (run / LAST).exists())
        self.teardown(trainer, module, "")
        if trainer.state.fn != "fit":
            return
        if not kept:
            self._drop(trainer)
        for error in filter(None, (exception, exception.__cause__)):  # a logger's error may hide the system's
            if isinstance(error, OSError) and error.errno and not error.filename:
                error.filename = str(run)  # a full disk does not say where
            if trainer.is_global_zero and how:
                error.add_note(how)

    def _drop(self, trainer: Trainer) -> None:
        """Removes the folder that was made for this run."""
        for logger in self.mine if self.made else []:
            with contextlib.suppress(Exception):  # what it has not written is not needed any more
                logger.finalize("failed")
        if trainer.loggers == self.mine:
            trainer.loggers = self.mine = []
        if self.made:
            drop_run_folder(self.made)
            self.made = []

    def _how_to_go_on(self, trainer: Trainer, run: Path | None) -> str:
        if run is None or not (run / LAST).exists():
            return "No epoch was finished, and nothing is kept." if self.trained else ""
        if not self.given:
            return f"Go on with trainer.fit(model, data, ckpt_path='{run / LAST}')"
        # Lightning's CSVLogger cannot go on with its file; TensorBoard's can go on beside it.
        csv = any(isinstance(logger, CSVLogger) for logger in trainer.loggers)
        other = ["--trainer.logger=TensorBoardLogger"] if csv else []
        return f"Go on with {command('fit', '--ckpt_path', run / LAST, *other)}"

    def _loggers(self, trainer: Trainer) -> list[Logger]:
        return self.loggers(trainer) if callable(self.loggers) else list(self.loggers)

    def _evaluate(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Logs an evaluation of a checkpoint into the run that it is of, if it is one of all images and of its own."""
        checkpoint, data = read_checkpoint(str(trainer.ckpt_path), resume=False), data_module(trainer)
        refuse_other_network(trainer, module, checkpoint)
        found, run = images_of(checkpoint).get("found"), run_of_checkpoint(trainer.ckpt_path)
        limit = {"validate": trainer.limit_val_batches, "test": trainer.limit_test_batches}.get(stage, 0.0)
        whole = isinstance(limit, float) and limit == 1 and found in (None, data.name)
        if whole and run is not None and trainer.loggers == self.mine:
            trainer.loggers = self.mine = self._loggers(trainer)

    def _take_folder(self, trainer: Trainer) -> None:
        theirs = trainer.loggers != self.mine
        folder = run_folder(trainer)
        run = folder if theirs else run_of_checkpoint(trainer.ckpt_path)
        if run is not None and folder is not None and folder.resolve() != run.resolve():
            raise SettingError(f"The loggers write to {folder}, but the run goes on in {run}: leave them out.")
        if run is not None:
            self._lock(run)
        elif not theirs:
            try:
                self.made = self._reserve(trainer)
            except FileExistsError as error:
                raise SettingError(f"trainer.logger: {error.filename} is there: leave out its version.") from error
        if self.made and (job := job_name()) is not None:
            (self.made[0] / JOB).write_text(job)

    def _reserve(self, trainer: Trainer) -> list[Path]:
        """Makes the folder of a new run, and gives it and those above it that were made; nothing without such a logger."""
        with_folders: list[Any] = [logger for logger in trainer.loggers if getattr(logger, "root_dir", None)]
        if not with_folders:
            return []
        root = Path(with_folders[0].root_dir)
        above = [path for path in (root, *root.parents) if not path.exists()]
        self.made = [root / LOCK, *above]  # removed if the rest fails
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / LOCK):  # two runs that start at the same moment get two folders
            # A logger chooses its version when it is first asked. All are asked here, so that all choose the same.
            folders = [Path(logger.log_dir) for logger in with_folders]
            folders[0].mkdir()
            self._lock(folders[0])
        return [folders[0], *above]

    def _lock(self, run: Path) -> None:
        """Keeps the run for this process, so that neither a study nor another fit takes it for an interrupted one."""
        run.mkdir(parents=True, exist_ok=True)
        self.lock = lock_of(run)
        try:
            self.lock.acquire()
        except Timeout as error:
            raise SettingError(f"ckpt_path is of {run}, which another process trains now: wait for it.") from error


def run_folder(trainer: Trainer) -> Path | None:
    """The folder of a Trainer's run, if it has one. Unlike `Trainer.log_dir`, it can be called on one process only."""
    folders = [folder for logger in trainer.loggers if (folder := getattr(logger, "log_dir", None))]
    return Path(folders[0]) if folders else None


def drop_run_folder(made: list[Path]) -> None:
    """Removes the folder of a run, and those above it that were made for it and hold nothing else."""
    shutil.rmtree(made[0], ignore_errors=True)
    made[0].with_name(f".{made[0].name}{LOCK}").unlink(missing_ok=True)
    for folder in made[1:]:
        with contextlib.suppress(OSError):  # another run has been put into it
            if [path.name for path in folder.iterdir()] == [LOCK]:
                (folder / LOCK).unlink()
            folder.rmdir()
