"""A plain PyTorch loop as the tutorials write it."""

from time import perf_counter

import torch
from measure import WARM_UP_STEPS, arguments, report
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

options = arguments(__doc__)
train_data = datasets.MNIST(options.data_dir, train=True, transform=transforms.ToTensor())

model = nn.Sequential(
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
loss_function = nn.CrossEntropyLoss()
optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0, rho=0.95, eps=1e-7)


def train(steps: int) -> None:
    subset = Subset(train_data, range(steps * options.batch_size))
    model.train()
    for images, labels in DataLoader(subset, batch_size=options.batch_size, shuffle=True):
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


train(WARM_UP_STEPS)
begin = perf_counter()
train(options.steps)
report(options, perf_counter() - begin)
