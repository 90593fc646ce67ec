"""What the processors consumed while a run trained, where Linux tells it (RAPL)."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

PACKAGES = "/sys/class/powercap"  # a folder a processor; only root may read the counters on many systems


class Energy(Callback):
    """Joules of all processors of the first process's machine, from the first epoch to the last; None if nobody tells.

    The counters wrap around, on some processors after a few minutes. They are read at the end of each epoch.
    """

    def __init__(self) -> None:
        self.joules: float | None = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.last = _counters()
        self.joules = 0.0 if self.last else None

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.joules is None:
            return
        now = _counters()
        for package, (count, wraps_at) in now.items():
            before = self.last.get(package, (count, wraps_at))[0]
            self.joules += (count - before if count >= before else count - before + wraps_at) / 1e6
        self.last = now


def _counters() -> dict[str, tuple[int, int]]:
    """Microjoules of each processor, and where they wrap around; nothing where they may not be read."""
    try:
        return {
            folder.name: (int((folder / "energy_uj").read_text()), int((folder / "max_energy_range_uj").read_text()))
            for folder in Path(PACKAGES).glob("*-rapl:?")
        }
    except (OSError, ValueError):
        return {}
