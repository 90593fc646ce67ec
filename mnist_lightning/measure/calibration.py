"""What the machine gives at this moment, since its name does not say how fast it is."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

SECONDS = 0.2  # of each measurement
SIDE = {"cpu": 512, "cuda": 4096}  # of the square matrices: more than a GPU's launch, less than a processor's cache
COPIED = 64 << 20  # bytes; more than most caches hold


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a matrix product, with all threads of this process."""
    side = SIDE.get(device.type, 2048)
    one = torch.ones(side, side, dtype=dtype, device=device)
    return 2 * side**3 / _least_seconds("torch.mm(one, one, out=out)", one=one, out=torch.empty_like(one)) / 1e9


def copy_rate(device: torch.device) -> float:
    """GB/s read and written in a copy within the device's memory."""
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    return 2 * COPIED / _least_seconds("out.copy_(source)", source=source, out=torch.zeros_like(source)) / 1e9


def _least_seconds(work: str, **tensors: torch.Tensor) -> float:
    """The shortest of many repetitions, since other programs only ever make one longer."""
    from torch.utils.benchmark import Timer  # it says that there is no CUDA, which is silenced by now

    timer = Timer(work, globals={"torch": torch, **tensors}, num_threads=torch.get_num_threads())
    return min(timer.blocked_autorange(min_run_time=SECONDS).times)


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
        device, found = trainer.strategy.root_device, {}
        for name, measured in (
            ("fp32_gflops", lambda: product_rate(device, torch.float32)),
            ("bf16_gflops", lambda: product_rate(device, torch.bfloat16)),
            ("copy_gb_per_second", lambda: copy_rate(device)),
        ):
            trainer.strategy.barrier()
            found[name] = trainer.strategy.reduce(torch.tensor(measured(), device=device), reduce_op="sum").item()
        return {name: round(rate, 1) for name, rate in found.items()}
