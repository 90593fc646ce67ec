"""Draws what a training step leaves out (docs/zeros.png): what is zero in a batch of MNIST, after training.

python benchmarks/zeros.py LAST.CKPT docs/zeros.png
"""

import sys

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from mnist_lightning.data import MNISTDataModule
from mnist_lightning.dropout import draw_keys, dropout
from mnist_lightning.model import MNISTClassifier

checkpoint, picture = sys.argv[1:]
data = MNISTDataModule(source="mnist")
data.prepare_data()
data.setup("fit")
loader = data.train_dataloader()
batch = loader.dataset[next(iter(loader.sampler))]
model = MNISTClassifier.load_from_checkpoint(checkpoint).train()

# The layers one by one, to see the gradient of conv2's output.
x = model.conv2(F.relu(model.conv1(batch.images[:, None] / 255))).detach().requires_grad_()
key1, key2 = draw_keys(0, 1, 0, torch.device("cpu"))
pooled = F.relu(F.max_pool2d(x, 2)).permute(0, 2, 3, 1).flatten(1)
hidden = F.relu(model.dense1(dropout(pooled, 0.25, batch.rows, key1)))
F.cross_entropy(model.dense2(dropout(hidden, 0.5, batch.rows, key2)), batch.labels).backward()
nonzero = x.grad != 0
# A cell of 2 x 2 outputs sees 6 x 6 pixels.
black = F.max_pool2d(batch.images[:, None].float(), 6, stride=2) == 0

print(f"gradient not zero: {nonzero.float().mean():.1%} of conv2's outputs; black cells: {black.float().mean():.1%}")
figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
most = nonzero[0].flatten(1).sum(1).argsort(descending=True)[[8, 24]]
panels = [
    (batch.images[0], "an image"),
    (~black[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1), "cells that see more than black"),
    *((nonzero[0, channel], f"gradient not zero, channel {int(channel)}") for channel in most),
]
for axis, (values, title) in zip(axes, panels, strict=True):
    axis.imshow(values, cmap="gray_r" if title != "an image" else "gray")
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
figure.savefig(picture, dpi=110)
