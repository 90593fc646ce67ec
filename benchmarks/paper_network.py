"""The paper's network as PyTorch's tutorials and Lightning's examples write one."""

from torch import nn


def paper_network() -> nn.Sequential:
    """Logits, [n, 10], of images, float [n, 1, 28, 28] from 0 to 1."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )
