"""The setup that a command trains on, and settings that no setup supports."""

from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from mnist_lightning.errors import SettingError
from mnist_lightning.parsing.words import of_a_library


def setup_name(trainer: Trainer) -> str:
    """What runs, as devices x accelerator: `1xcpu`, `1xgpu`, `2xgpu`, `2xcpu`."""
    kind = trainer.strategy.root_device.type
    return f"{trainer.world_size}x{'gpu' if kind == 'cuda' else kind}"


def resolve(settings: Namespace) -> Trainer:
    """A Trainer that is only asked what would run where, since only Lightning knows what `auto` means.

    Raises:
        SettingError: If the machine does not have what the settings ask for.
    """
    strategy = settings.strategy if isinstance(settings.strategy, str) else "auto"
    try:
        return Trainer(
            accelerator=settings.accelerator,
            devices=settings.devices,
            num_nodes=settings.num_nodes,
            strategy=strategy,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ImportError, RuntimeError, ValueError, TypeError) as error:
        asked = {f"trainer.{name}": settings[name] for name in ("accelerator", "devices", "num_nodes")}
        asked |= {"trainer.strategy": strategy}
        given = {name: value for name, value in asked.items() if value not in ("auto", 1)}
        raise SettingError(of_a_library(error, given)) from error


COPIED = ("ddp_spawn", "ddp_fork", "ddp_notebook")  # strategies that copy the Trainer, with its locks and threads


def refuse_copies(strategy: Any) -> None:
    """Refuses a strategy whose processes begin as copies of the one that starts them.

    Raises:
        SettingError: If it is one.
    """
    if strategy in COPIED:
        raise SettingError(
            f"trainer.strategy is {strategy}, whose processes would be copies of this one: use ddp, on the command line or "
            "in a script."
        )


def refuse_unsupported(settings: Namespace) -> None:
    """Refuses settings of the Trainer that would break what this project promises.

    Raises:
        SettingError: If one is given.
    """
    refuse_copies(settings.strategy)
    for name, refused, why in (
        *(
            (name, settings[name] == 0, "which trains nothing: give a positive number")
            for name in ("max_epochs", "max_steps", "limit_train_batches")
        ),
        ("overfit_batches", settings.overfit_batches, "which would deal other images: leave it out"),
        (
            "val_check_interval",
            settings.val_check_interval not in (None, 1.0),
            "but an epoch's time ends with its validation: use trainer.check_val_every_n_epoch",
        ),
        ("use_distributed_sampler", settings.use_distributed_sampler, "which would deal the images anew: leave it out"),
        ("barebones", settings.barebones, "which leaves out the checkpoints and the times: leave it out"),
        (
            "benchmark",
            settings.benchmark and settings.deterministic,
            "which undoes trainer.deterministic: leave one out",
        ),
        ("max_time", not _is_duration(settings.max_time), "which is no time: write it as DD:HH:MM:SS"),
        ("check_val_every_n_epoch", settings.check_val_every_n_epoch == 0, "but it must be 1 or more"),
        ("accumulate_grad_batches", settings.accumulate_grad_batches < 1, "but it must be 1 or more"),
    ):
        if refused:
            raise SettingError(f"trainer.{name} is {settings[name]}, {why}.")


def refuse_unsupported_trainer(trainer: Trainer) -> None:
    """Refuses from Python what `refuse_unsupported` refuses on the command line."""
    names = ["max_epochs", "max_steps", "limit_train_batches", "overfit_batches", "val_check_interval", "barebones"]
    names += ["accumulate_grad_batches", "check_val_every_n_epoch"]
    settings = {name: getattr(trainer, name) for name in names}
    # In a notebook Lightning chooses such a strategy by itself.
    strategy = f"ddp_{getattr(trainer.strategy, '_start_method', 'popen')}"
    settings |= {"max_time": None, "use_distributed_sampler": False, "benchmark": None, "strategy": strategy}
    refuse_unsupported(Namespace(**settings))


def refuse_second_deal(trainer: Trainer) -> None:
    """Makes sure that Lightning does not share out among the devices what each of them has got as its own share.

    Raises:
        SettingError: If it would; each device would train on a part of its part.
    """
    if trainer.world_size > 1 and trainer._accelerator_connector.use_distributed_sampler:
        raise SettingError(
            "trainer.use_distributed_sampler is True, which would train on a part of the images alone: make the Trainer with "
            "use_distributed_sampler=False, as experiment.trainer_settings does."
        )


def _is_duration(value: Any) -> bool:
    try:
        Timer(duration=value)
    except (MisconfigurationException, TypeError):
        return False
    return True


def refuse_other_setup(begun: Mapping[str, Any], setup: str, precision: str) -> None:
    """Makes sure that a run goes on with the setup and precision that it began with.

    Raises:
        SettingError: If one of the two differs.
    """
    for names, now, then in (
        ("trainer.accelerator and trainer.devices give", setup, begun["setup"]),
        ("trainer.precision gives", precision, begun["precision"]),
    ):
        if now != then:
            raise SettingError(
                f"{names} {now}, but the checkpoint's run began as {then}: ask for {then}, "
                "or train anew without ckpt_path."
            )


def refuse_unequal_shares(batch_size: int, world_size: int) -> None:
    """Makes sure that all devices get the same number of images of a global batch.

    Raises:
        SettingError: If they do not.
    """
    if batch_size % world_size:
        raise SettingError(
            f"data.batch_size {batch_size} cannot be shared by {world_size} devices: "
            f"give a multiple of {world_size}, or another number of trainer.devices."
        )
