"""A sample that comes with the package: 500 of MNIST's training images of each digit. MNIST is by Yann LeCun, Corinna Cortes
and Christopher Burges, under CC BY-SA 3.0, as is `sample.npz`."""

import functools
from pathlib import Path

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
    """Images, uint8 [n, 28, 28], and labels, int64 [n]: 4,000 to train and 1,000 to test, sorted by digit."""
    with np.load(Path(__file__).with_suffix(".npz")) as file:
        images, labels, tests, answers = (torch.from_numpy(file[name]) for name in file)
    return (images, labels.long()), (tests, answers.long())
