"""Other work on the machine while a run was timed."""

import os
from time import perf_counter

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lightning.measure.load import machine_seconds


class Neighbours(Callback):
    """How many cores other programs kept busy on average while the run trained, and how many the hypervisor kept back.

    It counts on the machine of the first process, since the last start of the run.
    """

    def __init__(self) -> None:
        self.cores: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.begin = self._seconds(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        wall, own, busy, stolen = (self._seconds(trainer) - self.begin).tolist()
        # The kernel counts in hundredths of a second, so the difference may be negative for a short run.
        other = max(busy - own, 0.0) / wall
        self.cores = {
            "own_cores": round(own / wall, 3),
            "other_cores": round(other, 3),
            "stolen_cores": round(stolen / wall, 3),
        }

    @staticmethod
    def _seconds(trainer: Trainer) -> torch.Tensor:
        """Four counters in seconds: wall clock, this run's processors, all busy processors, and those kept back."""
        here = os.times()
        own = torch.tensor(here.user + here.system if trainer.node_rank == 0 else 0.0)
        together = trainer.strategy.reduce(own.to(trainer.strategy.root_device), reduce_op="sum").item()
        return torch.tensor([perf_counter(), together, *machine_seconds()], dtype=torch.float64)
