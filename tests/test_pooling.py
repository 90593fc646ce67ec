"""The fused pooling against the layers of PyTorch, to the bit."""

import pytest
import torch
import torch.nn.functional as F

from mnist_lightning.dropout import draw_keys, dropout
from mnist_lightning.speed.pooling import FusedPoolReLUDropout, pool_relu

KEY = draw_keys(0, 1, 2, torch.device("cpu"))[0]


def maps(dtype=torch.float32, side=24, levels=None) -> torch.Tensor:
    """Second convolution's outputs; with few levels windows have ties."""
    x = torch.randn(6, 64, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (x * levels).round() / levels if levels else x
    return x.to(dtype).to(memory_format=torch.channels_last)


def outputs_and_gradients(function, x, size, rate):
    x = x.clone().requires_grad_()
    y = function(x, size, rate, torch.tensor([5, 0, 3, 9, 2, 7]), KEY)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y.backward(weights.to(y.dtype))
    return y.detach(), x.grad


def pool_relu_dropout(x, size, rate, rows, key):
    return dropout(pool_relu(x, size), rate, rows, key)


def relu_before_pool(x, size, rate, rows, key):
    """In the order of the paper's program."""
    return dropout(F.max_pool2d(F.relu(x), size).permute(0, 2, 3, 1).flatten(1), rate, rows, key)


@pytest.mark.parametrize("function", [pool_relu_dropout, FusedPoolReLUDropout.apply])
@pytest.mark.parametrize(
    ("dtype", "side", "size", "rate", "levels"),
    [
        *((torch.float32, 24, 2, 0.25, None), (torch.float32, 24, 2, 0.25, 2), (torch.float32, 4, 1, 0.25, None)),
        *((torch.bfloat16, 24, 2, 0.25, None), (torch.float64, 24, 2, 0.25, None)),
        *((torch.float32, 23, 2, 0.25, None), (torch.float32, 11, 3, 0.5, None)),  # pixels at the edge are left over
        *((torch.float32, 8, 2, 0.3, None), (torch.float32, 8, 2, 0.0, None)),  # no whole number of 256ths, no dropout
    ],
)
def test_pooling_is_that_of_the_papers_layers(function, dtype, side, size, rate, levels):
    theirs = outputs_and_gradients(relu_before_pool, maps(dtype, side, levels), size, rate)
    ours = outputs_and_gradients(function, maps(dtype, side, levels), size, rate)
    assert ours[0].dtype == ours[1].dtype == dtype
    assert 0.2 < (ours[0] > 0).float().mean() < 1 and ours[1].any()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_what_is_no_number_is_not_hidden_and_an_empty_share_passes():
    x = maps()
    x[0, 5, 3, 3] = torch.nan
    ours, theirs = (
        outputs_and_gradients(each, x, 2, 0.0)[0] for each in (FusedPoolReLUDropout.apply, pool_relu_dropout)
    )
    assert torch.equal(ours.isnan(), theirs.isnan()) and ours.isnan().sum() == 1
    x = torch.empty(0, 64, 24, 24).requires_grad_()
    y = FusedPoolReLUDropout.apply(x, 2, 0.25, torch.empty(0, dtype=torch.int64), KEY)
    y.sum().backward()
    assert (y.shape, x.grad.shape) == ((0, 9216), x.shape)
