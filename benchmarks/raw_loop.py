"""Our model and data in a loop without Lightning's Trainer, by PyTorch's layers and Adadelta."""

from contextlib import nullcontext
from types import SimpleNamespace

from measure import Clock, arguments, time_and_report

from mnist_lightning.speed.allocator import keep_freed_memory

keep_freed_memory()
import torch

from mnist_lightning.data import MNISTDataModule
from mnist_lightning.model import MNISTClassifier

options = arguments(__doc__, precisions=("fp32", "bf16"))
data = MNISTDataModule(str(options.data_dir), options.batch_size, source="mnist")
data.prepare_data()
data.setup("fit")
loader = data.train_dataloader()
digits, sampler = loader.dataset, loader.sampler

model = MNISTClassifier()
model.trainer = SimpleNamespace(world_size=1, current_epoch=0)
optimizer = model.configure_optimizers()


def train(steps: int, clock: Clock) -> None:
    for step, share in zip(range(steps), sampler, strict=False):
        autocast = options.precision == "bf16"
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            loss = model.training_step(digits[share], step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        clock.step()


time_and_report(train, options)
