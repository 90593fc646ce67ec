"""Dropout whose masks depend neither on the device nor on the number of devices that share the batch.

A library's dropout draws from the random stream of its process: two processes draw other masks than one, a GPU
other masks than a CPU. Here each unit of each image hashes a counter with SplitMix64 (Steele, Lea and Flood, 2014,
"Fast splittable pseudorandom number generators"), so a device computes the mask of its own images alone and gets
what any other device would have got.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def _signed(word: int) -> int:
    """The int64 with the same bits as an unsigned 64-bit number; torch's 64-bit arithmetic is signed."""
    return word - (1 << 64) if word >> 63 else word


STEPS_IN_A_BLOCK = 1024

_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _xor_shift(words: Tensor, bits: int) -> Tensor:
    # `>>` copies the sign bit; the mask makes it the logical shift that the hash is defined with.
    return words.bitwise_xor_((words >> bits) & ((1 << (64 - bits)) - 1))


def _mix(states: Tensor) -> Tensor:
    """SplitMix64's numbers, int64, in the place of their states."""
    words = _xor_shift(states, 30).mul_(_MIX_1)
    words = _xor_shift(words, 27).mul_(_MIX_2)
    return _xor_shift(words, 31)


def draw_keys(seed: int, epoch: int, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The keys of the two dropout draws of a training step, int64 [] each, on the device.

    Args:
        seed: Of the experiment.
        epoch: From 0.
        step: The batch's number in its epoch, from 0.
        device: Where the masks are computed.
    """
    block, place = divmod(step, STEPS_IN_A_BLOCK)
    return _block_of_keys(seed, epoch, block, device)[place]


@lru_cache(maxsize=2)
def _block_of_keys(seed: int, epoch: int, block: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    # Many steps at once, since a step on a GPU must not wait for the host to draw and send a key.
    words = np.random.SeedSequence([seed, epoch, block]).generate_state(2 * STEPS_IN_A_BLOCK, np.uint64)
    # Tensors, so that the compiler sees no new constant at each step.
    keys = torch.from_numpy(words.view(np.int64)).to(device).unbind()
    return list(zip(keys[::2], keys[1::2], strict=True))


def _states(rows: Tensor, columns: int, key: Tensor) -> Tensor:
    """SplitMix64's states of a draw, int64 [len(rows), columns]: key + _GOLDEN * (r * columns + c) for word (r, c)."""
    # The factor must meet the rows, never `arange` alone. The compiler makes a loop's index of that, and a product that
    # overflows: C++ then has no end of the loop (it writes beyond the tensor), and Triton no integer wide enough.
    counters = torch.add(torch.arange(columns, device=rows.device), rows[:, None], alpha=columns)
    return torch.add(key, counters, alpha=_GOLDEN)


def random_words(rows: Tensor, columns: int, key: Tensor) -> Tensor:
    """Uniform random 64-bit words, int64 [len(rows), columns]; word (r, c) is a function of key, r and c alone.

    It is number r * columns + c of SplitMix64's stream from the state `key`.
    """
    return _mix(_states(rows, columns, key))


def keep_mask(rows: Tensor, units: int, rate: float, key: Tensor) -> Tensor:
    """Which units are kept, bool [len(rows), units]; each is dropped with probability `rate`, independently.

    A unit takes one random byte if a byte can express the rate exactly (as the paper's .25 and .5). Otherwise it takes
    four bytes, which express any rate to 2^-32.
    """
    return _kept(random_words(rows, _columns(units, rate), key), units, rate)


def keep_masks(
    rows: Tensor, units: Sequence[int], rates: Sequence[float], keys: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The masks that `keep_mask` gives for each number of units, its rate and its key.

    Their words are mixed as one tensor, which is half the operations: a GPU's host takes longer to launch an operation
    than the GPU takes to do it.
    """
    columns = [_columns(number, rate) for number, rate in zip(units, rates, strict=True)]
    states = torch.cat([_states(rows, number, key) for number, key in zip(columns, keys, strict=True)], 1)
    words = _mix(states).split(columns, 1)
    return tuple(_kept(part, number, rate) for part, number, rate in zip(words, units, rates, strict=True))


def _exact_in_a_byte(rate: float) -> bool:
    return (rate * 256).is_integer()


def _columns(units: int, rate: float) -> int:
    return -(-units * (1 if _exact_in_a_byte(rate) else 4) // 8)


def _kept(words: Tensor, units: int, rate: float) -> Tensor:
    if not len(words):  # PyTorch may give no rows of one column a stride of 0, with which they are no bytes
        return words.new_empty(0, units, dtype=torch.bool)
    if not _exact_in_a_byte(rate):
        return words.view(torch.int32)[:, :units] >= round(rate * 2**32) - 2**31
    lanes = words.view(torch.uint8)[:, :units]
    # Floats hold the 256 levels exactly, and a compiled comparison of bytes takes five times as long.
    return (lanes.float() if torch.compiler.is_compiling() else lanes) >= round(rate * 256)


def drop(activations: Tensor, rate: float, keep: Tensor | None) -> Tensor:
    """Zeroes the units that are not kept and scales the rest by 1 / (1 - rate), as Keras and PyTorch do.

    Args:
        activations: [n, units].
        rate: Probability with which the mask was drawn, in [0, 1).
        keep: The mask, bool [n, units]; None keeps everything.
    """
    return activations if keep is None else activations * keep * (1 / (1 - rate))


def dropout(activations: Tensor, rate: float, rows: Tensor, key: Tensor) -> Tensor:
    """Draws a mask and drops the units that it does not keep.

    Args:
        activations: [n, units], the images of one device.
        rate: Probability of dropping a unit, in [0, 1).
        rows: int64 [n], the images' places in the global batch.
        key: The draw, int64 [].
    """
    return drop(activations, rate, keep_mask(rows, activations.shape[1], rate, key) if rate else None)
