"""The paper's MNIST experiment as a PyTorch Lightning project."""

from importlib import import_module
from typing import Any

# Imported when asked for, so that `--help`, `study` and `report` start without torch.
_PUBLIC = {"MNISTClassifier": "model", "MNISTDataModule": "data", "experiment": "experiment", "commands": "commands"}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_PUBLIC[name]}")
    return module if name == _PUBLIC[name] else getattr(module, name)
