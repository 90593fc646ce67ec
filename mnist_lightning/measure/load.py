"""The cores of the machine, and how busy they are."""

import os

import psutil

BUSY = 0.25  # cores; if other programs keep more than this busy, times are not to be trusted


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def machine_seconds() -> tuple[float, float]:
    """Seconds that the machine's cores have been busy since it started, and those that its host kept back."""
    spent = psutil.cpu_times()
    busy = ("user", "nice", "system", "irq", "softirq")
    return sum(getattr(spent, name, 0.0) for name in busy), getattr(spent, "steal", 0.0)


def busy_cores(seconds: float = 1.0) -> float:
    """How many cores are busy, or kept back by the host, on average over the next seconds."""
    return psutil.cpu_percent(seconds) / 100 * (psutil.cpu_count() or 1)
