"""What `validate` and `test` print."""

from collections.abc import Mapping

from lightning.pytorch import Trainer

from mnist_lightning.data import MNISTDataModule


def evaluates_a_part(trainer: Trainer, command: str) -> bool:
    """Whether `validate` or `test` evaluates some of the images only."""
    limit = {"validate": trainer.limit_val_batches, "test": trainer.limit_test_batches}.get(command, 1.0)
    return bool(trainer.fast_dev_run) or isinstance(limit, int) or limit < 1  # type: ignore[attr-defined]


def evaluated_images(trainer: Trainer, command: str, data: MNISTDataModule) -> int:
    """How many of the test images `validate` or `test` evaluates."""
    batches = {"validate": trainer.num_val_batches, "test": trainer.num_test_batches}[command]
    return min(int(sum(batches)) * data.batch_size, len(data.test_digits))


def evaluation_table(
    metrics: Mapping[str, float], data: MNISTDataModule, trained: str | None, trainer: Trainer, command: str
) -> str:
    """Which images were evaluated, and each metric on a line of its own."""
    images = len(data.test_digits)
    other = f", but the checkpoint was trained on {trained}: not logged"
    note = "" if trained in (None, data.found) else other
    if evaluates_a_part(trainer, command):
        note = f" of {images}: not logged"
        images = evaluated_images(trainer, command, data)
    lines = [f"{'data':<14}{data.found}, {images} images{note}"]
    lines += [f"{name:<14}{value:.5f}" for name, value in metrics.items() if name != "step"]
    return "\n".join(lines)
