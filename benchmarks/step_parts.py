"""A callback that says where a step of `fit` goes: into which operations, and what the Trainer adds to the raw loop.

Blocks of steps of both run in turn in one process, because two processes meet a shared machine at different moments.
"""

import json
import statistics
from contextlib import nullcontext
from itertools import islice
from time import perf_counter
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

SKIPPED, BLOCK, SETTLING, BLOCKS, PROFILED = 100, 80, 5, 10, 60  # steps, but for the number of blocks
OPERATIONS = {
    "convolutions": ("ConvBlock",),
    "dense products": ("aten::mm", "aten::addmm"),
    "Adadelta": ("Optimizer.step#",),
}


class StepParts(Callback):
    """Prints milliseconds a step as one JSON line. Needs 1,015 steps of one process on a CPU."""

    def __init__(self) -> None:
        self.pairs: list[tuple[float, float]] = []
        self.start = 0.0
        self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, index: int) -> None:
        block, step = divmod(index - SKIPPED, SETTLING + BLOCK)
        if block < 0:
            return
        if block < BLOCKS:
            if step == SETTLING - 1:
                self.start = perf_counter()
            elif step == SETTLING + BLOCK - 1:
                self.pairs.append(((perf_counter() - self.start) / BLOCK, raw_loop(trainer, module) / BLOCK))
        elif step == SETTLING - 1:
            self.profiler.start()
        elif step == SETTLING + PROFILED - 1:
            self.profiler.stop()
            print(json.dumps(self.line()))

    def line(self) -> dict[str, Any]:
        fit, loop = zip(*self.pairs, strict=True)
        differences = [1e3 * (ours - theirs) for ours, theirs in self.pairs]
        spent = self.profiler.key_averages()
        return {
            "fit": round(1e3 * statistics.median(fit), 2),
            "raw loop": round(1e3 * statistics.median(loop), 2),
            "Trainer": round(statistics.median(differences), 2),
            "Trainer, each pair": [round(difference, 2) for difference in differences],
            **{
                name: round(
                    sum(row.self_cpu_time_total for row in spent if row.key.startswith(keys)) / PROFILED / 1e3, 2
                )
                for name, keys in OPERATIONS.items()
            },
        }


def raw_loop(trainer: Trainer, module: LightningModule) -> float:
    """Seconds of a block of steps without the Trainer, as in raw_loop.py, on the same model, data and optimiser."""
    loader, optimizer = trainer.train_dataloader, trainer.optimizers[0]
    shares = list(islice(loader.sampler, BLOCK))
    optimizer.zero_grad()
    start = perf_counter()
    for step, share in enumerate(shares):
        with torch.autocast("cpu", torch.bfloat16) if "bf16" in str(trainer.precision) else nullcontext():
            loss = module.training_step(loader.dataset[share], step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return perf_counter() - start
