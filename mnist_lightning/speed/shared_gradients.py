"""Averages the gradients of CPU processes through memory that they share."""

import contextlib
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.distributed import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

IN_MEMORY = Path("/dev/shm")  # Linux keeps the files of this folder in memory


class SharedGradients(Callback):
    """Takes the place of gloo for DDP's gradients, where all processes run on the CPUs of one machine.

    Gloo sends them through the operating system's network, 4.8 MB a step, which takes several times as long as copying
    them. Here each process writes its own into memory that all of them can read, and gloo only says that they are there.
    Each process then adds them up in the order of ranks, so that all get the same bits.
    """

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        strategy = trainer.strategy
        on_one_machine = strategy.root_device.type == "cpu" and trainer.num_nodes == 1 and trainer.world_size > 1
        if not on_one_machine or not isinstance(strategy, DDPStrategy) or strategy._ddp_comm_hook is not None:
            return
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        dtypes = {parameter.dtype for parameter in parameters}
        if isinstance(strategy.model, DistributedDataParallel) and len(dtypes) == 1:
            memory = _shared_memory(trainer, sum(parameter.numel() for parameter in parameters), *dtypes)
            if memory is not None:
                strategy.model.register_comm_hook(Exchange(memory, trainer.global_rank), average)


class Exchange:
    """What is known of one process's exchange.

    Args:
        memory: [2, processes, gradients], shared. The steps take turns between its halves: while a process still reads
            those of one step, another may write those of the next.
        rank: Of this process.
    """

    def __init__(self, memory: Tensor, rank: int) -> None:
        self.memory, self.rank = memory, rank
        self.step = self.begin = 0
        self.waiting: list[tuple[Tensor, Tensor, Future[Tensor]]] = []


def average(exchange: Exchange, bucket: GradBucket) -> Future[Tensor]:
    """DDP's hook: the mean of one bucket of gradients over the processes, once the last bucket of the step is there."""
    gradients = bucket.buffer()
    end = exchange.begin + len(gradients)
    written = exchange.memory[exchange.step % 2, :, exchange.begin : end]
    written[exchange.rank].copy_(gradients)
    future: Future[Tensor] = Future()
    exchange.waiting.append((written, gradients, future))
    exchange.begin = end
    if bucket.is_last():
        waiting, exchange.waiting = exchange.waiting, []
        exchange.step, exchange.begin = exchange.step + 1, 0
        # A barrier, in effect. One for all buckets costs less than it would save to announce the first one early.
        announced = dist.all_reduce(torch.zeros(1), async_op=True).get_future()
        announced.then(lambda announced: _add_up(waiting, announced))
    return future


def _add_up(waiting: list[tuple[Tensor, Tensor, Future[Tensor]]], announced: Future[Any]) -> None:
    for written, gradients, mean in waiting:
        try:
            announced.value()  # raises if another process is lost
            torch.add(written[0], written[1], out=gradients)
            for others in written[2:]:
                gradients.add_(others)
            mean.set_result(gradients.div_(len(written)))
        except RuntimeError as error:
            mean.set_exception(error)  # type: ignore[arg-type]


def _shared_memory(trainer: Trainer, gradients: int, dtype: torch.dtype) -> Tensor | None:
    """Memory for an `Exchange`; None if there is no room for it."""
    shape = (2, trainer.world_size, gradients)
    with contextlib.ExitStack() as folders:
        path = None
        if trainer.is_global_zero:
            with contextlib.suppress(OSError):
                folder = tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
                file = Path(folders.enter_context(folder)) / "gradients"
                # Zeros are written, so that too little memory is noticed here, and not as a crash in training.
                file.write_bytes(bytes(math.prod(shape) * dtype.itemsize))
                path = file
        path = trainer.strategy.broadcast(path)
        if path is None:
            return None
        memory = torch.from_file(str(path), shared=True, size=math.prod(shape), dtype=dtype).view(shape)
        trainer.strategy.barrier()
    return memory  # which stays when its name goes
