"""Recorded steps for tests: real recordings on a GPU, rehearsed ones in the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from georecon.training.loop import Task, Trainer
from georecon.training.replay import Replay, Terms, recorded
from tests.kernels.triton_kernels import DEVICE
from tests.training.toy_run import settings


def rehearsed(function: Callable[[], Terms]) -> tuple[Callable[[], None], Terms]:
    """A recording for CPUs: the function again, its result in the same place."""
    terms = function()

    def again() -> None:
        found = function()
        terms.values.copy_(found.values)
        terms.gradient.copy_(found.gradient)

    return again, terms


def trained(task: Task, folder: Path, record: Any, steps: int = 4) -> Any:
    """Losses and weights of so many steps, and what was recorded; None launches them."""
    trainer = Trainer(task, settings(steps=steps, evaluations=1, batch_size=3), folder, "x")
    if record is not None:
        trainer.replay = Replay(trainer._differentiate, record)
    losses = [trainer.train_step() for _ in range(steps)]
    return losses, trainer.optimizer.flat.detach().cpu(), trainer.replay


RECORD = recorded if DEVICE == "cuda" else rehearsed


class Waits(TorchDispatchMode):
    """Refuses operations whose result the host, or the size of an array, depends on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "item", "masked_select", "unique")
        return func(*args, **(kwargs or {}))


def without_kernels(qkv: Tensor, vec: Tensor | None, filters: Any, unit: Tensor, *_: Any) -> Any:
    message = qkv.chunk(5, dim=1)[0] * filters.of_pairs().sum().sin()
    vector = message[:, None] * unit.square().sum(0).sin()[:, None]
    return message, vector if vec is None else vector + vec
