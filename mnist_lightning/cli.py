"""The command line of the Trainer: one config becomes a model, its data and a Trainer."""

import shlex
import sys
from functools import partial, partialmethod
from typing import Any, cast

import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from mnist_lightning import experiment
from mnist_lightning.data import MNISTDataModule
from mnist_lightning.durability.heartbeat import limit_start
from mnist_lightning.durability.signals import stopped_in_order
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.parsing.command_line import blamed_on, parse
from mnist_lightning.parsing.config_file import flat
from mnist_lightning.runs import resuming
from mnist_lightning.runs.checkpoints import read_checkpoint
from mnist_lightning.runs.loggers import TENSORBOARD, place_loggers
from mnist_lightning.runs.program import PROGRAM
from mnist_lightning.runs.settings import add_arguments, explain_checkpoint, seed, settle
from mnist_lightning.views.console import silence_noise
from mnist_lightning.views.evaluation import evaluates_a_part, evaluation_table


class MNISTCLI(LightningCLI):
    """`fit`, `validate`, `test` and `predict` of a model and a data module.

    It reads the command line of the process, since DDP starts the other processes with it.

    Raises:
        SettingError: If a setting is wrong; nothing has been written then.
    """

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        help = "Seed of the experiment, 0 to 4294967295: initial weights, order of the images, dropout."
        parser.add_argument("--seed_everything", type=seed, default=0, help=help)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_arguments(parser, self._model_class.__name__)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        # The commands print in their own way, and a checkpoint is always data, never code.
        ours = {"verbose", "weights_only"}
        return {command: skipped | ours for command, skipped in LightningCLI.subcommands().items()}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        own = explain_checkpoint(self._parser(sys.argv[1]))
        read = partial(parse, parser, settings=own)
        self.config = read(resuming.effective_arguments(sys.argv[1:], read))
        fits, config = self.config.subcommand == "fit", self.config[self.config.subcommand]
        self.checkpoint = config.ckpt_path and read_checkpoint(config.ckpt_path, resume=fits)
        if self.checkpoint:
            given = flat(yaml.safe_load(own.dump(config, skip_link_targets=False, skip_none=False)))
            resuming.refuse_contradictions(self.checkpoint, given, resume=fits)

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        self.setup_name = settle(config, str(self.subcommand))
        # PyTorch's own defaults are False for matrices and True for convolutions.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.tf32
        # The saved config makes a new run: it names no checkpoint and no version.
        self.saved = config.clone()
        self.saved.ckpt_path = None
        place_loggers(config, str(self.subcommand), self.setup_name, self.checkpoint)
        self.save_config_callback = None
        if self.subcommand == "fit" and config.trainer.logger is not False:
            # RunFolder makes sure that no run writes over another one.
            save = partial(SaveConfigCallback, config=self.saved, overwrite=True)
            self.save_config_callback = cast(Any, lambda parser, _: save(parser))

    def instantiate_classes(self) -> None:
        with blamed_on(self.saved, self._parser(self.subcommand), "model", "data", "trainer"):
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        parts, config = self.config_init[self.subcommand].step_parts, self.config_init[self.subcommand].trainer
        bar = config.enable_progress_bar is not False
        kwargs["callbacks"] = experiment.with_callbacks(config.callbacks, config.logger or [], bar, parts)
        kwargs["plugins"] = experiment.with_plugins(config.plugins)
        if self.subcommand == "fit":
            kwargs["logger"] = False  # RunFolder gives the Trainer its loggers once the run has its folder
        with blamed_on(self.saved, self._parser(self.subcommand), "trainer", "checkpoint"):
            return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        # These checks come before the Trainer starts processes and makes a folder, so that nothing is left behind.
        if self.checkpoint:
            precision = str(self.trainer.precision)
            resuming.refuse_other_run(self.checkpoint, self.model, self.setup_name, precision)
        if self.trainer.local_rank == 0:
            self.datamodule.prepare_data()
            if self.checkpoint:
                resuming.refuse_other_data(self.checkpoint, self.datamodule)
            # A rerun must see what this run sees, not what `auto` finds on another day.
            self.saved.data.source = self.datamodule.found

    def fit(self, ckpt_path: str | None, **options: Any) -> None:
        self.trainer.ckpt_path = ckpt_path  # so that callbacks know it in their `setup`
        limit_start(self.trainer)
        with stopped_in_order(self.trainer.world_size):
            self.trainer.fit(**options, weights_only=True)

    def before_validate(self) -> None:
        resuming.refuse_other_network(self.checkpoint, self.model)
        if self.trainer.local_rank == 0:
            self.datamodule.prepare_data()
            trained = resuming.trained_on(self.checkpoint, self.datamodule)
            if trained not in (None, self.datamodule.found) or evaluates_a_part(self.trainer, str(self.subcommand)):
                self.trainer.loggers = []  # the curves of the run are those of other images
        limit_start(self.trainer)

    before_test = before_predict = before_validate

    def predict(self, **options: Any) -> None:
        self.trainer.predict(**options, weights_only=True)

    def evaluate(self, method: str, **options: Any) -> None:
        (metrics,) = getattr(self.trainer, method)(**options, verbose=False, weights_only=True)
        if self.trainer.is_global_zero:
            trained = resuming.trained_on(self.checkpoint, self.datamodule)
            print(evaluation_table(metrics, self.datamodule, trained, self.trainer, method), flush=True)

    validate = partialmethod(evaluate, "validate")
    test = partialmethod(evaluate, "test")


def main(about: str = "", model: type = MNISTClassifier, data: type = MNISTDataModule, kind: type = MNISTCLI) -> int:
    """Runs a command of the Trainer. Returns 0.

    Args:
        about: What the command does, for its help.
        model: The class that the settings under `model` make; it takes a `seed`.
        data: The class that the settings under `data` make; it takes a `seed` and a `batch_size`.
        kind: What reads the command line and runs it.
    """
    silence_noise()
    parsers = {"prog": shlex.join(PROGRAM), "exit_on_error": False, "allow_abbrev": False}
    kind(
        model,
        data,
        trainer_defaults={**experiment.TRAINER, "logger": TENSORBOARD},
        auto_configure_optimizers=False,
        parser_kwargs={**parsers, sys.argv[1]: {"description": f"{about[:1].upper()}{about[1:]}."}},
    )
    return 0
