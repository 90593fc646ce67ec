"""Other images in the place of MNIST: FashionMNIST, ten kinds of clothes (Xiao, Rasul and Vollgraf, 2017, arXiv 1708.07747).

python docs/own_data.py fit
python docs/own_data.py fit --config logs/1xcpu-b0128-s0/version_0/config.yaml
python docs/own_data.py report
"""

import sys

from torchvision.datasets import FashionMNIST as Files

from mnist_lightning import MNISTDataModule, commands
from mnist_lightning.data import Digits


class FashionMNIST(MNISTDataModule):
    """60,000 and 10,000 images from the four IDX files in `data_dir`/FashionMNIST/raw, fetched where they are missing."""

    def prepare_data(self) -> None:
        for train in (True, False):
            Files(self.data_dir, train=train, download=True)

    def load(self) -> tuple[Digits, Digits]:
        train, test = (Files(self.data_dir, train=train) for train in (True, False))
        return Digits(train.data, train.targets), Digits(test.data, test.targets)


if __name__ == "__main__":
    sys.exit(commands.main(data=FashionMNIST))
