"""A GPU that is not there: PyTorch's fake tensors know their device, type and shape, and compute nothing.

Every operation passes the same dispatch as on a GPU, so the tests see which ones a step calls, on which device, and which
of them make the host wait. What NVIDIA's libraries launch within an operation is not seen.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mnist_lightning import data, experiment
from mnist_lightning.data import MNISTDataModule
from mnist_lightning.model import MNISTClassifier

GPU = torch.device("cuda", 0)
# Their result is a number of the host, or has a shape that only the result tells.
WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2", "synchronize")


class Operation(NamedTuple):
    """One operation, and where in the fit it was called."""

    step: str  # such as `training 3`, counted from the fit's start; empty between steps
    name: str
    devices: frozenset[str]  # kinds, of all tensors in and out
    result: frozenset[str]  # kinds, of the tensors out
    launches: bool  # whether a GPU has something to do

    @property
    def waits(self) -> bool:
        """Whether the host waits for the GPU, or the GPU for the host."""
        return "cuda" in self.devices and (self.name in WAITING or len(self.devices) > 1)


class FakeAccelerator(Accelerator):
    def setup_device(self, device: torch.device) -> None: ...

    def teardown(self) -> None: ...

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @staticmethod
    def parse_devices(devices: Any) -> list[int]:
        return [0]

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [GPU]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return "fake"


class Watch(TorchDispatchMode):
    """Notes all operations on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.step = ""
        self.seen: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        space, name = func._schema.name.split("::")
        kwargs = kwargs or {}
        if space != "aten":
            return func(*args, **kwargs)
        if name == "_local_scalar_dense":
            result = 0.5 if args[0].is_floating_point() else args[0].dtype != torch.bool
        else:
            result = func(*args, **kwargs)
        given, got = (frozenset(t.device.type for t in tree_leaves(x) if isinstance(t, Tensor)) for x in (args, result))
        on_gpu = "cuda" in given | got
        launches = on_gpu and not func.is_view and not name.startswith(("empty", "new_empty"))
        self.seen.append(Operation(self.step, name, given | got, got, launches))
        return result


def backward(loss: Tensor, *_: Any, **__: Any) -> None:
    """Calls the graph's own nodes one by one, since PyTorch's engine asks the driver for a stream."""
    uses: Counter[Any] = Counter()
    todo, known = [loss.grad_fn], {loss.grad_fn}
    while todo:
        for node, _ in todo.pop().next_functions:
            uses[node] += 1
            if node is not None and node not in known:
                known.add(node)
                todo.append(node)
    with torch.no_grad():
        ready, gradients = [loss.grad_fn], {loss.grad_fn: [torch.ones_like(loss)]}
        while ready:
            this = ready.pop()
            if hasattr(this, "variable"):
                (this.variable.grad,) = gradients[this]
                continue
            results = this(*gradients[this])
            for (node, place), gradient in zip(
                this.next_functions, results if isinstance(results, tuple) else (results,), strict=True
            ):
                if node is None:
                    continue
                metas = node._input_metadata
                if gradient is not None:
                    # As the engine does for what was broadcast, such as a bias.
                    if list(gradient.shape) != list(metas[place].shape):
                        gradient = gradient.sum_to_size(metas[place].shape)
                    slots = gradients.setdefault(node, [None] * len(metas))
                    slots[place] = gradient if slots[place] is None else slots[place] + gradient
                uses[node] -= 1
                if not uses[node]:
                    ready.append(node)


@contextmanager
def steps_are_told(watch: Watch) -> Iterator[None]:
    """A training step begins with asking for its batch, a validation step with having it; both end with their last hook."""
    begun: Counter[str] = Counter()

    def told(method: Any, kind: str) -> Any:
        def step(loop: Any, *args: Any) -> Any:
            watch.step = f"{kind} {begun[kind]}"
            begun[kind] += 1
            try:
                return method(loop, *args)
            finally:
                watch.step = ""

        return step

    with pytest.MonkeyPatch.context() as patch:
        for loop, method, kind in (
            (_TrainingEpochLoop, "advance", "training"),
            (_EvaluationLoop, "_evaluation_step", "validation"),
        ):
            patch.setattr(loop, method, told(getattr(loop, method), kind))
        yield


def fit(module: MNISTClassifier, folder: Path, **settings: Any) -> list[Operation]:
    """All operations of a fit of two epochs of three steps on a fake GPU, with our callbacks and a whole run folder."""
    images = MNISTDataModule(source="sample", batch_size=480)
    sets = images.load()
    images.load = lambda: sets  # type: ignore[method-assign]
    watch = Watch()
    stub = Operation("", "synchronize", frozenset({"cuda"}), frozenset(), False)
    with pytest.MonkeyPatch.context() as patch, steps_are_told(watch):
        patch.chdir(folder)
        patch.setattr(data, "_fingerprint", lambda *sets: "")
        patch.setattr(torch.autograd, "backward", backward)
        patch.setattr(torch.accelerator, "synchronize", lambda _: watch.seen.append(stub._replace(step=watch.step)))
        patch.setattr(torch.cuda, "get_device_name", lambda _: "none")
        patch.setattr(type(module), "cpu", lambda self: self)  # at the end, which these tensors cannot
        patch.setattr(FakeTensor, "__deepcopy__", lambda self, memo: self.detach().clone(), raising=False)
        patch.setattr(FakeTensor, "__format__", lambda self, form: format(self.item(), form), raising=False)
        patch.setattr(FakeTensor, "tolist", lambda self: [part.item() for part in self.unbind()], raising=False)
        with FakeTensorMode(allow_non_fake_inputs=True), watch:
            trainer = Trainer(
                **experiment.trainer_settings(
                    accelerator=FakeAccelerator(),
                    strategy=SingleDeviceStrategy(device=GPU),
                    **{"max_epochs": 2, **settings},
                    limit_train_batches=3,
                    enable_checkpointing=False,
                ),
                callbacks=experiment.callbacks([], checkpoint=False),
            )
            trainer.fit(module, images)
    return watch.seen
