"""Which programs are compared, and whose rate is divided by whose."""

from typing import NamedTuple

BATCH_SIZES = (32, 128, 512, 2048)


class Program(NamedTuple):
    """One row of the tables.

    Args:
        file: Of this folder, or `fit`.
        precision: `fp32` or `bf16`.
        devices: Processes of `fit`.
        backend: Keras's.
        images: Training images of an epoch. The slowest program has fewer, so that a comparison ends in two hours.
    """

    file: str
    precision: str = "fp32"
    devices: int = 1
    backend: str = ""
    images: int = 60000

    @property
    def has_precisions(self) -> bool:
        return self.file in ("raw_loop.py", "keras_paper.py")


OURS, OURS_BF16 = "this project", "this project, bf16"
TWO, TWO_BF16 = "this project, 2xcpu", "this project, 2xcpu, bf16"
RAW, RAW_BF16 = "raw loop", "raw loop, bf16"
KERAS_PEERS = {
    "Keras on TensorFlow": Program("keras_paper.py", backend="tensorflow"),
    "Keras on JAX": Program("keras_paper.py", backend="jax", images=12000),
    "Keras on PyTorch": Program("keras_paper.py", backend="torch"),
}
KERAS = list(KERAS_PEERS)
KERAS_BF16 = [f"{name}, mixed_bfloat16" for name in KERAS]
TUTORIAL, EXAMPLE = "PyTorch tutorial", "Lightning example"
PROGRAMS = {
    OURS: Program("fit"),
    TWO: Program("fit", devices=2),
    RAW: Program("raw_loop.py"),
    **KERAS_PEERS,
    TUTORIAL: Program("pytorch_tutorial.py"),
    EXAMPLE: Program("lightning_example.py"),
    OURS_BF16: Program("fit", "bf16"),
    TWO_BF16: Program("fit", "bf16", devices=2),
    RAW_BF16: Program("raw_loop.py", "bf16"),
    **{f"{name}, mixed_bfloat16": peer._replace(precision="bf16") for name, peer in KERAS_PEERS.items()},
}
RATIOS = (
    *((OURS, peer) for peer in (*KERAS, TUTORIAL, EXAMPLE, RAW)),
    *((OURS_BF16, peer) for peer in (*KERAS_BF16, KERAS[0], RAW_BF16)),
    (TWO, OURS),
    (TWO_BF16, OURS_BF16),
)
