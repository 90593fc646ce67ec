"""The command line: one config becomes a model, its data and a Trainer."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from mnist_lightning.callbacks import PredictionWriter, WallClock
from mnist_lightning.data import MNISTDataModule
from mnist_lightning.errors import SettingError
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.progress import FitProgress
from mnist_lightning.quiet import silence_noise
from mnist_lightning.resume import adopt_settings, read_checkpoint, refuse_other_network, refuse_other_setup
from mnist_lightning.run import (
    RunRecord,
    closing_table,
    refuse_unwritable,
    run_folder,
    run_name,
    run_of_checkpoint,
    write_summary,
)
from mnist_lightning.setups import resolve, setup_name

PROGRAM = "python -m mnist_lightning"
TRAINER = {
    "max_epochs": 10,  # the paper's
    "devices": 1,  # `auto` would take all GPUs, whatever the batch size
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the data module deals the images itself, each once
    "enable_model_summary": False,
    "logger": {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        # The name is filled in from what runs; see MNISTCLI.before_instantiate_classes.
        "init_args": {"save_dir": "logs", "name": None, "default_hp_metric": False},
    },
}
LIGHTNINGS_NAME = "lightning_logs"  # what Lightning's loggers are called unless told otherwise


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

    def __init__(self) -> None:
        self.load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        self.checkpoint: dict[str, Any] | None = None
        super().__init__(
            MNISTClassifier,
            MNISTDataModule,
            seed_everything_default=0,
            trainer_defaults=TRAINER,
            auto_configure_optimizers=False,
            parser_class=Parser,
            parser_kwargs={"prog": PROGRAM},
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--seed_everything",
            type=int,
            default=self.seed_everything_default,
            help="Seed of the experiment, 0 to 4294967295: initial weights, order of the images, dropout.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        # The newest epoch is kept; last.ckpt is a link to it, so that it is never half-written.
        parser.set_defaults({"checkpoint.save_last": "link", "checkpoint.filename": "{epoch:02d}"})
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.seed")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        commands = LightningCLI.subcommands()
        for command in ("validate", "test"):
            commands[command].add("verbose")  # they print our way
        return commands

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        command = self.config.subcommand
        config = self.config[command]
        if not 0 <= config.seed_everything < 2**32:
            raise SettingError(
                f"seed_everything is {config.seed_everything}: give a number from 0 to 4294967295."
            )
        if config.ckpt_path is not None:
            self.checkpoint = read_checkpoint(config.ckpt_path)
            adopt_settings(self.checkpoint, self._typed(parser), config, resume=command == "fit")
        elif command != "fit":
            raise SettingError(f"{command} needs ckpt_path: name a file such as <run>/checkpoints/last.ckpt.")

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        trainer = resolve(config.trainer)
        self.setup = setup_name(trainer)
        if config.data.batch_size % trainer.world_size:
            raise SettingError(
                f"data.batch_size {config.data.batch_size} cannot be shared by {trainer.world_size} devices: "
                f"give a multiple of {trainer.world_size}, or another number of trainer.devices."
            )
        if config.trainer.overfit_batches:
            raise SettingError(
                "trainer.overfit_batches would replace our sampler: use trainer.limit_train_batches."
            )
        if config.trainer.fast_dev_run:
            config.checkpoint.save_last = False  # it saves nothing that a link could point to
        if self.subcommand == "predict":
            refuse_unwritable(Path(config.predictions.path).parent, "predictions.path")
        self._place_run(config, str(trainer.precision))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self._get(self.config_init, "trainer")
        callbacks = config["callbacks"] or []
        self.clock, self.record = WallClock(), RunRecord(self.setup, self.load)
        own = [self.clock, self.record]
        has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
        if config["enable_progress_bar"] is not False and not has_bar:
            own.append(FitProgress())
        return super().instantiate_trainer(callbacks=[*callbacks, *own], **kwargs)

    def before_fit(self) -> None:
        if self.checkpoint is not None:
            refuse_other_network(self.checkpoint, self.model)
        # Before the Trainer starts processes and makes a folder, so that bad data leave nothing behind.
        if self.trainer.local_rank == 0:
            self.datamodule.prepare_data()

    before_validate = before_test = before_predict = before_fit

    def fit(self, **options: Any) -> None:
        try:
            self.trainer.fit(**options)
        except SettingError:
            # Found out only with all processes together, when the folder was made already.
            run = run_folder(self.trainer)
            if run is not None and self.checkpoint is None and self.trainer.is_global_zero:
                shutil.rmtree(run, ignore_errors=True)
            raise

    def after_fit(self) -> None:
        if not self.trainer.is_global_zero or self.trainer.fast_dev_run:
            return
        summary = self.record.summary(self.clock)
        run = run_folder(self.trainer)
        if run is not None:
            write_summary(run, summary)
        print(closing_table(summary, run), flush=True)

    def after_predict(self) -> None:
        if self.trainer.is_global_zero:
            print(f"predictions  {self.config.predict.predictions.path}", flush=True)

    def validate(self, **options: Any) -> None:
        self._evaluate(self.trainer.validate, options)

    def test(self, **options: Any) -> None:
        self._evaluate(self.trainer.test, options)

    def _evaluate(self, evaluate: Callable[..., list], options: dict[str, Any]) -> None:
        (metrics,) = evaluate(**options, verbose=False)
        if self.trainer.is_global_zero:
            for name, value in metrics.items():
                if name != "step":
                    print(f"{name:<14}{value:.5f}", flush=True)

    def _typed(self, parser: LightningArgumentParser) -> Namespace:
        """The settings given on the command line or in a file, without the defaults."""
        command, *rest = sys.argv[1:]
        # The links from the seed need one; what the user gives comes later and wins.
        seed = self.checkpoint["hyper_parameters"]["seed"]
        return parser.parse_args([command, f"--seed_everything={seed}", *rest], defaults=False)[command]

    def _place_run(self, config: Namespace, precision: str) -> None:
        """Chooses the run's folder: a new version, or that of the checkpoint that the command goes on from."""
        run = run_of_checkpoint(config.ckpt_path) if config.ckpt_path else None
        if self.subcommand == "fit":
            if run is not None:
                refuse_other_setup(self.checkpoint, self.setup, precision)
            # What is saved makes a new run, wherever this one lies and whatever it resumed.
            saved = config.clone()
            saved.ckpt_path = None
            self.save_config_callback = lambda parser, _, **options: SaveConfigCallback(
                parser, saved, **options
            )
            self.save_config_kwargs = {"overwrite": run is not None}
        else:
            self.save_config_callback = None
            if run is None or self.subcommand == "predict":
                config.trainer.logger = False
        loggers = config.trainer.logger
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            if not isinstance(logger, Namespace) or "save_dir" not in logger.init_args:
                continue
            place = logger.init_args
            if run is not None:
                place.save_dir, place.name, place.version = str(run.parent), "", run.name
                if self.subcommand == "fit" and logger.class_path.endswith("TensorBoardLogger"):
                    # TensorBoard then drops what a killed run wrote after its checkpoint.
                    place.purge_step = self.checkpoint["epoch"] + 2
            elif place.name in (None, LIGHTNINGS_NAME):
                place.name = run_name(self.setup, config.data.batch_size, config.seed_everything)
            refuse_unwritable(Path(place.save_dir) / place.name, "trainer.logger.init_args.save_dir")


def main() -> int:
    """Runs a command of the Trainer; a bad setting ends in one sentence on standard error and exit code 2."""
    silence_noise()
    try:
        MNISTCLI()
    except (SettingError, MisconfigurationException) as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
