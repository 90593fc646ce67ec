"""The command line: one config becomes a model, its data and a Trainer."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.plugins.environments import SLURMEnvironment

from mnist_lightning.callbacks import StopSignals, WallClock
from mnist_lightning.data import MNISTDataModule
from mnist_lightning.durability.checkpoint_file import LAST, CheckpointFile
from mnist_lightning.durability.heartbeat import Heartbeat
from mnist_lightning.durability.locks import hold
from mnist_lightning.durability.signals import Stopped
from mnist_lightning.errors import SettingError
from mnist_lightning.measure.neighbours import Neighbours
from mnist_lightning.measure.step_parts import StepParts
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.parsing.config_file import refuse_bad_configs
from mnist_lightning.runs.jobs import JOB, follow_torchrun, interrupted_checkpoint, job_name, may_have_begun
from mnist_lightning.runs.layout import run_name
from mnist_lightning.runs.record import (
    LOGGER,
    RunRecord,
    closing_table,
    drop_run_folder,
    place_loggers,
    read_summary,
    reserve_run_folder,
    run_folder,
    run_of_checkpoint,
    write_summary,
)
from mnist_lightning.runs.resuming import (
    adopt_settings,
    read_checkpoint,
    refuse_other_data,
    refuse_other_network,
    refuse_other_setup,
    trained_on,
)
from mnist_lightning.runs.setups import refuse_unsupported, resolve, setup_name
from mnist_lightning.speed.warm_up import WarmUp
from mnist_lightning.views.board import Board
from mnist_lightning.views.console import silence_noise
from mnist_lightning.views.predictions import PredictionWriter, refuse_bad_place
from mnist_lightning.views.progress import FitProgress

PROGRAM = "python -m mnist_lightning"
TRAINER = {
    "max_epochs": 10,  # the paper's
    "devices": 1,  # `auto` would take all GPUs, whatever the batch size
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the data module deals the images itself, each once
    "enable_model_summary": False,
    "logger": LOGGER,
}


class Parser(LightningArgumentParser):
    """Says what is wrong in one sentence, without the page of options before it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> None:
        raise SettingError(message) from ex


class MNISTCLI(LightningCLI):
    """LightningCLI with the run's folder, the checkpoint's settings and the closing table.

    It reads the command line of the process, as DDP does that starts the other processes with it.

    Raises:
        SettingError: If a setting is wrong; nothing has been written then.
    """

    parser_class = Parser

    def __init__(self) -> None:
        self.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        self.checkpoint: dict[str, Any] | None = None
        self.heartbeat = Heartbeat()
        self.made: list[Path] = []
        patience = 3.0
        try:
            super().__init__(
                MNISTClassifier,
                MNISTDataModule,
                seed_everything_default=0,
                trainer_defaults=TRAINER,
                auto_configure_optimizers=False,
                parser_class=self.parser_class,
                parser_kwargs={"prog": PROGRAM},
            )
            patience = 30.0
        finally:
            self.heartbeat.end_children(patience)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--seed_everything",
            type=int,
            default=self.seed_everything_default,
            help="Seed of the experiment, 0 to 4294967295: initial weights, order of the images, dropout.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                # The newest epoch is kept; checkpoint_file.CheckpointFile points last.ckpt to it,
                "checkpoint.filename": "{epoch:02d}",
                # and one that is there already is replaced by the same epoch's.
                "checkpoint.enable_version_counter": False,
            }
        )
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_argument(
            "--tf32",
            type=bool,
            default=False,
            help="Whether a GPU may round the factors of fp32 products to 10 bits, in matrices and convolutions.",
        )
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.seed")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        commands = LightningCLI.subcommands()
        for command in ("validate", "test"):
            commands[command].add("verbose")  # they print our way
        for settings in commands.values():
            settings.add("weights_only")  # a checkpoint is data, whoever asks for more
        return commands

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        self.argv = sys.argv[1:]
        refuse_bad_configs(self.argv)
        super().parse_arguments(parser, args)
        command = self.config.subcommand
        config = self.config[command]
        if command == "fit" and config.ckpt_path is None and may_have_begun():
            last = self._interrupted(config.clone())
            if last is not None:
                self.argv.append(f"--ckpt_path={last}")
                self.config = parser.parse_args(self.argv)
                config = self.config[command]
        run = run_of_checkpoint(config.ckpt_path) if command == "fit" else None
        if run is not None and config.config is None:
            # A resumed run goes on with its own settings, not with the defaults.
            self.argv.insert(1, f"--config={run / 'config.yaml'}")
            self.config = parser.parse_args(self.argv)
            config = self.config[command]
        if not 0 <= config.seed_everything < 2**32:
            raise SettingError(
                f"seed_everything is {config.seed_everything}: give a number from 0 to 4294967295."
            )
        if config.ckpt_path is not None:
            self.checkpoint = read_checkpoint(config.ckpt_path, resume=command == "fit")
            adopt_settings(self.checkpoint, self._typed(parser), config, resume=command == "fit")
        elif command != "fit":
            raise SettingError(f"{command} needs ckpt_path: name a file such as <run>/checkpoints/last.ckpt.")

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        follow_torchrun(config.trainer)
        trainer = resolve(config.trainer)
        self.setup = setup_name(trainer)
        if config.data.batch_size % trainer.world_size:
            raise SettingError(
                f"data.batch_size {config.data.batch_size} cannot be shared by {trainer.world_size} devices: "
                f"give a multiple of {trainer.world_size}, or another number of trainer.devices."
            )
        refuse_unsupported(config.trainer)
        if config.data.images is not None and self.subcommand != "predict":
            raise SettingError(
                f"data.images is {config.data.images}, but {self.subcommand} reads MNIST: leave it out."
            )
        # PyTorch's own defaults are no for matrices and yes for convolutions.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.tf32
        if self.subcommand == "predict":
            refuse_bad_place(Path(config.predictions.path), config.data.images)
        self._place_run(config)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self._get(self.config_init, "trainer")
        # The Trainer takes one or a list of either.
        callbacks, plugins = (
            list(given) if isinstance(given, list) else [given]
            for given in (config["callbacks"] or [], config["plugins"] or [])
        )
        self.warm_up, self.clock, self.record = WarmUp(), WallClock(), RunRecord(self.setup, self.load)
        self.neighbours, self.parts = Neighbours(), StepParts()
        # The clock starts last and stops first.
        own = [
            StopSignals(),
            self.heartbeat,
            self.warm_up,
            self.neighbours,
            self.clock,
            self.parts,
            self.record,
            Board(self.record, self.clock),
        ]
        has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
        if config["enable_progress_bar"] is not False and not has_bar:
            own.append(FitProgress())
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(CheckpointFile())
        if SLURMEnvironment.detect():
            # Slurm requeues by itself; Lightning's way leaves a file that later runs in the folder would load.
            plugins.append(SLURMEnvironment(auto_requeue=False))
        return super().instantiate_trainer(callbacks=[*callbacks, *own], plugins=plugins, **kwargs)

    def before_fit(self) -> None:
        # All of it before the Trainer starts processes and makes a folder, so that nothing is left behind.
        if self.checkpoint is not None:
            refuse_other_network(self.checkpoint, self.model)
            refuse_other_setup(self.checkpoint, self.setup, str(self.trainer.precision))
        if self.trainer.local_rank == 0:
            self.datamodule.prepare_data()
            if self.checkpoint is not None:
                refuse_other_data(self.checkpoint, self.datamodule)
            # A rerun must see what this run sees, not what `auto` finds on another day.
            self.saved.data.source = self.datamodule.found
        if self.run is not None and self.trainer.is_global_zero:
            hold(self.run)  # a study must not take it for one that nobody runs
        if self.run is None and self.trainer.is_global_zero:
            try:
                self.made = reserve_run_folder(self.trainer)
            except FileExistsError as error:
                raise SettingError(
                    f"trainer.logger names {error.filename}, which is there already: leave out its version."
                ) from error
            if self.made and job_name() is not None:
                (self.made[0] / JOB).write_text(job_name())

    def before_validate(self) -> None:
        refuse_other_network(self.checkpoint, self.model)
        if self.trainer.local_rank == 0:
            self.datamodule.prepare_data()
            if trained_on(self.checkpoint) not in (None, self.datamodule.found):
                self.trainer.loggers = []  # the run's curves are of other images

    before_test = before_predict = before_validate

    def fit(self, **options: Any) -> None:
        try:
            self.trainer.fit(**options, weights_only=True)
        except (SettingError, Stopped, OSError) as error:
            advice = self._keep_what_was_trained()
            if isinstance(error, Stopped):
                error.advice = advice
                raise
            what = (
                error
                if isinstance(error, SettingError)
                else f"{os.fsdecode(error.filename or 'the run')}: {error.strerror}."
            )
            raise SettingError(f"{what} {advice}".strip()) from error
        except Exception:
            self._keep_what_was_trained()
            raise

    def _keep_what_was_trained(self) -> str:
        """Removes a run that has no checkpoint, which would only be in the way; else says how to go on from it."""
        if not self.trainer.is_global_zero:
            return ""
        run = self.made[0] if self.made else self.run
        if run is not None and (run / "checkpoints" / LAST).exists():
            # Lightning's CSVLogger cannot go on with its file; TensorBoard's can beside it.
            csv = any(isinstance(logger, CSVLogger) for logger in self.trainer.loggers)
            other = " --trainer.logger=TensorBoardLogger" if csv else ""
            return (
                f"Go on with {PROGRAM} fit --ckpt_path {shlex.quote(str(run / 'checkpoints' / LAST))}{other}"
            )
        if self.made:
            drop_run_folder(self.made)
        return "No epoch was finished, and nothing is kept." if self.clock.begin is not None else ""

    def after_fit(self) -> None:
        if not self.trainer.is_global_zero or self.trainer.fast_dev_run:
            return
        run = run_folder(self.trainer)
        # One that is there still is that of a finished run, which was resumed and had nothing left to do.
        summary = read_summary(run) if run is not None else None
        if summary is None:
            summary = self.record.summary(
                self.clock, self.warm_up.seconds, self.neighbours.cores, self.parts.medians()
            )
            if run is not None:
                write_summary(run, summary)
        print(closing_table(summary, run), flush=True)

    def after_predict(self) -> None:
        if not self.trainer.is_global_zero:
            return
        predictions, own = self._get(self.config_init, "predictions"), self.datamodule.own
        for name, reason in (own.skipped if own else {}).items():
            print(f"skipped      {name}: {reason}", file=sys.stderr)
        print(f"predictions  {predictions.path}")
        if own:
            print(f"sheet        {predictions.sheet}", flush=True)

    def validate(self, **options: Any) -> None:
        self._evaluate(self.trainer.validate, options)

    def test(self, **options: Any) -> None:
        self._evaluate(self.trainer.test, options)

    def predict(self, **options: Any) -> None:
        self.trainer.predict(**options, weights_only=True)

    def _evaluate(self, evaluate: Callable[..., list], options: dict[str, Any]) -> None:
        (metrics,) = evaluate(**options, verbose=False, weights_only=True)
        if self.trainer.is_global_zero:
            data, trained = self.datamodule, trained_on(self.checkpoint)
            note = (
                ""
                if trained in (None, data.found)
                else f", but the checkpoint was trained on {trained}: not logged"
            )
            print(f"{'data':<14}{data.found}, {len(data.test_digits)} images{note}")
            for name, value in metrics.items():
                if name != "step":
                    print(f"{name:<14}{value:.5f}", flush=True)

    def _typed(self, parser: LightningArgumentParser) -> Namespace:
        """The settings given on the command line or in a file, without the defaults."""
        command, *rest = self.argv
        # The links from the seed need one; what the user gives comes later and wins.
        seed = self.checkpoint["hyper_parameters"]["seed"]
        return parser.parse_args([command, f"--seed_everything={seed}", *rest], defaults=False)[command]

    @staticmethod
    def _interrupted(config: Namespace) -> Path | None:
        """The checkpoint that the job of this process left when it was interrupted."""
        logger = config.trainer.logger
        if not isinstance(logger, Namespace) or "save_dir" not in logger.init_args:
            return None
        follow_torchrun(config.trainer)
        name = run_name(setup_name(resolve(config.trainer)), config.data.batch_size, config.seed_everything)
        return interrupted_checkpoint(
            Path(logger.init_args.save_dir) / (logger.init_args.get("name") or name), job_name()
        )

    def _place_run(self, config: Namespace) -> None:
        """Chooses the run's folder: a new version, or that of the checkpoint that the command goes on from."""
        run = self.run = run_of_checkpoint(config.ckpt_path)
        # What is saved makes a new run, wherever this one lies and whatever it resumed.
        self.saved = config.clone()
        self.saved.ckpt_path = None
        self.save_config_callback = lambda parser, _: SaveConfigCallback(
            parser, self.saved, overwrite=run is not None
        )
        if self.subcommand == "predict" or (self.subcommand != "fit" and run is None):
            config.trainer.logger = False
        if self.subcommand != "fit" or config.trainer.logger is False:
            self.save_config_callback = None
        name = run_name(self.setup, config.data.batch_size, config.seed_everything)
        # TensorBoard then drops what a killed run wrote after its checkpoint.
        purge_step = self.checkpoint["epoch"] + 2 if self.checkpoint and self.subcommand == "fit" else None
        place_loggers(config.trainer, run, name, purge_step)


def main() -> int:
    """Runs a command of the Trainer; a bad setting ends in one sentence on standard error and exit code 2.

    Raises:
        Stopped: If the user or a scheduler has stopped it.
    """
    silence_noise()
    try:
        MNISTCLI()
    except (SettingError, MisconfigurationException) as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
