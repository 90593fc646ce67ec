"""Which settings a checkpoint fixes for a command that uses it."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningModule

from mnist_lightning.errors import SettingError
from mnist_lightning.parsing.config_file import flat, read_settings
from mnist_lightning.runs.checkpoints import read_checkpoint, record_in
from mnist_lightning.runs.identity import UNSET, code_in, kept_by_a_resumed_run, same_value
from mnist_lightning.runs.jobs import follow_torchrun, interrupted_checkpoint, job_name, may_have_begun
from mnist_lightning.runs.layout import CONFIG, run_name, run_of_checkpoint
from mnist_lightning.runs.setups import refuse_other_setup, resolve, setup_name


def effective_arguments(
    argv: Sequence[str], parse: Callable[[list[str]], Namespace], environment: Mapping[str, str] = os.environ
) -> list[str]:
    """The command line with all settings that a checkpoint fixes.

    A job that a launcher has restarted goes on from the checkpoint that it left. A resumed run takes the settings of its own
    config, as data, if the user names none. The settings of the checkpoint come first. If the user gives another value, it
    therefore wins, and `refuse_contradictions` reports it.

    Args:
        argv: The command line, without the program's name; not changed.
        parse: Parses a command line; the settings of a command are under its name.
        environment: Of this process.

    Raises:
        SettingError: If the command needs a checkpoint and has none, the checkpoint would not serve, or its run's config
            names classes.
    """
    command, *rest = argv
    config = parse([command, *rest])[command]
    if command == "fit" and config.ckpt_path is None and may_have_begun(environment):
        last = _checkpoint_of_this_job(config, environment)
        if last is not None:
            rest.append(f"--ckpt_path={last}")
            config.ckpt_path = str(last)
    if config.ckpt_path is None:
        if command != "fit":
            raise SettingError(f"{command} needs ckpt_path: name a file such as <run>/checkpoints/last.ckpt.")
        return [command, *rest]
    checkpoint = read_checkpoint(config.ckpt_path, resume=command == "fit")
    trained = _settings(checkpoint, resume=command == "fit")
    names = [name.removeprefix("model.") for name in trained if name.startswith("model.")]
    unknown = [name for name in names if name not in config.model]
    if unknown:
        raise SettingError(
            f"ckpt_path is {config.ckpt_path}, a checkpoint of another network, which has {unknown[0]}: use it with the "
            "program that trained it."
        )
    if command == "fit" and config.config is None:
        trained |= _settings_of_its_run(config.ckpt_path, checkpoint)
    first = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in trained.items()]
    return [command, *first, *rest]


def _settings_of_its_run(path: str, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run that wrote a checkpoint, if it lies in its run's folder or holds them.

    They are data: nothing that they name is imported. What says where the run is and how it is shown is left out.
    """
    run = run_of_checkpoint(path)
    config = read_settings(run / CONFIG) if run else record_in(checkpoint).get("config")
    if named := code_in(config or {}):
        trusted = run / CONFIG if run else "that of its run"
        raise SettingError(
            f"ckpt_path is {path}, and its run's config names classes in {' and '.join(named)}, which is code: if you trust it, "
            f"name it with --config {trusted}"
        )
    left_out = ("config", "ckpt_path", "predictions", "trainer.logger", "model", "network")
    return {name: value for name, value in flat(config or {}).items() if not name.startswith(left_out)}


def refuse_contradictions(checkpoint: Mapping[str, Any], given: Mapping[str, Any], resume: bool) -> None:
    """Makes sure that the settings of a command are those that shaped its checkpoint.

    Args:
        checkpoint: As `read_checkpoint` gives it.
        given: The settings by dotted name, as YAML keeps them.
        resume: Whether training goes on from the checkpoint.

    Raises:
        SettingError: If one is not, or a resumed run would train fewer epochs than it has.
    """
    lengths = {"epochs": checkpoint["epoch"] + 1, "steps": checkpoint.get("global_step", 0)} if resume else {}
    for what, done in lengths.items():
        wanted = given.get(f"trainer.max_{what}")
        if wanted is not None and -1 < wanted < done:
            raise SettingError(
                f"trainer.max_{what} is {wanted}, but the checkpoint has trained {done} {what}: give that many or more."
            )
    then = _settings(checkpoint, resume)
    kept = kept_by_a_resumed_run((resume and record_in(checkpoint).get("config")) or {})
    # Another version may have other settings.
    then |= {name: value for name, value in kept.items() if name in given}
    for name, value in then.items():
        now = given.get(name)
        if not same_value(name, _as_saved(now), _as_saved(value)):
            raise SettingError(
                f"{name} is {now}, but the checkpoint was trained {_with(name, value)}: "
                "leave the setting out, or train anew without ckpt_path."
            )


def refuse_other_run(checkpoint: Mapping[str, Any], model: LightningModule, setup: str, precision: str) -> None:
    """Makes sure that a run would go on with the network, the setup and the precision that it began with.

    Raises:
        SettingError: If it would not.
    """
    refuse_other_network(checkpoint, model)
    refuse_other_setup(record_in(checkpoint), setup, precision)
    # A state that an optimiser keeps for each weight has its shape.
    states, weights = [each["state"] for each in checkpoint["optimizer_states"]], list(model.parameters())
    if len(states) == 1 and len(states[0]) == len(weights):
        for weight, state in zip(weights, states[0].values(), strict=True):
            if any(
                isinstance(kept, torch.Tensor) and kept.dim() and kept.shape != weight.shape for kept in state.values()
            ):
                raise SettingError("ckpt_path names a checkpoint whose optimizer_states are of another network.")


def refuse_other_network(checkpoint: Mapping[str, Any], model: LightningModule) -> None:
    """Makes sure that the checkpoint's weights fit the model.

    Raises:
        SettingError: If they do not.
    """
    saved = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
    ours = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if saved != ours:
        raise SettingError("ckpt_path names a checkpoint of another network: name one that fit wrote.")


def trained_on(checkpoint: Mapping[str, Any], data: object) -> str | None:
    """Which images a checkpoint was trained on, such as `mnist`. A checkpoint of weights alone does not say it."""
    return checkpoint.get(type(data).__qualname__, {}).get("found")


def refuse_other_data(checkpoint: Mapping[str, Any], data: Any) -> None:
    """Makes sure that prepared data are those of the checkpoint.

    Raises:
        SettingError: If they are not.
    """
    trained = trained_on(checkpoint, data)
    if data.found != trained:
        raise SettingError(
            f"data.source {data.source} gives {data.found}, but the checkpoint was trained on {trained}: "
            f"ask for {trained}, or train anew without ckpt_path."
        )


def _settings(checkpoint: Mapping[str, Any], resume: bool) -> dict[str, Any]:
    """The settings that shaped a checkpoint: those of the model, and for a resumed fit the batch size and the seed."""
    model = {k: v for k, v in checkpoint["hyper_parameters"].items() if not k.startswith("_")}
    seed = model.pop("seed")
    trained = {f"model.{name}": value for name, value in model.items()}
    if resume:
        trained["data.batch_size"] = checkpoint["datamodule_hyper_parameters"]["batch_size"]
        trained["seed_everything"] = seed
    return trained


def _checkpoint_of_this_job(config: Namespace, environment: Mapping[str, str]) -> Path | None:
    logger, job = config.trainer.logger, job_name(environment)
    if job is None or not isinstance(logger, Namespace) or "save_dir" not in logger.init_args:
        return None
    follow_torchrun(config.trainer, environment)
    name = run_name(setup_name(resolve(config.trainer)), config.data.batch_size, config.seed_everything)
    return interrupted_checkpoint(Path(logger.init_args.save_dir) / (logger.init_args.get("name") or name), job)


def _with(name: str, value: Any) -> str:
    """The value that a setting had, in words."""
    value = UNSET.get(name) if value is None else value
    return "without it" if value is None else f"with {value}"


def _as_saved(value: Any) -> Any:
    """A value as YAML keeps it, where a tuple is a list."""
    return list(value) if isinstance(value, tuple) else value
