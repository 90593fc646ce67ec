"""Whether this machine can compile."""

from functools import cache

import torch


@cache
def compiler_problem(device: str) -> str:
    """Why `torch.compile` does not work on this machine, in a few words; empty if it does.

    It tries to compile an addition, since what is needed (a compiler, its headers, a folder to write to) differs from
    machine to machine.
    """
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    except (RuntimeError, OSError) as error:
        return str(error).strip().splitlines()[0]
    return ""
