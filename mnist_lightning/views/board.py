"""What TensorBoard shows of a run beside its curves."""

import warnings
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from torchmetrics import MetricCollection

from mnist_lightning.data import CLASSES, Batch, data_module
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.run_files import command_line
from mnist_lightning.runs.config import settings_of
from mnist_lightning.runs.record import RunRecord
from mnist_lightning.views import pictures

# A page for comparing runs: the title of each chart and its metrics. A chart for each metric, since TensorBoard gives all
# lines of a run one colour.
CHARTS = {"test accuracy": "val/accuracy", "test loss": "val/loss", "seconds an epoch": "seconds/epoch"}
CHARTS |= {"training accuracy": "train/accuracy", "training loss": "train/loss", "images a second": "images_per_second"}


class Board(Callback):
    """Writes the graph, texts, pictures and the row of hyperparameters to TensorBoard, before and after the clock measures."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_fit_start(self, trainer: Trainer, module: MNISTClassifier) -> None:
        for logger in _boards(trainer) if trainer.ckpt_path is None else []:  # a resumed run has them
            writer = logger.experiment
            charts = {title: ["Multiline", [metric]] for title, metric in CHARTS.items()}
            writer.add_custom_scalars({"what one compares": charts})
            if isinstance(module, MNISTClassifier):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # of torch, against its own tracer
                    writer.add_graph(Layers(module), data_module(trainer).test_digits.images[:1].float())
            told = {**self.record.record["machine"], **self.record.record["calibration"]["before"]}
            rows = [f"| {name} | {value} |" for name, value in told.items()]
            writer.add_text("machine", "\n".join(["| | |", "| --- | --- |", *rows]))
            # One line for each option, since the page cuts off long lines.
            writer.add_text("command", "    " + command_line().replace(" --", " \\\n        --"))

    def on_train_epoch_start(self, trainer: Trainer, module: MNISTClassifier) -> None:
        self.seen = []  # of an epoch before, whose weights were others

    def on_validation_batch_end(
        self, trainer: Trainer, module: MNISTClassifier, outputs: Tensor, batch: Batch, *place: int
    ) -> None:
        # They are only kept here, and looked at when the clock has stopped. They are copied, since a CUDA graph writes
        # over its outputs.
        if isinstance(outputs, Tensor) and outputs.shape == (len(batch.labels), CLASSES):
            self.seen.append((batch.indices, batch.labels, outputs.clone()))

    def on_train_epoch_end(self, trainer: Trainer, module: MNISTClassifier) -> None:
        validated = self.record.validations.get(trainer.current_epoch, {})
        shown = {f"at a glance/test {name.removeprefix('val/')}": value for name, value in validated.items()}
        for logger in _boards(trainer):
            logger.log_metrics(shown, step=trainer.current_epoch + 1)

    def on_train_end(self, trainer: Trainer, module: MNISTClassifier) -> None:
        if not any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
            return
        shares = [[part.cpu() for part in map(torch.cat, zip(*self.seen, strict=True))]] if self.seen else [[]]
        self.seen = []
        if trainer.world_size > 1:
            shares *= trainer.world_size
            torch.distributed.all_gather_object(shares, shares[0])
        for logger in _boards(trainer):
            if all(shares):
                indices, labels, logits = map(torch.cat, zip(*shares, strict=True))
                images = data_module(trainer).test_digits.images[indices.to(module.device)].cpu()
                _write_pictures(logger.experiment, module, images, labels, logits, trainer.current_epoch)
            self._write_row(logger, trainer, module)

    def _write_row(self, logger: TensorBoardLogger, trainer: Trainer, module: MNISTClassifier) -> None:
        """Writes the row of a finished run in HPARAMS: its settings and its results."""
        rate = self.record.calibration.after["fp32_gflops"]
        logger.log_metrics({"summary/fp32_gflops": rate}, step=trainer.current_epoch)
        # What a run may differ in, each run with the same names: one without a column is not drawn beside the others.
        record, settings = self.record.record, settings_of(trainer, module, {})
        given = {**settings["trainer"], **settings["model"], "epochs": trainer.current_epoch}
        for name in ("max_epochs", "accelerator", "devices"):
            del given[name]  # the epochs and the setup say it
        for name in ("limit_train_batches", "limit_val_batches"):  # a share and a number would be one scale
            given[name] = f"{given[name]:.0%}" if isinstance(given[name], float) else f"{given[name]} batches"
        given |= {name: record[name] for name in ("setup", "batch_size", "seed", "network", "data")}
        row = {name: value if type(value) in (int, float) else str(value) for name, value in given.items()}
        # The list of this run's columns, which Lightning would write too, TensorBoard would take for that of all runs.
        # Without one it shows the settings of all runs, those that differ first, and the metrics by their names.
        _, start, end = hparams(row, {})
        for summary in (start, end):
            logger.experiment._get_file_writer().add_summary(summary, trainer.current_epoch)


class Layers(nn.Module):
    """The layers of a classifier without its LightningModule, which no tracer can follow."""

    def __init__(self, classifier: MNISTClassifier) -> None:
        super().__init__()
        for name, layer in classifier.named_children():
            if not isinstance(layer, MetricCollection):
                self.add_module(name, layer)
        self._classifier = [classifier]  # in a list, so that it is not a submodule
        self._no_key = torch.zeros((), dtype=torch.int64, device=classifier.device)

    def forward(self, images: Tensor) -> Tensor:
        (classifier,) = self._classifier
        mode = classifier.training
        try:
            return classifier.eval().network(images, self._no_key, self._no_key, self._no_key)
        finally:
            classifier.train(mode)


def _boards(trainer: Trainer) -> list[TensorBoardLogger]:
    """TensorBoard's loggers on the first process."""
    return [each for each in trainer.loggers if isinstance(each, TensorBoardLogger)] if trainer.is_global_zero else []


def _write_pictures(
    writer: SummaryWriter, module: MNISTClassifier, images: Tensor, labels: Tensor, logits: Tensor, epoch: int
) -> None:
    probabilities = logits.float().softmax(1)
    drawn: dict[str, Any] = {
        "digits it got most wrong": pictures.worst_digits(images, labels, probabilities),
        "confusion matrix": pictures.confusion(labels, probabilities.argmax(1)),
    }
    if isinstance(first := getattr(module, "conv1", None), nn.Conv2d):
        drawn["first filters"] = pictures.filters(first.weight.detach().float().cpu())
    for name, figure in drawn.items():
        if figure is not None:
            writer.add_figure(f"what it learned/{name}", figure, epoch)
