"""Adadelta in one pass over its numbers, by step.cpp."""

import ctypes
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from mnist_lightning.speed.compiling import KINDS, call


class OnePassAdadelta(torch.optim.Adadelta):
    """PyTorch's Adadelta for dense parameters in single or double precision."""

    def __init__(self, params: Iterable[Tensor], functions: ctypes.CDLL, lr: float, rho: float, eps: float) -> None:
        super().__init__(params, lr=lr, rho=rho, eps=eps)
        self.functions = functions

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Takes a step, after a closure, if one is given, that computes the gradients."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            options = float(group["lr"]), float(group["rho"]), float(group["eps"])
            for p in (parameter for parameter in group["params"] if parameter.grad is not None):
                state = self.state[p]
                if not state:
                    state.update(step=torch.zeros(()), square_avg=torch.zeros_like(p), acc_delta=torch.zeros_like(p))
                state["step"] += 1
                numbers = {"gradient": p.grad, "square_avg": state["square_avg"], "acc_delta": state["acc_delta"]}
                for name, tensor in numbers.items():
                    if tensor.stride() != p.stride():  # another order in memory
                        numbers[name] = torch.empty_like(p).copy_(tensor)
                state.update(square_avg=numbers["square_avg"], acc_delta=numbers["acc_delta"])
                call(self.functions, "adadelta", KINDS[p.dtype], p, *numbers.values(), p.numel(), *options)
                torch.autograd.graph.increment_version(p)
        return loss
