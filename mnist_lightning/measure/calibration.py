"""What the machine gives at this moment, since its name does not say how fast it is."""

from collections.abc import Callable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lightning.measure.clock import now
from mnist_lightning.measure.load import cores

# Of each measurement, so that all of them stay under a second. A host shared with others wanders by a tenth within tenths of
# a second: the best of 0.06 seconds repeated within 13 %, of 0.2 seconds within 5 % (20 of each, one after the other).
SECONDS = 0.2
COPY_SECONDS = 0.06
LEAST = 3  # repetitions, however slow the machine is
SIDE = {"cpu": 512, "cuda": 4096}  # of the square matrices: more than a GPU's launch, less than a processor's cache
COPIED = 64 << 20  # bytes; more than most caches hold
HOST = "host_gflops"  # the first process measures it alone, so that all setups of a machine have the same


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a matrix product, with all threads of this process: the best of short repetitions.

    Where the product would take longer than the measurement, as in bfloat16 on a processor without it, it is one of a quarter
    of the side.
    """
    side = SIDE.get(device.type, 2048)
    seconds = _product_seconds(side // 4, device, dtype, SECONDS / 10)
    if 4**3 * seconds < SECONDS:
        return 2 * side**3 / _product_seconds(side, device, dtype, SECONDS) / 1e9
    return 2 * (side // 4) ** 3 / seconds / 1e9


def _product_seconds(side: int, device: torch.device, dtype: torch.dtype, during: float) -> float:
    one = torch.ones(side, side, dtype=dtype, device=device)
    out = torch.empty_like(one)
    return _least_seconds(lambda: torch.mm(one, one, out=out), device, during)


def copy_rate(device: torch.device) -> float:
    """GB/s read and written in a copy within the device's memory: the best of short repetitions."""
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * COPIED / _least_seconds(lambda: target.copy_(source), device, COPY_SECONDS) / 1e9


def host_rate() -> float:
    """GFLOP/s of a matrix product in fp32 on all cores that this process may use, whatever the setup trains on."""
    threads = torch.get_num_threads()
    torch.set_num_threads(len(cores()))
    try:
        return product_rate(torch.device("cpu"), torch.float32)
    finally:
        torch.set_num_threads(threads)


RATES: dict[str, Callable[[torch.device], float]] = {
    "fp32_gflops": lambda device: product_rate(device, torch.float32),
    "bf16_gflops": lambda device: product_rate(device, torch.bfloat16),
    "copy_gb_per_second": copy_rate,
    HOST: lambda _: host_rate(),
}


def _least_seconds(work: Callable[[], object], device: torch.device, during: float) -> float:
    """The shortest repetition: other programs only ever make one longer."""
    work()  # chooses kernels, and touches the memory
    least, count, end = float("inf"), 0, now(device) + during
    while count < LEAST or now(device) < end:
        begin = now(device)
        work()
        least, count = min(least, now(device) - begin), count + 1
    return least


class Calibration(Callback):
    """The rates of the machine before and after a fit, outside its clock.

    All processes measure at the same time, and their rates are added. A run uses all its processes at once, each with its
    own threads, and they share the memory and the processor's clock: what one measures while the others wait, the run
    never has. The rate of the host is the exception: it tells machines apart, not runs.
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
        strategy, found = trainer.strategy, {}
        for name, rate in RATES.items():
            strategy.barrier()
            measures = name != HOST or trainer.is_global_zero
            own = torch.tensor(rate(strategy.root_device) if measures else 0.0, device=strategy.root_device)
            found[name] = round(strategy.reduce(own, reduce_op="sum").item(), 1)
        return found
