"""The loggers of a run, each in the run's folder."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import instantiate_class
from lightning.pytorch.loggers import Logger

from mnist_lightning.data import data_module
from mnist_lightning.errors import SettingError, blaming
from mnist_lightning.run_files import run_name, run_of_checkpoint

TENSORBOARD: dict[str, Any] = {
    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
    "init_args": {"save_dir": "logs", "name": None, "default_hp_metric": False},
}
WITH_FOLDERS = ("TensorBoardLogger", "CSVLogger")  # their runs are folders: save_dir, name, version


def setup_name(trainer: Trainer) -> str:
    """What runs, as devices x accelerator: `1xcpu`, `1xgpu`, `2xgpu`, `2xcpu`."""
    kind = trainer.strategy.root_device.type
    return f"{trainer.world_size}x{'gpu' if kind == 'cuda' else kind}"


def make_loggers(trainer: Trainer, given: Any = True) -> list[Logger]:
    """Makes the loggers of `trainer.logger`, in the folder of the checkpoint's run, or for a new run under its name."""
    run, data = run_of_checkpoint(trainer.ckpt_path), data_module(trainer)
    listed = [each for each in (given if isinstance(given, list) else [given]) if each is not False]
    chosen = [TENSORBOARD if each in (None, True) else each for each in listed]
    if not chosen:
        return []
    with_folders = [each for each in chosen if each["class_path"].endswith(WITH_FOLDERS)] or [TENSORBOARD]
    others = [each for each in chosen if each not in with_folders]
    made = []
    for each in [*with_folders, *others]:  # the first one's folder is that of the checkpoints
        arguments = dict(each.get("init_args", {}))
        # A name that the user gave wins; `lightning_logs` is what Lightning calls all runs.
        if run is None and each in with_folders and arguments.get("name") in (None, "lightning_logs"):
            arguments["name"] = run_name(setup_name(trainer), data.batch_size, data.seed)
        elif run is not None and each["class_path"].endswith("CSVLogger"):
            raise SettingError("trainer.logger CSVLogger would overwrite the run's metrics.csv: name another logger.")
        elif run is not None and each in with_folders:
            arguments |= {"save_dir": str(run.parent), "name": "", "version": run.name}
            if trainer.state.fn == "fit":
                # TensorBoard drops what was written after the checkpoint. It counts epochs from 1.
                epoch = torch.load(str(trainer.ckpt_path), weights_only=True, mmap=True)["epoch"]
                arguments["purge_step"] = epoch + 2
        with blaming("trainer.logger"):
            made.append(instantiate_class((), {"class_path": each["class_path"], "init_args": arguments}))
    return made
