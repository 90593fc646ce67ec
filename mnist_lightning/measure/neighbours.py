"""Other work on the machine while a run was timed."""

import os
from time import perf_counter

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


def busy_seconds() -> tuple[float, float]:
    """Seconds of all processors that were busy, and that the host kept back."""
    spent = psutil.cpu_times()
    busy = sum(getattr(spent, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
    return busy, getattr(spent, "steal", 0.0)


class Neighbours(Callback):
    """How many cores other programs kept busy on the first process's machine, and how many its host kept back."""

    def __init__(self) -> None:
        self.cores: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.begin = self._seconds(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        wall, own, busy, stolen = (self._seconds(trainer) - self.begin).tolist()
        # The kernel counts in hundredths of a second, so the difference may be negative for a short run.
        other = max(busy - own, 0.0)
        found = {"own_cores": own, "other_cores": other, "stolen_cores": stolen}
        self.cores = {name: round(seconds / wall, 3) for name, seconds in found.items()}

    @staticmethod
    def _seconds(trainer: Trainer) -> torch.Tensor:
        """Four counters in seconds: wall clock, this run's processors, all busy processors, and those kept back."""
        here = os.times()
        own = torch.tensor(here.user + here.system if trainer.node_rank == 0 else 0.0)
        together = trainer.strategy.reduce(own.to(trainer.strategy.root_device), reduce_op="sum").item()
        return torch.tensor([perf_counter(), together, *busy_seconds()], dtype=torch.float64)
