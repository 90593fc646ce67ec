"""Dropout whose masks depend neither on the device nor on the number of devices that share the batch.

A library's dropout draws from the random stream of its process: two processes draw other masks than one, a GPU
other masks than a CPU. Here each unit of each image hashes a counter with SplitMix64 (Steele, Lea and Flood, 2014,
"Fast splittable pseudorandom number generators"), so a device computes the mask of its own images alone and gets
what any other device would have got.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

STEPS_IN_A_BLOCK = 1024

# SplitMix64's constants, as the int64 with the same bits: torch's 64-bit arithmetic is signed.
_GOLDEN, _MIX_1, _MIX_2 = (
    int(np.uint64(word).astype(np.int64)) for word in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def _xor_shift(words: Tensor, bits: int) -> Tensor:
    # `>>` copies the sign bit; the mask makes it the logical shift that the hash is defined with.
    return words.bitwise_xor_((words >> bits) & ((1 << (64 - bits)) - 1))


def draw_keys(seed: int, epoch: int, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The keys of the two dropout draws of a training step, int64 [] each; epochs, and steps of an epoch, count from 0."""
    block, place = divmod(step, STEPS_IN_A_BLOCK)
    return _block_of_keys(seed, epoch, block, device)[place]


@lru_cache(maxsize=2)
def _block_of_keys(seed: int, epoch: int, block: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    # Many steps at once, since a step on a GPU must not wait for the host to draw and send a key.
    words = np.random.SeedSequence([seed, epoch, block]).generate_state(2 * STEPS_IN_A_BLOCK, np.uint64)
    # Tensors, so that the compiler sees no new constant at each step.
    keys = torch.from_numpy(words.view(np.int64)).to(device).unbind()
    return list(zip(keys[::2], keys[1::2], strict=True))


def random_words(rows: Tensor, columns: int, key: Tensor) -> Tensor:
    """Random 64-bit words, int64 [len(rows), columns]: (r, c) is number r * columns + c of SplitMix64's stream from `key`."""
    # The factor must meet the rows, never `arange` alone. The compiler makes a loop's index of that, and a product that
    # overflows: C++ then has no end of the loop (it writes beyond the tensor), and Triton no integer wide enough.
    counters = torch.add(torch.arange(columns, device=rows.device), rows[:, None], alpha=columns)
    words = _xor_shift(torch.add(key, counters, alpha=_GOLDEN), 30).mul_(_MIX_1)
    return _xor_shift(_xor_shift(words, 27).mul_(_MIX_2), 31)


def keep_mask(rows: Tensor, units: int, rate: float, key: Tensor) -> Tensor:
    """Which units are kept, bool [len(rows), units]; each is dropped with probability `rate`, independently.

    A unit takes one random byte if a byte can express the rate exactly (as the paper's .25 and .5). Otherwise it takes
    four bytes, which express any rate to 2^-32.
    """
    exact = (rate * 256).is_integer()
    if not len(rows):  # PyTorch may give no rows of one column a stride of 0, with which they are no bytes
        return rows.new_empty(0, units, dtype=torch.bool)
    words = random_words(rows, -(-units * (1 if exact else 4) // 8), key)
    if not exact:
        return words.view(torch.int32)[:, :units] >= round(rate * 2**32) - 2**31
    return words.view(torch.uint8)[:, :units] >= round(rate * 256)


def dropout(activations: Tensor, rate: float, rows: Tensor, key: Tensor) -> Tensor:
    """Zeroes units of [n, units] at random, at a rate in [0, 1), and scales the rest, as Keras and PyTorch do.

    The rows, int64 [n], are the images' places in the global batch; the key, int64 [], is the draw.
    """
    if not rate:
        return activations
    return activations * keep_mask(rows, activations.shape[1], rate, key) * (1 / (1 - rate))
