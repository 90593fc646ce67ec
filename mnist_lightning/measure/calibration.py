"""What the machine gives at this moment, since its name does not say how fast it is."""

from collections.abc import Callable, Collection
from functools import partial

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lightning.measure.clock import now
from mnist_lightning.measure.load import cores

ROUNDS = 3  # of all measurements, of which the best counts: another program may take a core for half a second
SECONDS = 0.05  # of each product in a round, and
COPY_SECONDS = 0.01  # of the copy, so that all rounds stay under a second
LEAST = 3  # repetitions, however slow the machine is
SIDE = {"cpu": 512, "cuda": 4096}  # of the square matrices: more than a GPU's launch, less than a processor's cache
# Sets of matrices that are measured in turn: where a set lies in the memory decides how much of it a processor's caches hold.
SETS = {"cpu": 8}
COPIED = 64 << 20  # bytes; more than most caches hold
HOST = "host_gflops"  # the first process measures it alone, so that all setups of a machine have the same


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a matrix product, with all threads of this process: the best of short repetitions.

    Where the product would take longer than the measurement, as in bfloat16 on a processor without it, it is one of a quarter
    of the side.
    """
    side = SIDE.get(device.type, 2048)
    seconds = _product_seconds(side // 4, device, dtype, SECONDS / 10)
    if 4**3 * seconds < SECONDS / SETS.get(device.type, 1):
        return 2 * side**3 / _product_seconds(side, device, dtype, SECONDS) / 1e9
    return 2 * (side // 4) ** 3 / seconds / 1e9


def _product_seconds(side: int, device: torch.device, dtype: torch.dtype, during: float) -> float:
    ones = [torch.ones(side, side, dtype=dtype, device=device) for _ in range(SETS.get(device.type, 1))]
    sets = [(one, torch.empty_like(one)) for one in ones]
    each = during / len(sets)
    return min(_least_seconds(partial(torch.mm, one, one, out=out), device, each) for one, out in sets)


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


def best_of_rounds(names: Collection[str], measured: Callable[[str], float]) -> dict[str, float]:
    """The largest value that is measured of each name. The rounds spread each measurement over the whole second."""
    rounds = [{name: measured(name) for name in names} for _ in range(ROUNDS)]
    return {name: max(found[name] for found in rounds) for name in names}


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
        strategy = trainer.strategy

        def measured(name: str) -> float:
            strategy.barrier()
            measures = name != HOST or trainer.is_global_zero
            own = torch.tensor(RATES[name](strategy.root_device) if measures else 0.0, device=strategy.root_device)
            return round(strategy.reduce(own, reduce_op="sum").item(), 1)

        return best_of_rounds(RATES, measured)
