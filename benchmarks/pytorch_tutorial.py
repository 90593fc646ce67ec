"""A plain PyTorch loop as the tutorials write it."""

import torch
from measure import Clock, arguments, time_and_report
from paper_network import paper_network
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

options = arguments(__doc__)
train_data = datasets.MNIST(options.data_dir, train=True, transform=transforms.ToTensor())

model = paper_network()
loss_function = nn.CrossEntropyLoss()
optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0, rho=0.95, eps=1e-7)


def train(steps: int, clock: Clock) -> None:
    subset = Subset(train_data, range(steps * options.batch_size))
    model.train()
    for images, labels in DataLoader(subset, batch_size=options.batch_size, shuffle=True):
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        clock.step()


time_and_report(train, options)
