"""The machine's rate of matrix products in GFLOP/s, the faster of PyTorch's two libraries for them.

Square matrices are multiplied by MKL (fp32) or oneDNN (bf16); the network's second convolution, a product of matrices
too, is always oneDNN's. Which one is faster depends on the processor.
"""

import json
import statistics
from collections.abc import Callable
from time import perf_counter

import torch
import torch.nn.functional as F
from measure import arguments

options = arguments(__doc__, precisions=("fp32", "bf16"))
dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.precision]


def rate(operations: float, product: Callable[[], object]) -> float:
    times = []
    for _ in range(25):
        begin = perf_counter()
        product()
        times.append(perf_counter() - begin)
    return operations / statistics.median(times[5:]) / 1e9


matrices = 0.0
for size in (1024, 2048):
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    matrices = max(matrices, rate(2 * size**3, lambda a=a, b=b: a @ b))
images = torch.randn(128, 32, 26, 26).to(dtype).to(memory_format=torch.channels_last)
kernel = torch.randn(64, 32, 3, 3).to(dtype).to(memory_format=torch.channels_last)
with torch.no_grad():
    convolution = rate(2 * 128 * 24 * 24 * 64 * 32 * 9, lambda: F.conv2d(images, kernel))
line = {"matrices": matrices, "convolution": convolution, "gflops": max(matrices, convolution)}
print(json.dumps({"precision": options.precision, **line}))
