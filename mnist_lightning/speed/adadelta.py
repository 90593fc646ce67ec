"""Adadelta in one pass over its numbers, by step.cpp."""

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from mnist_lightning.speed.compiling import call


class OnePassAdadelta(torch.optim.Adadelta):
    """PyTorch's Adadelta, with `lr`, `rho` and `eps`, for dense parameters in single or double precision."""

    def __init__(self, params: Iterable[Tensor], functions: ctypes.CDLL, **options: Any) -> None:
        super().__init__(params, **options)
        self.functions = functions

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Takes a step, after a closure, if one is given, that computes the gradients."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            options = float(group["lr"]), float(group["rho"]), float(group["eps"])
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state.update(step=torch.zeros(()), square_avg=torch.zeros_like(p), acc_delta=torch.zeros_like(p))
                state["step"] += 1
                # In the order in which the memory holds the parameter.
                gradient = p.grad if p.grad.stride() == p.stride() else torch.empty_like(p).copy_(p.grad)
                numbers = p, gradient, state["square_avg"], state["acc_delta"], p.numel()
                call(self.functions, "adadelta", p.dtype, *numbers, *options)
        return loss
