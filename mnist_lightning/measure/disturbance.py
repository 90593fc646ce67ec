"""Whether a run's times can be trusted, by what its `summary.json` says, and how busy the machine is. Needs no torch."""

import os
from collections.abc import Mapping
from typing import Any

import psutil

BUSY = 0.25  # cores; if other programs keep more than this busy, times are not to be trusted
SHARE = 0.05  # of the cores that the run used, or of its calibrated rate: from here on a time is not to be trusted


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def busy_cores(seconds: float = 1.0) -> float:
    """How many cores are busy, or kept back by the host, on average over the next seconds."""
    return psutil.cpu_percent(seconds) / 100 * (psutil.cpu_count() or 1)


def busy_others(summary: Mapping[str, Any]) -> list[str]:
    """What other programs and the host took from a run, in words; empty if it was too little to matter."""
    found, neighbours = [], summary.get("neighbours", {})
    used = neighbours.get("own_cores") or summary.get("machine", {}).get("cores", 1)
    for name, who in (("other_cores", "other programs kept"), ("stolen_cores", "the host kept back")):
        if (cores := neighbours.get(name, 0.0)) > SHARE * used:
            found.append(f"{who} {cores:.2f} cores while it used {used:.2f}")
    return found


def disturbances(summary: Mapping[str, Any]) -> list[str]:
    """Why the time of a single run is not to be trusted, in words; empty if nothing is known against it."""
    found = busy_others(summary)
    # In fp32, whatever the run's precision. A processor's clock drifts for all products alike, but a host that moves its
    # virtual cores apart changes the shorter product in bf16 by a tenth, and may do so in every run that keeps them busy.
    rates = summary.get("calibration", {})
    before, after = (rates.get(moment, {}).get("fp32_gflops") for moment in ("before", "after"))
    if before and after and abs(after / before - 1) > SHARE:
        found.append(f"the machine gave {before:.0f} GFLOP/s in fp32 before it and {after:.0f} after it")
    return found
