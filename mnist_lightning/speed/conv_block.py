"""The convolutions with pooling and dropout behind them, by step.cpp."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mnist_lightning.speed.compiling import KINDS, call, library


class ConvBlock(torch.autograd.Function):
    """conv1, ReLU, conv2, max pooling, ReLU and dropout, [n, units], of images, uint8 [n, 28, 28], divided by 255.

    Also takes the images' rows and the dropout's key (see dropout.py) and rate, the side of a pooling cell, and weights and
    biases of both layers. It is the plain layers' function up to rounding; autocast to bfloat16 rounds the output alone.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, rows: Tensor, key: Tensor, rate: float, size: int, *layers: Tensor) -> Tensor:
        w1, b1, w2, b2 = layers
        second, first, kernel_size, _ = w2.shape
        bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        ctx.functions, ctx.rate = library(first, second, kernel_size, size), rate
        ctx.kind = "mixed" if bf16 and w1.dtype == torch.float32 else KINDS[w1.dtype]
        layers = w1.contiguous(), b1, w2.permute(0, 2, 3, 1).contiguous(), b2  # by height, width, input channel
        images, rows, n = images.contiguous(), rows.long().contiguous(), len(images)
        side = (images.shape[1] - 2 * (kernel_size - 1)) // size
        out = images.new_empty(n, side * side * second, dtype=torch.bfloat16 if ctx.kind == "mixed" else w1.dtype)
        winners = torch.empty_like(out, dtype=torch.uint8)
        call(ctx.functions, "forward", ctx.kind, images, rows.view(n), n, int(key), rate, layers, out, winners)
        ctx.save_for_backward(images, winners, *layers)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, winners, *layers = ctx.saved_tensors
        w1, b1, w2, b2 = sums = [torch.zeros_like(layer) for layer in layers]
        gradient, n = gradient.contiguous(), len(images)
        call(ctx.functions, "backward", ctx.kind, images, winners, n, ctx.rate, layers, gradient, sums)
        return None, None, None, None, None, w1, b1, w2.permute(0, 3, 1, 2), b2
