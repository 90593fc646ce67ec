"""Where a step's time goes."""

import statistics
from time import perf_counter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from mnist_lightning.speed.empty_hooks import leave_steps_alone

EXCHANGE_EVERY = 10  # steps between two looks at DDP's clock, which cost 30 microseconds each


class StepParts(Callback):
    """Seconds of the parts of a training step, on the first process of a CPU setup.

    `data` is indexing the images, measured in one pass without training after the last epoch. `forward` is
    `training_step` with its metrics. `backward` computes the gradients. `exchange` is how long DDP waits for the other
    process and its gradients with nothing left to compute, by DDP's own clock. `optimizer` is Adadelta's step. `trainer`
    is the rest, so that the parts add up to `seconds/train_epoch` divided by the steps. On a GPU nothing is recorded,
    since the host runs ahead of it.

    Args:
        wanted: Whether to record them, which takes a hundredth of a step at batch size 32.
    """

    def __init__(self, wanted: bool = False) -> None:
        self.wanted = wanted
        self.epochs: list[dict[str, float]] = []
        self.data = 0.0
        self.watches = False
        self.ddp: DistributedDataParallel | None = None
        self._start_epoch()  # hooks are called during the warm-up, too

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.watches = self.wanted and trainer.strategy.root_device.type == "cpu"
        if not self.watches:
            leave_steps_alone(self, StepParts)
            return
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            self.ddp = trainer.strategy.model
            self.ddp._set_ddp_runtime_logging_sample_rate(1)
        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(lambda *_: self._add("optimizer"))

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._start_epoch()

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.steps += 1
        self.mark = perf_counter()

    def on_before_zero_grad(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        self._add("forward")

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Tensor) -> None:
        self.mark = perf_counter()

    def on_after_backward(self, trainer: Trainer, module: LightningModule) -> None:
        self._add("backward")
        # The first step is left out, since it waits for what came before the epoch.
        if self.ddp is not None and self.steps % EXCHANGE_EVERY == 2:
            clock = self.ddp._get_ddp_logging_data()
            wait = clock["backward_comm_time"] - clock["backward_compute_comm_overlap_time"]
            self.waits.append(wait / 1e9)

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        self.mark = perf_counter()

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.trained = perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.watches:
            return
        mean = {name: seconds / self.steps for name, seconds in self.seconds.items()}
        # Not all steps are looked at, and those may have waited longer than the others.
        mean["exchange"] = min(statistics.fmean(self.waits), mean["backward"]) if self.waits else 0.0
        mean["backward"] -= mean["exchange"]
        mean["step"] = ((self.trained or perf_counter()) - self.begin) / self.steps
        self.epochs.append(mean)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.watches:
            begin = perf_counter()
            steps = sum(1 for _ in trainer.train_dataloader or ())
            self.data = (perf_counter() - begin) / steps

    def medians(self) -> dict[str, float]:
        """Seconds of a step by part, of the epoch whose steps took the median time; empty where nothing was recorded."""
        if not self.epochs:
            return {}
        # One epoch, since medians of each part would not add up to a step.
        parts = dict(sorted(self.epochs, key=lambda epoch: epoch["step"])[(len(self.epochs) - 1) // 2])
        rest = max(parts.pop("step") - sum(parts.values()), 0.0)  # below 0 by rounding only
        # The pass over the data was taken at another moment than the steps, and may have been disturbed.
        parts["data"] = min(self.data, rest)
        return {**parts, "trainer": rest - parts["data"]}

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs = list(state["epochs"])

    def _add(self, part: str) -> None:
        self.seconds[part] += perf_counter() - self.mark

    def _start_epoch(self) -> None:
        self.seconds = dict.fromkeys(("forward", "backward", "optimizer"), 0.0)
        self.waits: list[float] = []
        self.steps = 0
        self.trained = 0.0
        self.begin = self.mark = perf_counter()
