"""What PyTorch's compiler would give a GPU: its Triton code for our formulas, down to machine code, without a GPU.

A program of its own, since it tells PyTorch and Triton that an H100 is there. It prints a line of JSON for each formula. With
`TRITON_INTERPRET=1` it runs the dropout's hash on the processor, as Triton's interpreter understands it, instead.
"""

import json
import os
import re
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch._inductor.runtime.triton_heuristics as heuristics
import triton
from torch._dynamo.device_interface import CudaInterface
from torch._guards import TracingContext, tracing
from torch._inductor import config
from torch._inductor.compile_fx import compile_fx_inner
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime import triton_helpers
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim.adadelta import adadelta
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mnist_lightning.dropout import dropout, random_words
from mnist_lightning.speed import pooling

H100 = SimpleNamespace(
    name="H100", type="cuda", major=9, minor=0, multi_processor_count=132, warp_size=32, total_memory=80 << 30,
    max_threads_per_multi_processor=2048, max_threads_per_block=1024, regs_per_multiprocessor=65536,
    L2_cache_size=50 << 20, shared_memory_per_block=49152, shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472, clock_rate=1980000, is_integrated=0, gcnArchName="", uuid="",
)  # fmt: skip
TARGET = GPUTarget("cuda", H100.major * 10 + H100.minor, H100.warp_size)
BATCH, MAPS = 128, (128, 64, 24, 24)
Tensors = tuple[torch.Tensor, ...]


class Kernel(NamedTuple):
    """One generated function, as Triton has read it, and the names of what it is called with."""

    function: Any
    meta: dict[str, Any]
    arguments: list[str]


class Driver:
    """Answers as the driver of a GPU."""

    def get_current_target(self) -> GPUTarget:
        return TARGET

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *arguments, **options: 0


class Written(Exception):
    """Ends the compiler when it has written its code, which only a GPU can run."""


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype, device="cuda")


def update(*tensors: torch.Tensor) -> Tensors:
    """Adadelta as `configure_optimizers` has it on a GPU."""
    count = len(tensors) // 5
    lists = [list(tensors[place : place + count]) for place in range(0, len(tensors), count)]
    adadelta(*lists, foreach=True, capturable=True, lr=1.0, rho=0.95, eps=1e-7, weight_decay=0.0, maximize=False)
    return tuple(tensors)


def formulas() -> dict[str, tuple[Callable[..., Any], list[torch.Tensor]]]:
    """Our formulas with tensors of the shapes that they have at batch size 128."""
    maps = numbers(*MAPS).to(memory_format=torch.channels_last)
    rows, key = numbers(BATCH, dtype=torch.int64), numbers(dtype=torch.int64)
    winners = numbers(BATCH, 12, 12, 64, dtype=torch.uint8)
    units = numbers(BATCH, 128)
    parameters = [numbers(*shape) for shape in ((32, 1, 3, 3), (32,), (128, 9216), (128,))]
    state = [each.clone() for _ in range(4) for each in parameters] + [numbers() for _ in parameters]
    return {
        "pooling": (lambda *each: pooling._forward(each[0], 2, 0.25, *each[1:]), [maps, rows, key]),
        "its gradient": (
            lambda *each: (pooling._backward(*each, 2, 0.25, torch.Size(MAPS)),),
            [numbers(BATCH, 9216), winners],
        ),
        "words": (lambda *each: (random_words(each[0], 16, each[1]),), [rows, key]),
        "dropout .5": (lambda *each: (dropout(each[0], 0.5, *each[1:]),), [units, rows, key]),
        "dropout .3": (lambda *each: (dropout(each[0], 0.3, *each[1:]),), [units, rows, key]),
        "Adadelta": (update, state),
    }


def pretend() -> None:
    """Tells PyTorch and Triton that the GPU is there."""
    triton.runtime.driver.set_active(Driver())
    mock.patch.object(triton_helpers, "set_driver_to_gpu", lambda: None).start()
    answers = {
        "is_available": True, "device_count": 1, "current_device": 0, "get_device_properties": H100,
        "get_device_capability": (9, 0), "synchronize": None, "_lazy_init": None, "set_device": None,
        "_exchange_device": 0, "_maybe_exchange_device": 0,
        "get_rng_state": torch.zeros(16, dtype=torch.uint8), "set_rng_state": None,
    }  # fmt: skip
    for name, answer in answers.items():
        mock.patch(f"torch.cuda.{name}", lambda *a, _answer=answer, **k: _answer).start()
    for name in ("setDevice", "getDevice", "exchangeDevice", "maybeExchangeDevice"):
        setattr(torch._C, f"_cuda_{name}", lambda *arguments: 0)
    answers |= {"get_compute_capability": 90, "is_triton_capable": True, "raise_if_triton_unavailable": None}
    answers |= {"exchange_device": 0, "maybe_exchange_device": 0}
    for name, answer in answers.items():
        setattr(CudaInterface, name, staticmethod(lambda *a, _answer=answer: _answer))
    for name in ("get_device_properties", "current_device"):
        setattr(CudaInterface.Worker, name, staticmethod(lambda *a, _answer=answers[name]: _answer))


def written(graph: torch.fx.GraphModule, tensors: list[torch.Tensor], mode: FakeTensorMode) -> str:
    """The Python program that the compiler writes for a graph, with its kernels inside."""
    texts = []

    def stop(lowering: GraphLowering) -> None:
        code = lowering.codegen()[0]
        texts.append(getattr(code, "value", code))
        raise Written

    with mock.patch.object(GraphLowering, "compile_to_module", stop), tracing(TracingContext(mode)):
        try:
            compile_fx_inner(graph, tensors)
        except Exception:
            if not texts:
                raise
    return texts[0]


def kernels(program: str) -> list[Kernel]:
    found: dict[str, tuple[Any, dict[str, Any]]] = {}

    def keep(name: str) -> Callable[..., Any]:
        def heuristic(*, triton_meta: dict[str, Any], **options: Any) -> Callable[[Any], Any]:
            return lambda function: found.setdefault(name, (function, triton_meta))[0]

        return heuristic

    calls = dict(re.findall(r"(triton_\w+)\.run\((.*?), stream=", program))
    for name, source in re.findall(r"async_compile\.triton\('(\w+)', '''(.*?)'''", program, re.DOTALL):
        kinds = ("pointwise", "reduction", "persistent_reduction", "foreach")
        with mock.patch.multiple(heuristics, **{kind: keep(name) for kind in kinds}):
            # A module, since Triton reads the source again.
            path = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"], f"{name}.py")
            path.write_text(source)
            spec = spec_from_file_location(name, path)
            assert spec is not None and spec.loader is not None
            spec.loader.exec_module(module_from_spec(spec))
    return [Kernel(*found[name], calls[name].split(", ")) for name in found]


def machine_code(kernel: Kernel) -> int:
    """The bytes of a kernel's machine code."""
    signature = {name: kernel.meta["signature"].get(name, "constexpr") for name in kernel.function.arg_names}
    constants = {name: 256 for name, kind in signature.items() if kind == "constexpr"} | kernel.meta.get(
        "constants", {}
    )
    places = {(kernel.function.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel.function, signature, places)
    return len(triton.compile(source, target=TARGET, options={"num_warps": 4}).asm["cubin"])


def interpreted(kernel: Kernel) -> bool:
    """Whether the words of the dropout, computed by the kernel for some rows and a key, are those that PyTorch computes."""
    rows, key, columns, block = torch.tensor([5, 0, 2047, 59_999] * 32), torch.tensor(-(2**62) - 12_345), 16, 256
    words = torch.zeros(len(rows), columns, dtype=torch.int64)
    given = {"arg0_1": rows, "arg1_1": key}
    tensors = [given.get(name, words) for name in kernel.arguments[:-1]]
    kernel.function[(words.numel() // block,)](*tensors, words.numel(), XBLOCK=block)
    return torch.equal(words, random_words(rows, columns, key))


def traced(name: str) -> tuple[torch.fx.GraphModule, list[torch.Tensor], FakeTensorMode]:
    """A formula as a graph of operations."""
    mode = FakeTensorMode()
    with mode, torch.no_grad():
        formula, tensors = formulas()[name]
        # Operations in place become others, as they do before the compiler sees them.
        pure = torch.func.functionalize(formula, remove="mutations")
        graph = make_fx(pure, decomposition_table=select_decomp_table())(*tensors)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph, tensors, mode


def main() -> None:
    config.compile_threads, config.force_disable_caches = 1, True
    interprets = os.environ.get("TRITON_INTERPRET") == "1"
    with FakeTensorMode():
        names = ["words"] if interprets else list(formulas())
    graphs = {name: traced(name) for name in names}
    pretend()
    for name, graph in graphs.items():
        found = kernels(written(*graph))
        told = [interpreted(each) for each in found] if interprets else [machine_code(each) for each in found]
        print(json.dumps({"formula": name, "kernels": told}), flush=True)


if __name__ == "__main__":
    main()
