"""Which folder each logger of a run writes to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from mnist_lightning.errors import SettingError
from mnist_lightning.runs.folder import refuse_unwritable
from mnist_lightning.runs.layout import first_new_epoch, run_name, run_of_checkpoint

TENSORBOARD: dict[str, Any] = {
    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
    # `place_loggers` fills in the name from what runs.
    "init_args": {"save_dir": "logs", "name": None, "default_hp_metric": False},
}
WITH_FOLDERS = ("TensorBoardLogger", "CSVLogger")  # their runs are folders: save_dir, name, version
NAME_ELSEWHERE = {"WandbLogger": "name", "MLFlowLogger": "run_name"}  # the setting that holds a run's name
LIGHTNINGS_NAME = "lightning_logs"  # what Lightning's loggers are called unless told otherwise


def place_loggers(config: Namespace, command: str, setup: str, checkpoint: Mapping[str, Any] | None) -> None:
    """Gives each logger its folder: that of the checkpoint's run, or for a new fit the next version of its name.

    `predict` logs nothing, nor does the evaluation of a checkpoint that lies in no run's folder. Weights & Biases and
    MLflow keep no folders of versions, so TensorBoard's logger is put beside them.

    Args:
        config: The settings of a command; those of the loggers are changed in place.
        command: Its name.
        setup: What runs.
        checkpoint: What the command goes on from, if anything.

    Raises:
        SettingError: If the folder cannot be written to, or a logger cannot go on in it.
    """
    settings, run = config.trainer, run_of_checkpoint(config.ckpt_path)
    if command == "predict" or (run is None and command != "fit"):
        settings.logger = False
    if settings.logger is False:
        return
    # A name that the user gave to a logger wins.
    name = run_name(setup, config.data.batch_size, config.seed_everything)
    purge_step = first_new_epoch(checkpoint["epoch"]) if command == "fit" and checkpoint else None
    given = settings.logger if isinstance(settings.logger, list) else [settings.logger]
    loggers = [_tensorboard() if logger in (None, True) else logger for logger in given]
    with_folders = [logger for logger in loggers if _kind(logger) in WITH_FOLDERS] or [_tensorboard()]
    others = [logger for logger in loggers if _kind(logger) not in WITH_FOLDERS]
    # Lightning writes checkpoints and the config to the first one's folder.
    settings.logger = [*with_folders, *others]
    for logger in others:
        title = NAME_ELSEWHERE.get(_kind(logger))
        if title and logger.init_args.get(title) in (None, LIGHTNINGS_NAME):
            logger.init_args[title] = name
    for logger in with_folders:
        folder = logger.init_args
        if "://" in str(folder.save_dir):
            raise SettingError(
                f"trainer.logger.init_args.save_dir is {folder.save_dir}: name a folder of this machine."
            )
        if run is None:
            folder.name = name if folder.get("name") in (None, LIGHTNINGS_NAME) else folder.name
        elif _kind(logger) == "CSVLogger":
            raise SettingError("trainer.logger CSVLogger would overwrite the run's metrics.csv: name another logger.")
        else:
            folder.save_dir, folder.name, folder.version = str(run.parent), "", run.name
            folder.purge_step = purge_step
        refuse_unwritable(Path(folder.save_dir) / folder.name, "trainer.logger.init_args.save_dir")


def _kind(logger: Namespace) -> str:
    return logger.class_path.rpartition(".")[2]


def _tensorboard() -> Namespace:
    return Namespace(class_path=TENSORBOARD["class_path"], init_args=Namespace(**TENSORBOARD["init_args"]))
