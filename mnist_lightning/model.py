"""The paper's network, its loss, its optimiser and its metrics."""

import inspect
from collections.abc import Iterable
from contextlib import suppress
from operator import index
from typing import Any, cast

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import MetricCollection

from mnist_lightning.data import CLASSES, IMAGE_SIZE, Batch
from mnist_lightning.dropout import draw_keys, dropout
from mnist_lightning.errors import SettingError
from mnist_lightning.metrics import image_metrics, update_metrics
from mnist_lightning.speed.adadelta import OnePassAdadelta
from mnist_lightning.speed.compiling import KINDS, library
from mnist_lightning.speed.conv_block import ConvBlock


def _known(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether step.cpp can work on them."""
    return all(each.dtype in KINDS and each.device.type == "cpu" for each in parameters)


class MNISTClassifier(LightningModule):
    """The CNN of the paper's section II, trained with categorical cross-entropy and Adadelta.

    For another network, a subclass changes the layers in its `__init__`, calls `draw_weights`, and overrides `network`,
    which gets the same four arguments. The settings in the signature of its `__init__`, with `seed` among them, are saved
    with its checkpoints, so it must not hide any behind `**options`. docs/own_network.py is an example.

    Args:
        channels: Output channels of the two convolutions.
        kernel_size: Side of both convolutions' kernels, in pixels.
        pool_size: Side and stride of the max pooling, in pixels.
        hidden: Units of the hidden dense layer.
        dropout: Rates of the dropouts after the pooling and after the hidden layer, each in [0, 1).
        learning_rate: Adadelta's learning rate; 1.0 is Keras's default of 2019 (tf.keras has 0.001).
        rho: Adadelta's decay of both running averages; 0.95 is Keras's default.
        eps: Adadelta's term under the square roots; 1e-7 is Keras's default (PyTorch has 1e-6).
        seed: Seed of the initial weights and of the dropout masks.
        compile: Who computes a step. `true`: the network compiled by PyTorch (on a GPU as CUDA graphs). `false`:
            PyTorch's layers. By default: on a CPU the project's own C++ (`speed/step.cpp`), if the machine has a
            compiler and the network allows it; on a GPU PyTorch's layers.
    """

    def __init__(
        self,
        channels: tuple[int, int] = (32, 64),
        kernel_size: int = 3,
        pool_size: int = 2,
        hidden: int = 128,
        dropout: tuple[float, float] = (0.25, 0.5),
        learning_rate: float = 1.0,
        rho: float = 0.95,
        eps: float = 1e-7,
        seed: int = 0,
        compile: bool | None = None,
    ) -> None:
        super().__init__()
        # Plain numbers: those of NumPy would make a checkpoint that cannot be loaded as data.
        channels, kernel_size = (index(channels[0]), index(channels[1])), index(kernel_size)
        pool_size, hidden, seed = index(pool_size), index(hidden), index(seed)
        dropout = (float(dropout[0]), float(dropout[1]))
        learning_rate, rho, eps = float(learning_rate), float(rho), float(eps)
        side = (IMAGE_SIZE - 2 * (kernel_size - 1)) // pool_size if pool_size > 0 else 0
        largest = float(torch.finfo(torch.float32).max)
        for name, value, valid in (
            ("channels", channels, min(channels) >= 1),
            ("kernel_size", kernel_size, kernel_size >= 1),
            ("pool_size", pool_size, side >= 1),  # something is left of the image
            ("hidden", hidden, hidden >= 1),
            ("dropout", dropout, all(0 <= rate < 1 for rate in dropout)),
            ("learning_rate", learning_rate, 0 < learning_rate <= largest),
            ("rho", rho, 0 <= rho <= 1),
            ("eps", eps, 0 < eps <= largest),
            ("seed", seed, 0 <= seed < 2**32),
        ):
            if not valid:
                raise SettingError(f"model.{name} is {value}, which is out of its bounds.")
        # A subclass has its own hyperparameters instead of these.
        others = set(inspect.signature(MNISTClassifier).parameters) - set(inspect.signature(type(self)).parameters)
        self.save_hyperparameters(ignore=list(others))
        self.sizes, self.rates, self.seed, self.compiles = (*channels, kernel_size, pool_size), dropout, seed, compile
        self.adadelta: dict[str, Any] = {"lr": learning_rate, "rho": rho, "eps": eps}

        self.conv1 = nn.Conv2d(1, channels[0], kernel_size)
        self.conv2 = nn.Conv2d(channels[0], channels[1], kernel_size)
        self.convolutions = self._convolutions()  # a subclass may have others, which step.cpp does not know
        self.dense1 = nn.Linear(side * side * channels[1], hidden)
        self.dense2 = nn.Linear(hidden, CLASSES)
        self.draw_weights()

        self.train_metrics = image_metrics("train/")
        self.val_metrics = image_metrics("val/")
        self.test_metrics = image_metrics("test/")
        self.trained_epochs = 0
        self.fused = False
        self._network = self.network

    def draw_weights(self) -> None:
        """Draws the weights of all layers from the seed, in order: Glorot-uniform, with zero biases, as Keras does."""
        generator = torch.Generator().manual_seed(self.seed)
        for layer in self.children():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.constant_(cast(Tensor, layer.bias), 0)
        # Convolutions then leave their output as height, width, channel: the order Keras flattens in.
        self.to(memory_format=torch.channels_last)

    def setup(self, stage: str) -> None:
        """Chooses who computes a step, once the device is known."""
        self.fused = False
        if self.compiles and stage == "fit":
            # Otherwise a process that fits many times reaches the limit of compiled versions of one function.
            torch.compiler.reset()
            # This mode records CUDA graphs; on a CPU it is the plain one.
            self._network = torch.compile(self.network, mode="reduce-overhead", dynamic=False)
        on_cpu = self.trainer.strategy.root_device.type == "cpu"
        ours = type(self).network is MNISTClassifier.network and self._convolutions() == self.convolutions
        if self.compiles is None and on_cpu and ours:
            try:
                library(*self.sizes)
                self.fused = True
            except (OSError, RuntimeError) as error:
                rank_zero_warn(f"Trains by PyTorch's layers, which is slower: speed/step.cpp cannot be used ({error}).")

    def forward(self, images: Tensor, rows: Tensor | None = None, step: int = 0) -> Tensor:
        """The logits, [n, 10], of images, uint8 or float [n, 28, 28] or [n, 1, 28, 28], 0 to 255.

        In training mode dropout is drawn for the current epoch, a step of it (from 0), and the images' places in the
        global batch, `rows`, int64 [n]; by default 0, 1, 2 …
        """
        if rows is None:
            rows = torch.arange(len(images), device=images.device)
        # Nothing is dropped in evaluation, so any key will do.
        epoch, step = (self.current_epoch, step) if self.training else (0, 0)
        return self._network(images, rows, *draw_keys(self.seed, epoch, step, images.device))

    def network(self, images: Tensor, rows: Tensor, key1: Tensor, key2: Tensor) -> Tensor:
        """The layers. Arguments as for `forward`, and the keys of the two dropout draws, int64 []."""
        rates = self.rates if self.training else (0.0, 0.0)
        size = self.sizes[-1]
        layers = [*self.conv1.parameters(), *self.conv2.parameters()]  # weights and biases
        if self.fused and images.dtype == torch.uint8 and _known(layers):
            images = images.view(len(images), IMAGE_SIZE, IMAGE_SIZE)
            x = cast(Tensor, ConvBlock.apply(images, rows, key1, rates[0], size, *layers))
        else:
            # By the shape, since `len` warns when TensorBoard's graph is traced; -1 would take three channels for three images.
            x = images.view(images.shape[0], 1, IMAGE_SIZE, IMAGE_SIZE).to(self.dtype) / 255
            # ReLU comes after the pooling, where a quarter of the units is left: the result is the same.
            x = F.relu(F.max_pool2d(self.conv2(F.relu(self.conv1(x))), size))
            # In Keras's order: height, width, channel.
            x = dropout(x.permute(0, 2, 3, 1).flatten(1), rates[0], rows, key1)
        x = dropout(F.relu(self.dense1(x)), rates[1], rows, key2)
        return self.dense2(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """A loss whose gradient, averaged over the devices, is the gradient of the mean loss over the global batch."""
        logits = self(batch.images, batch.rows, batch_idx)
        # A sum, since devices may hold different numbers of images of the last batch.
        loss = F.cross_entropy(logits, batch.labels, reduction="sum")
        update_metrics(self.train_metrics, loss, logits, batch)
        return loss * (self.trainer.world_size / batch.size)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        # Before the hooks of an epoch's end, in which other callbacks read what was logged.
        if self.trainer.is_last_batch:
            self._log_epoch(self.train_metrics, self.current_epoch + 1)

    def on_train_epoch_end(self) -> None:
        self.trained_epochs = self.current_epoch + 1

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The logits, [n, 10], for callbacks."""
        return self._evaluate(self.val_metrics, batch)

    def on_validation_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.trainer.state.fn == "fit" and batch_idx + 1 == self.trainer.num_val_batches[0]:
            self._log_epoch(self.val_metrics, self.current_epoch + 1)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.state.fn != "fit":
            self._log_epoch(self.val_metrics, self.trained_epochs)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(self.test_metrics, batch)

    def on_test_epoch_end(self) -> None:
        self._log_epoch(self.test_metrics, self.trained_epochs)

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Index in the test set, label, predicted digit and its probability, each [n]."""
        probability, digit = self(batch.images).float().softmax(1).max(1)
        return batch.indices, batch.labels, digit, probability

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # On a GPU: all parameters in a few kernels, and a step count that the host need not wait for.
        on_gpu = self.device.type == "cuda"
        # What Lightning's Tuner finds, or a user sets, is in the hyperparameters; a subclass may have none of that name.
        options = {**self.adadelta, "lr": self.hparams.get("learning_rate", self.adadelta["lr"])}
        if self.fused and _known(self.parameters()):
            return OnePassAdadelta(self.parameters(), library(*self.sizes), **options)
        return torch.optim.Adadelta(self.parameters(), **options, foreach=on_gpu, capturable=on_gpu)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        # Lightning converts the model only after it has loaded the weights, which would round those of 64-true.
        with suppress(RuntimeError):  # there is no Trainer if a checkpoint is loaded without one
            self.trainer.precision_plugin.convert_module(self)
        self.trained_epochs = checkpoint["epoch"] + 1

    def _convolutions(self) -> str:
        return repr([layer for layer in self.children() if isinstance(layer, nn.Conv2d)])

    def _evaluate(self, metrics: MetricCollection, batch: Batch) -> Tensor:
        logits = self(batch.images, batch.rows)
        update_metrics(metrics, F.cross_entropy(logits, batch.labels, reduction="sum"), logits, batch)
        return logits

    def _log_epoch(self, metrics: MetricCollection, epoch: int) -> None:
        # Over the epoch, so that batch 32 and batch 2048 lie over each other. Lightning would write what was trained only
        # when the checkpoint of the epoch is there, and a kill between the two would lose it for good.
        values = {name: float(value) for name, value in metrics.compute().items()}
        trainer, fitting = self.trainer, self.trainer.state.fn == "fit"
        for logger in [] if trainer.sanity_checking else trainer.loggers:
            logger.log_metrics(values, step=epoch)
        # What Lightning does not log is no result of `trainer.test`. It would log it at a number of steps.
        self.log_dict(dict(metrics.items()), logger=not fitting, prog_bar=fitting, on_step=False, on_epoch=True)
        if not fitting:
            self.aside, trainer.loggers = trainer.loggers, []

    def on_validation_end(self) -> None:
        if self.trainer.state.fn != "fit":
            self.trainer.loggers = self.aside

    on_test_end = on_validation_end
