"""Which programs are compared, and whose rate is divided by whose."""

from typing import NamedTuple

BATCH_SIZES = (32, 128, 512, 2048)


class Program(NamedTuple):
    """One row of the tables.

    Args:
        file: Of this folder, or `fit`.
        precision: `fp32` or `bf16`.
    """

    file: str
    precision: str = "fp32"

    @property
    def has_precisions(self) -> bool:
        return self.file in ("raw_loop.py", "keras_paper.py")


OURS, OURS_BF16 = "this project", "this project, bf16"
RAW, RAW_BF16 = "raw loop", "raw loop, bf16"
KERAS, KERAS_BF16 = "Keras on TensorFlow", "Keras on TensorFlow, mixed_bfloat16"
TUTORIAL, EXAMPLE = "PyTorch tutorial", "Lightning example"
PROGRAMS = {
    OURS: Program("fit"),
    RAW: Program("raw_loop.py"),
    KERAS: Program("keras_paper.py"),
    TUTORIAL: Program("pytorch_tutorial.py"),
    EXAMPLE: Program("lightning_example.py"),
    OURS_BF16: Program("fit", "bf16"),
    RAW_BF16: Program("raw_loop.py", "bf16"),
    KERAS_BF16: Program("keras_paper.py", "bf16"),
}
RATIOS = (
    *((OURS, peer) for peer in (KERAS, TUTORIAL, EXAMPLE, RAW)),
    *((OURS_BF16, peer) for peer in (KERAS_BF16, KERAS, RAW_BF16)),
)
