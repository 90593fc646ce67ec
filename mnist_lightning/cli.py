"""The command line of the Trainer: one config becomes a model, its data and a Trainer."""

import shlex
import sys
from argparse import SUPPRESS
from functools import partial, partialmethod
from typing import Any

import torch
import yaml
from jsonargparse.typing import restricted_number_type
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from mnist_lightning import experiment
from mnist_lightning.data import MNISTDataModule
from mnist_lightning.durability.signals import stopped_in_order
from mnist_lightning.errors import blaming
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.run_files import PROGRAM, command
from mnist_lightning.runs.checks import settle_processes
from mnist_lightning.runs.loggers import TENSORBOARD, make_loggers
from mnist_lightning.runs.resuming import follow_torchrun, with_settings_of_checkpoint
from mnist_lightning.views.console import evaluation_table, silence_noise
from mnist_lightning.views.predictions import PredictionWriter

Seed: Any = restricted_number_type("Seed", int, [(">=", 0), ("<", 2**32)])


class MNISTCLI(LightningCLI):
    """`fit`, `validate`, `test` and `predict`. The command line is that of the process: DDP starts the others with it."""

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--seed_everything", type=Seed, default=0, help="Seed of weights, order and dropout.")

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # As Lightning does, in the order of a reader of --help.
        parser.add_lightning_class_args(self._model_class, "model")
        parser.add_lightning_class_args(self._datamodule_class, "data")
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({f"checkpoint.{name}": value for name, value in experiment.CHECKPOINT.items()})
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        for name, of in (("network", "network"), ("data_module", "images")):
            parser.add_argument(
                f"--{name}", type=str | None, help=f"Class of the {of}, which another program may give."
            )
        parser.add_argument("--tf32", type=bool, default=False, help="Whether fp32 products on a GPU may be in TF32.")
        parser.add_argument("--step_parts", type=bool, default=False, help=SUPPRESS)  # of earlier versions
        for action in parser._actions:
            if action.dest.startswith("trainer.limit_"):
                vars(action)["_typehint"] = int | float | None  # Python may turn it, and 1.0 is all batches
        for part in ("model", "data"):
            parser.link_arguments("seed_everything", f"{part}.seed", compute_fn=int)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        # The one that is run: each takes time to describe. They print in their own way, and a checkpoint is always data.
        return {sys.argv[1]: LightningCLI.subcommands()[sys.argv[1]] | {"verbose", "weights_only"}}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        with blaming():
            self.config = parser.parse_args(sys.argv[1:])
            words = with_settings_of_checkpoint(sys.argv[1:], self.config[self.config.subcommand])
            if words != sys.argv[1:]:
                self.config = parser.parse_args(words)

    def _parse_ckpt_path(self) -> None:
        """Lightning would let a checkpoint's hyperparameters win over the user's without a word."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        follow_torchrun(config.trainer)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(config.tf32)
        # RunFolder saves the config, which makes a new run and so names no checkpoint, and makes the loggers.
        given = yaml.safe_load(self.parser.dump(self.config, skip_unset=False))[self.subcommand]
        self.given = {**given, "ckpt_path": None}
        config.trainer.logger, self.save_config_callback = False, None

    def instantiate_classes(self) -> None:
        options = [word.partition("=")[0].lstrip("-") for word in sys.argv[2:] if word.startswith("-")]
        with blaming(", ".join(options)):
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.subcommand].trainer
        from mnist_lightning.views.progress import Bar  # late, so that --help does not offer it

        users = config.callbacks if isinstance(config.callbacks, list) else [config.callbacks] * bool(config.callbacks)
        shows = config.enable_progress_bar is not False and not any(isinstance(each, ProgressBar) for each in users)
        loggers = partial(make_loggers, given=self.given["trainer"]["logger"])
        own = experiment.callbacks(loggers, checkpoint=False, given=self.given)
        plugins = experiment.with_plugins(config.plugins)
        trainer = super().instantiate_trainer(callbacks=[*users, *[Bar()] * shows, *own], plugins=plugins)
        settle_processes(trainer)
        return trainer

    def run(self, name: str, ckpt_path: str | None, **options: Any) -> None:
        self.trainer.ckpt_path = ckpt_path  # so that callbacks know it in their `setup`
        if self.trainer.local_rank == 0:
            self.datamodule.prepare_data()  # which may fail, before the Trainer starts processes that wait for it
        quiet = {"verbose": False} if name in ("validate", "test") else {}
        with stopped_in_order(self.trainer.world_size):
            found = getattr(self.trainer, name)(**options, **quiet, weights_only=True)
        if quiet and self.trainer.is_global_zero:
            print(evaluation_table(found[0], self.trainer, name), flush=True)

    fit, validate = partialmethod(run, "fit"), partialmethod(run, "validate")
    test, predict = partialmethod(run, "test"), partialmethod(run, "predict")


def main(about: str, model: type = MNISTClassifier, data: type = MNISTDataModule) -> int:
    """Runs a command of the Trainer with the classes of a model and of data. Returns 0."""
    silence_noise()
    yaml.SafeDumper.add_multi_representer(str, yaml.SafeDumper.represent_str)  # of enumerations in callbacks' settings
    described: dict[str, Any] = {"prog": shlex.join(PROGRAM), "exit_on_error": False, "allow_abbrev": False}
    usage = f"{command(sys.argv[1])} [--config FILE] [--GROUP.SETTING VALUE ...]"
    described[sys.argv[1]] = {"description": f"{about[:1].upper()}{about[1:]}.", "usage": usage}
    defaults = {**experiment.TRAINER, "logger": TENSORBOARD}
    MNISTCLI(model, data, trainer_defaults=defaults, auto_configure_optimizers=False, parser_kwargs=described)
    return 0
