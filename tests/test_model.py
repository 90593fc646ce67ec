from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mnist_lightning.data import Batch
from mnist_lightning.dropout import draw_keys, keep_mask
from mnist_lightning.model import MNISTClassifier


def weights(model: MNISTClassifier) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_parameters_and_layers_are_the_papers():
    shapes = {name: tuple(parameter.shape) for name, parameter in MNISTClassifier().named_parameters()}
    layers = {"conv1": (32, 1, 3, 3), "conv2": (64, 32, 3, 3), "dense1": (128, 9216), "dense2": (10, 128)}
    biases = {f"{layer}.bias": shape[:1] for layer, shape in layers.items()}
    assert shapes == biases | {f"{layer}.weight": shape for layer, shape in layers.items()}
    assert sum(parameter.numel() for parameter in MNISTClassifier().parameters()) == 1_199_882


@pytest.mark.parametrize(
    ("layer", "fan_in", "fan_out"),
    [("conv1", 9, 9 * 32), ("conv2", 9 * 32, 9 * 64), ("dense1", 9216, 128), ("dense2", 128, 10)],
)
def test_weights_start_glorot_uniform_and_biases_zero(layer, fan_in, fan_out):
    start, bound = weights(MNISTClassifier(seed=3)), (6 / (fan_in + fan_out)) ** 0.5
    weight = start[f"{layer}.weight"]
    assert bound * 0.98 < weight.abs().max() <= bound and not start[f"{layer}.bias"].any()
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.06)


def test_the_seed_alone_decides_the_initial_weights():
    torch.manual_seed(1)
    first = weights(MNISTClassifier(seed=5))
    torch.manual_seed(2)
    second, other = weights(MNISTClassifier(seed=5)), weights(MNISTClassifier(seed=6))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["dense1.weight"], other["dense1.weight"])


def keras_model(x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    """Lines 49 to 59 of the paper's program, in Keras's order [n, height, width, channel], without dropout and softmax."""
    for layer in ("conv1", "conv2"):
        windows = x.unfold(1, 3, 1).unfold(2, 3, 1)  # [n, height, width, channel, 3, 3]
        x = torch.relu(torch.einsum("nhwcij,dcij->nhwd", windows, w[f"{layer}.weight"]) + w[f"{layer}.bias"])
    n, height, width, channels = x.shape
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels).amax((2, 4)).reshape(n, -1)
    x = torch.relu(x @ w["dense1.weight"].T + w["dense1.bias"])
    return x @ w["dense2.weight"].T + w["dense2.bias"]


def test_the_network_is_the_papers_keras_model():
    model = MNISTClassifier(seed=1).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    keras = {name: value.requires_grad_() for name, value in weights(model).items()}
    images = torch.randint(0, 256, (7, 28, 28), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 3, 9, 9, 5])
    ours, theirs = model(images), keras_model(images[..., None].double() / 255, keras)
    assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-13)

    F.cross_entropy(ours, labels).backward()
    # Keras's categorical cross-entropy of the softmax, with one-hot labels.
    (-(F.one_hot(labels, 10) * theirs.softmax(1).log()).sum(1).mean()).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, keras[name].grad, rtol=1e-10, atol=1e-14), name


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("chosen", [{}, {"learning_rate": 0.5, "rho": 0.9, "eps": 1e-3}])
def test_three_steps_of_adadelta_follow_the_published_rule(chosen, fused):
    model = MNISTClassifier(**chosen).double()
    model.fused = fused
    rate, rho, eps = chosen.values() or (1.0, 0.95, 1e-7)  # Keras's defaults of 2019
    optimizer = model.configure_optimizers()
    start = model.dense2.bias.detach().numpy().copy()
    rng = np.random.default_rng(0)
    # Zeiler 2012, algorithm 1, with a learning rate as Keras has it.
    x, square, delta_square = start.copy(), np.zeros(10), np.zeros(10)
    for _ in range(3):
        gradient = rng.normal(size=10)
        square = rho * square + (1 - rho) * gradient**2
        delta = -np.sqrt(delta_square + eps) / np.sqrt(square + eps) * gradient
        delta_square = rho * delta_square + (1 - rho) * delta**2
        x = x + rate * delta

        model.dense2.bias.grad = torch.from_numpy(gradient)
        optimizer.step()
    assert np.abs(x - start).min() > 1e-5
    np.testing.assert_allclose(model.dense2.bias.detach().numpy(), x, rtol=1e-12)


@pytest.mark.parametrize("fused", [False, True])
def test_a_training_step_is_that_of_the_global_batch(fused):
    """The second of three devices, with two of a last batch's five images: masks, loss and its scale."""
    model = MNISTClassifier(seed=9, channels=(8, 16), hidden=12, dropout=(0.25, 0.5)).double().train()
    model.trainer, model.fused = SimpleNamespace(world_size=3, current_epoch=4), fused
    images, labels = torch.randint(0, 256, (2, 28, 28), dtype=torch.uint8), torch.tensor([3, 8])
    rows = torch.tensor([1, 4])
    loss = model.training_step(Batch(images, labels, indices=rows, rows=rows, size=5), batch_idx=17)

    w, keys = weights(model), draw_keys(9, 4, 17, images.device)
    x = torch.relu(F.conv2d(images[:, None].double() / 255, w["conv1.weight"], w["conv1.bias"]))
    x = F.max_pool2d(torch.relu(F.conv2d(x, w["conv2.weight"], w["conv2.bias"])), 2)
    x = x.permute(0, 2, 3, 1).reshape(2, -1)
    x = x * keep_mask(torch.arange(5), 2304, 0.25, keys[0])[rows] / 0.75
    x = torch.relu(x @ w["dense1.weight"].T + w["dense1.bias"])
    x = x * keep_mask(torch.arange(5), 12, 0.5, keys[1])[rows] / 0.5
    probabilities = (x @ w["dense2.weight"].T + w["dense2.bias"]).softmax(1)
    # DDP takes the mean over three devices; the global batch's loss is the mean over five images.
    share_of_the_mean = -probabilities[[0, 1], labels].log().sum() / 5
    assert loss.item() / 3 == pytest.approx(share_of_the_mean.item(), rel=1e-12)


def test_dropout_is_in_training_alone_and_follows_the_step():
    model = MNISTClassifier()
    images = torch.randint(0, 256, (4, 28, 28), dtype=torch.uint8)
    model.train()
    assert torch.equal(model(images, step=1), model(images, step=1))
    assert not torch.equal(model(images, step=1), model(images, step=2))
    model.eval()
    assert torch.equal(model(images, step=1), model(images, step=2))


def test_an_empty_share_passes_and_adds_no_gradient():
    model, nothing = MNISTClassifier(), torch.empty(0, dtype=torch.int64)
    logits = model(torch.empty(0, 28, 28, dtype=torch.uint8), nothing)
    F.cross_entropy(logits, nothing, reduction="sum").backward()
    assert logits.shape == (0, 10) and all(not parameter.grad.any() for parameter in model.parameters())
