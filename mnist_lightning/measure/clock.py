"""The clock that every time of a device is read from."""

from time import perf_counter

import torch


def now(device: torch.device) -> float:
    """Seconds on a clock without a certain zero, once the device has done all that it was given.

    A GPU, of CUDA or of Apple, works behind the host: without the wait a time would be that of giving it the work.
    """
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return perf_counter()
