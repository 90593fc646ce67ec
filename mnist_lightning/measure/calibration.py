"""What the machine gives at this moment, since its name does not say how fast it is."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lightning.measure.clock import now

ROUNDS, REPEATS = 3, 40  # of each measurement; a copy, which takes ten times as long, has a quarter of the repetitions
SIDE = {"cpu": 512, "cuda": 4096}  # of the square matrices: more than a GPU's launch, less than a processor's cache
COPIED = 64 << 20  # bytes; more than most caches hold


def product_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """GFLOP/s of a matrix product, with all threads of this process."""
    side = SIDE.get(device.type, 2048)
    one = torch.ones(side, side, dtype=dtype, device=device)
    out = torch.empty_like(one)
    return 2 * side**3 / _least_seconds(device, lambda: torch.mm(one, one, out=out), REPEATS) / 1e9


def copy_rate(device: torch.device) -> float:
    """GB/s read and written in a copy within the device's memory."""
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    out = torch.zeros_like(source)
    return 2 * COPIED / _least_seconds(device, lambda: out.copy_(source), REPEATS // 4) / 1e9


def _least_seconds(device: torch.device, work: Callable[[], object], repeats: int) -> float:
    """The shortest of many repetitions, since other programs only ever make one longer."""
    times = [now(device)]
    for _ in range(1 + repeats):  # the first one chooses its kernel
        work()
        times.append(now(device))
    return min(end - begin for begin, end in pairwise(times[1:]))


MEASURED: dict[str, Callable[[torch.device], float]] = {"fp32_gflops": product_rate, "copy_gb_per_second": copy_rate}
MEASURED["bf16_gflops"] = partial(product_rate, dtype=torch.bfloat16)


class Calibration(Callback):
    """The rates of the machine before and after a fit, outside its clock.

    All processes measure at the same time, and their rates are added: what one has while the others wait, no run has.
    """

    def __init__(self) -> None:
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.before = self._rates(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.after = self._rates(trainer)

    @staticmethod
    def _rates(trainer: Trainer) -> dict[str, float]:
        device, found = trainer.strategy.root_device, dict.fromkeys(MEASURED, 0.0)
        for name, rate in [*MEASURED.items()] * ROUNDS:  # one place in memory, or one moment, may be slow by a sixth
            trainer.strategy.barrier()
            shared = trainer.strategy.reduce(torch.tensor(rate(device), device=device), reduce_op="sum").item()
            found[name] = max(found[name], round(shared, 1))
        return found
