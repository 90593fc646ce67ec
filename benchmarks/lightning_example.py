"""Lightning as its examples write it: a module that logs in each step, and a Trainer left as it comes."""

import tempfile

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer
from measure import WARM_UP_STEPS, arguments, report
from paper_network import paper_network
from stamps import Stamps
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = paper_network()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.layers(images), labels)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adadelta(self.parameters(), lr=1.0, rho=0.95, eps=1e-7)


options = arguments(__doc__)
train_data = datasets.MNIST(options.data_dir, train=True, transform=transforms.ToTensor())
subset = Subset(train_data, range(options.steps * options.batch_size))
with tempfile.TemporaryDirectory() as folder:
    classifier = Classifier()
    stamps = Stamps(options.batch_size, skip=WARM_UP_STEPS)
    trainer = Trainer(max_epochs=-1, accelerator="cpu", default_root_dir=folder, callbacks=[stamps])
    trainer.fit(classifier, DataLoader(subset, batch_size=options.batch_size, shuffle=True))
report(options, stamps.clock)
