"""How busy the machine is; Linux alone says."""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
BUSY = 0.25  # cores; if other programs keep more than this busy, times are not to be trusted


def machine_seconds() -> tuple[float, float]:
    """Seconds that the machine's cores have been busy since it started, and those that its host kept back."""
    if not STAT.exists():
        return 0.0, 0.0
    counts = map(int, STAT.read_text().split("\n", 1)[0].split()[1:])
    user, nice, system, _, _, irq, softirq, stolen, *_ = counts
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / ticks, stolen / ticks


def busy_cores(seconds: float = 1.0) -> float:
    """How many cores are busy, or kept back by the host, on average over the next seconds."""
    before = sum(machine_seconds())
    time.sleep(seconds)
    return (sum(machine_seconds()) - before) / seconds
