"""What `validate` and `test` print."""

from collections.abc import Mapping

from mnist_lightning.data import MNISTDataModule


def evaluation_table(metrics: Mapping[str, float], data: MNISTDataModule, trained: str | None) -> str:
    """Which images were evaluated, and each metric on a line of its own."""
    other = f", but the checkpoint was trained on {trained}: not logged"
    note = "" if trained in (None, data.found) else other
    lines = [f"{'data':<14}{data.found}, {len(data.test_digits)} images{note}"]
    lines += [f"{name:<14}{value:.5f}" for name, value in metrics.items() if name != "step"]
    return "\n".join(lines)
