"""Checks the settings of a command before anything is made."""

import inspect
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser

from mnist_lightning.errors import SettingError
from mnist_lightning.experiment import CHECKPOINT
from mnist_lightning.runs.jobs import follow_torchrun, refuse_lonely_node
from mnist_lightning.runs.setups import refuse_unequal_shares, refuse_unsupported, resolve, setup_name
from mnist_lightning.views.predictions import PredictionWriter, refuse_bad_place


def settle(config: Namespace, command: str) -> str:
    """Takes over what a launcher says, and makes sure that a command's settings can be used together.

    Args:
        config: The settings; those of the devices are changed in place.
        command: `fit`, `validate`, `test` or `predict`.

    Returns:
        The setup that the settings ask for, such as `1xcpu`.

    Raises:
        SettingError: If a setting cannot be used.
    """
    follow_torchrun(config.trainer)
    refuse_lonely_node(config.trainer.num_nodes)
    trainer = resolve(config.trainer)
    refuse_unequal_shares(config.data.batch_size, trainer.world_size)
    refuse_unsupported(config.trainer)
    images = config.data.get("images")
    _keep_every_epoch(config.checkpoint)
    _name_choices(config.trainer)
    if command == "predict":
        refuse_bad_place(Path(config.predictions.path), images)
    elif images is not None:
        raise SettingError(f"data.images is {images}, but {command} reads MNIST: leave it out.")
    return setup_name(trainer)


def _keep_every_epoch(settings: Namespace) -> None:
    """Sees to it that each epoch's end is saved and that `last.ckpt` is the newest, whatever is kept beside it."""
    for name, parameter in inspect.signature(ModelCheckpoint).parameters.items():
        ours = CHECKPOINT.get(name, parameter.default)
        free = {"save_top_k": (1, -1), "verbose": (True, False)}.get(name, (ours, parameter.default))
        if settings[name] not in free:
            raise SettingError(
                f"checkpoint.{name} is {settings[name]}, but a run keeps the end of its newest epoch (with save_top_k -1, "
                "of all epochs): leave it out, or add a ModelCheckpoint of your own to trainer.callbacks."
            )
        settings[name] = settings[name] if name in ("save_top_k", "verbose") else ours


def _name_choices(settings: Namespace) -> None:
    """Writes choices of callbacks as texts, since YAML knows no enumerations: Lightning's Timer has one by default."""
    given = settings.callbacks if isinstance(settings.callbacks, list) else [settings.callbacks]
    for arguments in (each.get("init_args") for each in given if isinstance(each, Namespace)):
        for name, value in vars(arguments or Namespace()).items():
            if isinstance(value, Enum):
                arguments[name] = value.value


def add_arguments(parser: LightningArgumentParser, network: str) -> None:
    """Adds to a command of the Trainer what is ours.

    Args:
        parser: Of the command, with the settings of the Trainer, the model and the data.
        network: Class of the model.
    """
    parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
    parser.set_defaults({f"checkpoint.{name}": value for name, value in CHECKPOINT.items()})
    parser.add_lightning_class_args(PredictionWriter, "predictions")
    help = "Class of the network, which a run's config names; the program that trains another refuses it."
    parser.add_argument("--network", type=_only(network), default=network, help=help)
    parser.add_argument("--tf32", type=bool, default=False, help="Whether fp32 products on a GPU may be in TF32.")
    parser.add_argument("--step_parts", type=bool, default=False, help="Whether to record the parts of a step.")
    for action in parser._actions:
        if action.dest.startswith("trainer.limit_"):
            # Python's cache of types may turn the order, and 1 would be 1.0: all batches, and not one.
            vars(action)["_typehint"] = int | float | None
    parser.link_arguments("seed_everything", "model.seed")
    parser.link_arguments("seed_everything", "data.seed")


def explain_checkpoint(parser: LightningArgumentParser) -> LightningArgumentParser:
    """Says in a command's help what `ckpt_path` is here. Lightning's own words offer names, such as `last`, as well."""
    (action,) = (action for action in parser._actions if action.dest == "ckpt_path")
    action.help = "Of a run, such as RUN/checkpoints/last.ckpt; `fit` goes on from it in the run's folder."
    (group,) = (group for group in parser._action_groups[2:] if action in group._group_actions)
    group.title = "Checkpoint"
    return parser


def _only(network: str) -> Callable[[str], str]:
    """The type of a setting that has one value, the network that this program trains."""

    def check(value: str) -> str:
        if value != network:
            raise ArgumentTypeError(
                f"network is {value}, but this program trains {network}: use the one that trains {value}."
            )
        return value

    return check


def seed(value: object) -> int:
    """A seed from the command line or from YAML: a whole number that NumPy takes.

    Raises:
        ArgumentTypeError: If it is none.
    """
    # Neither 08 nor 1:30, which Python and YAML read in ways of their own.
    number = int(str(value)) if re.fullmatch("0|[1-9][0-9]{0,9}", str(value)) else -1
    if not 0 <= number < 2**32:
        raise ArgumentTypeError(f"seed_everything is {value}: give a number from 0 to 4294967295.")
    return number
