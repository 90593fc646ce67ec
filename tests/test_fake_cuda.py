"""A fit on a GPU that is not there waits for nobody within a step, and launches what the docs say."""

from collections import Counter

import pytest
import torch
from conftest import PROJECT
from fake_gpu import Operation, fit

from mnist_lightning.model import MNISTClassifier


@pytest.fixture(scope="module")
def operations(tmp_path_factory) -> list[Operation]:
    return fit(MNISTClassifier(), tmp_path_factory.mktemp("gpu"))


def waits(operations: list[Operation]) -> dict[str, list[str]]:
    """What makes the host wait, by the step."""
    found: dict[str, list[str]] = {}
    for operation in operations:
        if operation.step and operation.waits:
            found.setdefault(operation.step, []).append(operation.name)
    return found


def test_a_step_waits_for_nobody(operations):
    """Two epochs; an epoch's first step sends the order of the images, and the keys, which the warm-up had already sent."""
    steps = {operation.step for operation in operations if operation.step}
    assert steps == {f"training {n}" for n in range(6)} | {f"validation {n}" for n in range(6)}
    assert waits(operations) == {"training 0": ["_to_copy"], "training 3": ["_to_copy", "_to_copy"]}
    assert sum(operation.name == "synchronize" and not operation.step for operation in operations) > 10


def test_all_of_a_step_is_on_the_gpu(operations):
    assert {operation.step for operation in operations if operation.step and "cuda" not in operation.devices} <= {
        "training 0",
        "training 3",
    }  # the order and the keys, before they are sent


class Waiting(MNISTClassifier):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.last = loss.item()
        return loss


class Reading(MNISTClassifier):
    def validation_step(self, batch, batch_idx):
        return super().validation_step(batch, batch_idx).cpu()


class Mixing(MNISTClassifier):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch._replace(labels=batch.labels.cpu()), batch_idx)


class Sending(MNISTClassifier):
    def forward(self, images, rows=None, step=0):
        return super().forward(images, torch.arange(len(images)).to(images.device), step)


@pytest.mark.parametrize(
    ("kind", "step", "name"),
    [
        (Waiting, "training", "_local_scalar_dense"),
        (Reading, "validation", "_to_copy"),
        (Sending, "training", "_to_copy"),
    ],
)
def test_a_wait_would_be_seen(tmp_path, kind, step, name):
    found = waits(fit(kind(), tmp_path, max_epochs=1))
    assert name in found[f"{step} 1"]


def test_a_tensor_on_the_processor_would_be_seen(tmp_path):
    with pytest.raises(RuntimeError, match="found at least two devices, cuda:0 and cpu"):
        fit(Mixing(), tmp_path, max_epochs=1)


def test_a_step_launches_as_many_operations_as_the_docs_say(operations):
    """What NVIDIA's libraries launch within an operation is not seen."""
    launches = Counter(operation.step for operation in operations if operation.launches)
    assert launches["training 1"] <= 79  # a step on a GPU takes as long as its host needs to launch them
    told = f"a training step is {launches['training 1']} operations and a validation step {launches['validation 1']}"
    assert told in " ".join((PROJECT / "docs" / "speed.md").read_text().split())
