"""Another network and another optimiser, with the clock, the record, the study and the report of this project.

python docs/own_network.py fit --model.hidden 128
python docs/own_network.py study --name own --setups '[configs/1xcpu.yaml]' --axes '{"model.hidden": [64, 128]}'
python docs/own_network.py report
"""

import sys

import torch
from torch import Tensor, nn

from mnist_lightning import MNISTClassifier, commands
from mnist_lightning.dropout import dropout


class Perceptron(MNISTClassifier):
    """One hidden layer of so many units, trained by stochastic gradient descent with a learning rate."""

    def __init__(self, hidden: int = 64, learning_rate: float = 0.1, seed: int = 0) -> None:
        super().__init__(hidden=hidden, learning_rate=learning_rate, seed=seed)
        del self.conv1, self.conv2  # those of the paper's network that this one has not
        self.dense1 = nn.Linear(28 * 28, hidden)
        self.draw_weights()

    def network(self, images: Tensor, rows: Tensor, key1: Tensor, key2: Tensor) -> Tensor:
        units = self.dense1(images.flatten(1).to(self.dtype) / 255).relu()
        return self.dense2(dropout(units, 0.5 if self.training else 0, rows, key2))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["learning_rate"])


if __name__ == "__main__":
    sys.exit(commands.main(model=Perceptron))
