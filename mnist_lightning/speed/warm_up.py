"""Does before the clock starts what a machine does only once."""

from typing import Any, cast

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from mnist_lightning.data import Batch
from mnist_lightning.measure.clock import now
from mnist_lightning.speed.allocator import keep_freed_memory
from mnist_lightning.waiting import telling


class WarmUp(Callback):
    """Trains and evaluates some steps of an MNISTClassifier on black images, then restores everything.

    Compiling, choosing kernels, growing the heap and recording CUDA graphs happen once for each size of a batch, here and
    not in `seconds/fit`. Weights, optimiser and metrics are restored; training draws nothing from a random stream.
    `seconds/warm_up` is the time of the slowest process, summed over resumptions; it is logged at the end.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def setup(self, trainer: Trainer, module: Any, stage: str) -> None:
        # trainer.deterministic would fill every new tensor, but no tensor here is read before it is written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        if not hasattr(module, "train_metrics"):
            return  # another module's steps may log, which they can do in a loop only
        if not module.fused:
            keep_freed_memory()
        strategy, (optimizer,) = trainer.strategy, trainer.optimizers
        begin = now(strategy.root_device)
        # DDP wants eleven steps before its communication is recorded in a CUDA graph.
        steps = 12 if strategy.root_device.type == "cuda" else 3
        weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        averages = {
            parameter: {name: value.clone() for name, value in state.items()}
            for parameter, state in optimizer.state.items()
        }

        with telling("warming up the training step"):
            for batch in _each_size(trainer.train_dataloader):
                batch = strategy.batch_to_device(batch, module.device)
                for _ in range(steps):
                    strategy.backward(cast(Tensor, strategy.training_step(batch, 0)), optimizer)
                    optimizer.step()
                    optimizer.zero_grad()
        if trainer.val_dataloaders is None:  # the first epoch is not validated, and a later one is
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.setup_data()
            trainer.training = True
        module.eval()
        for batch in _each_size(trainer.val_dataloaders):
            batch = strategy.batch_to_device(batch, module.device)
            with torch.inference_mode():
                for _ in range(steps):
                    strategy.validation_step(batch, 0)
        module.train()

        module.load_state_dict(weights)
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                # In place, since compiled steps and recorded graphs know the tensors by their address.
                before = averages.get(parameter, {}).get(name)
                value.zero_() if before is None else value.copy_(before)
        for metrics in (module.train_metrics, module.val_metrics):
            metrics.reset()
        seconds = torch.tensor(now(strategy.root_device) - begin, device=module.device)
        self.seconds += strategy.reduce(seconds, reduce_op="max").item()

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"seconds/warm_up": self.seconds}, step=trainer.current_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds = state["seconds"]


def _each_size(loader: Any) -> list[Batch]:
    """This device's share, black, of one batch of each global size; none without a loader, as with `limit_val_batches` 0.

    All processes see the same global sizes, and so take the same number of steps. Their shares may differ in size.
    """
    shares = {share.size: share for share in loader.sampler} if loader is not None else {}
    batches: list[Batch] = [loader.dataset[share] for share in shares.values()]
    return [batch._replace(images=torch.zeros_like(batch.images)) for batch in batches]
