"""Checks the settings of a command before anything is made."""

from argparse import ArgumentTypeError
from pathlib import Path

from jsonargparse import Namespace

from mnist_lightning.errors import SettingError
from mnist_lightning.runs.jobs import follow_torchrun
from mnist_lightning.runs.setups import refuse_unequal_shares, refuse_unsupported, resolve, setup_name
from mnist_lightning.views.predictions import refuse_bad_place


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
    trainer = resolve(config.trainer)
    refuse_unequal_shares(config.data.batch_size, trainer.world_size)
    refuse_unsupported(config.trainer)
    images = config.data.get("images")
    if command == "predict":
        refuse_bad_place(Path(config.predictions.path), images)
    elif images is not None:
        raise SettingError(f"data.images is {images}, but {command} reads MNIST: leave it out.")
    return setup_name(trainer)


def seed(value: object) -> int:
    """A seed from the command line or from YAML: a whole number that NumPy takes.

    Raises:
        ArgumentTypeError: If it is none.
    """
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if not 0 <= number < 2**32:
        raise ArgumentTypeError(f"seed_everything is {value}: give a number from 0 to 4294967295.")
    return number
