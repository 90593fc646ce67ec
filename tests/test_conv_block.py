"""The C++ of a training step against PyTorch's layers, and its compilation."""

import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import PROJECT, SMALL, spawn
from lightning.pytorch import Trainer

from mnist_lightning.data import MNISTDataModule
from mnist_lightning.dropout import draw_keys, dropout
from mnist_lightning.model import MNISTClassifier
from mnist_lightning.sources.sample import read_sample
from mnist_lightning.speed.conv_block import ConvBlock

KEY = draw_keys(0, 1, 2, torch.device("cpu"))[0]
PAPER = (32, 64, 3, 2)


def layers(first: int, second: int, kernel_size: int, dtype=torch.float64) -> list[torch.Tensor]:
    """Weights and biases of two convolutions, as the model has them in memory."""
    drawn = torch.Generator().manual_seed(0)
    shapes = ((first, 1, kernel_size, kernel_size), (first,), (second, first, kernel_size, kernel_size), (second,))
    tensors = [torch.randn(shape, generator=drawn, dtype=torch.float64).to(dtype) / 8 for shape in shapes]
    return [
        (each.to(memory_format=torch.channels_last) if each.ndim == 4 else each).requires_grad_() for each in tensors
    ]


def digits(n: int) -> torch.Tensor:
    """Digits, after a black image and one without a black pixel."""
    images = read_sample()[0][0][: max(n, 2)].clone()
    images[0], images[1] = 0, torch.arange(784).view(28, 28) % 255 + 1
    return images[:n]


def plain(images, rows, key, rate, size, w1, b1, w2, b2):
    """In the order of the paper's program."""
    x = F.relu(F.conv2d(images[:, None].to(w1.dtype) / 255, w1, b1))
    x = F.max_pool2d(F.relu(F.conv2d(x, w2, b2)), size)
    return dropout(x.permute(0, 2, 3, 1).flatten(1), rate, rows, key)


def outputs_and_gradients(function, images, weights, size, rate):
    y = function(images, torch.arange(len(images)) * 3 + 1, KEY, rate, size, *weights)
    drawn = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [y.detach(), *torch.autograd.grad(y, weights, drawn.to(y.dtype))]


def differences(images, weights, size=2, rate=0.25) -> float:
    """The largest difference of an output or a gradient, over the largest number of its kind."""
    ours, theirs = (outputs_and_gradients(each, images, weights, size, rate) for each in (ConvBlock.apply, plain))
    assert [each.stride() for each in ours[1:]] == [each.stride() for each in weights]
    scales = [float(each.abs().max()) if each.numel() else 0 for each in theirs]
    errors = [float((a - b).abs().max()) if a.numel() else 0 for a, b in zip(ours, theirs, strict=True)]
    assert all(scale > 0 or error == 0 for error, scale in zip(errors, scales, strict=True))
    return max([error / scale for error, scale in zip(errors, scales, strict=True) if scale], default=0.0)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("network", "n", "rate"),
    [
        *((PAPER, 33, 0.25), (PAPER, 1, 0.25), (PAPER, 7, 0.0), (PAPER, 5, 0.3), (PAPER, 9, 255 / 256)),
        # Those of configs/architecture.yaml and configs/architecture_gain.yaml.
        *(((8, 16, 3, 2), 9, 0.25), ((16, 32, 3, 2), 9, 0.25), ((64, 128, 3, 2), 9, 0.25)),
        # Pixels are left over at the edge; cells are as large as they can be; channels fill no vector of sixteen.
        *(((16, 16, 5, 3), 9, 0.25), ((16, 48, 4, 4), 9, 0.5), ((8, 24, 2, 1), 9, 0.25), ((16, 32, 1, 4), 9, 0.25)),
    ],
)
def test_outputs_and_gradients_are_those_of_the_layers(network, n, rate, dtype, bound):
    first, second, kernel_size, size = network
    assert differences(digits(n), layers(first, second, kernel_size, dtype), size, rate) < bound


def test_the_first_of_equal_pixels_wins():
    weights = layers(*PAPER[:3])
    with torch.no_grad():
        weights[2].zero_()
        weights[3].fill_(1.0)  # all pixels are equal, and see different things
    assert differences(digits(5), weights) < 1e-12


@pytest.mark.parametrize("fill", [-100.0, 100.0])
def test_units_all_dead_or_all_alive(fill):
    weights = layers(*PAPER[:3])
    with torch.no_grad():
        weights[3].fill_(fill)
    assert differences(digits(5), weights) < 1e-12
    alive = outputs_and_gradients(ConvBlock.apply, digits(5), weights, 2, 0.0)
    assert all(bool(each.any()) == (fill > 0) for each in alive)


@pytest.mark.parametrize("where", range(4))
def test_what_is_no_number_is_not_hidden(where):
    weights = layers(*PAPER[:3])
    with torch.no_grad():
        weights[where][(3, 0, 0, 0)[: weights[where].ndim]] = torch.nan
    ours, theirs = (outputs_and_gradients(each, digits(3), weights, 2, 0.0) for each in (ConvBlock.apply, plain))
    assert torch.equal(ours[0].isnan(), theirs[0].isnan()) and ours[0].isnan().any()


def test_under_autocast_the_output_alone_is_rounded():
    weights = layers(*PAPER[:3], dtype=torch.float32)
    whole = outputs_and_gradients(ConvBlock.apply, digits(33), weights, 2, 0.25)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = outputs_and_gradients(ConvBlock.apply, digits(33), weights, 2, 0.25)
    assert rounded[0].dtype == torch.bfloat16 and torch.equal(rounded[0], whole[0].bfloat16())
    for ours, theirs in zip(rounded[1:], whole[1:], strict=True):  # the gradient that comes in is rounded to 2^-9
        assert ours.dtype == torch.float32 and float((ours - theirs).abs().max()) < 0.01 * float(theirs.abs().max())


def test_the_same_bits_again_and_nothing_for_an_empty_share():
    weights = layers(*PAPER[:3], dtype=torch.float32)
    first, again = (outputs_and_gradients(ConvBlock.apply, digits(33), weights, 2, 0.25) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    empty = outputs_and_gradients(ConvBlock.apply, digits(0), weights, 2, 0.25)
    assert empty[0].shape == (0, 9216) and not any(each.any() for each in empty[1:])


class Padded(MNISTClassifier):
    """A subclass whose first convolution has other weights, and outputs of the same size."""

    def __init__(self, compile: bool | None = None, seed: int = 0) -> None:
        super().__init__(channels=(8, 16), hidden=16, compile=compile, seed=seed)
        self.conv1 = torch.nn.Conv2d(1, 8, 5, padding=1)
        self.draw_weights()


def test_layers_that_a_subclass_has_changed_are_its_own():
    networks = [Padded(), Padded(compile=False)]
    for network in networks:
        Trainer(accelerator="cpu", fast_dev_run=True).fit(network, MNISTDataModule(source="sample"))
    ours, plain = (network.state_dict() for network in networks)
    assert all(torch.equal(ours[name], plain[name]) for name in plain)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "bf16-mixed"])
@pytest.mark.parametrize("double", [False, True])
def test_every_precision_trains_what_the_layers_of_pytorch_train(precision, double):
    """Weights in half precision take PyTorch's layers, also those of a model that was converted by hand."""
    losses = []
    for compile in (None, False):
        network = MNISTClassifier(channels=(8, 16), hidden=16, compile=compile)
        shown = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        trainer = Trainer(accelerator="cpu", precision=precision, fast_dev_run=3, **shown)
        trainer.fit(network.double() if double else network, MNISTDataModule(source="sample"))
        losses.append(float(trainer.callback_metrics["val/loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=0 if precision != "bf16-mixed" else 0.02) and losses[0] < 2.6


def test_a_machine_without_a_compiler_trains_and_says_so_once(tmp_path):
    nothing = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "CXX": "none"}
    done = spawn(tmp_path, "fit", *SMALL, "--trainer.max_epochs=1", "--trainer.accelerator=cpu", **nothing)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("step.cpp cannot be used") == 1 and "'none'" in done.stderr
    (summary,) = tmp_path.rglob("summary.json")
    assert json.loads(summary.read_text())["convolutions"] == "PyTorch"


@pytest.mark.slow
def test_ten_processes_compile_at_once(tmp_path):
    code = "from mnist_lightning.speed.compiling import library; print(library(8, 16, 3, 2)._name)"
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    start = [sys.executable, "-c", code]
    running = [
        subprocess.Popen(start, stdout=subprocess.PIPE, text=True, env=environment, cwd=PROJECT) for _ in range(10)
    ]
    names = {process.communicate(timeout=120)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0] * 10
    assert names == {str(path) for path in (tmp_path / "mnist-lightning").iterdir()} and len(names) == 1


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_threads_write_to_no_place_of_another_and_no_place_outside(tmp_path, sanitizer):
    options = [f"-D{name}={value}" for name, value in {"IC": 16, "OC": 32, "K": 3, "P": 2, "BYTES": 32}.items()]
    build = ["g++", "-std=c++17", "-O1", "-g", "-march=native", "-pthread", f"-fsanitize={sanitizer}", *options]
    subprocess.run(
        [*build, str(PROJECT / "tests" / "threads.cpp"), "-o", tmp_path / "threads"], check=True, timeout=120
    )
    done = subprocess.run([tmp_path / "threads"], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
