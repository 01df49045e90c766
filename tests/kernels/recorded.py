"""Recorded steps for tests: real recordings on a GPU, rehearsed ones in the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from georecon.training.replay import Terms, recorded
from tests.kernels.triton_kernels import DEVICE


def rehearsed(function: Callable[[], Terms]) -> tuple[Callable[[], None], Terms]:
    """A recording for CPUs: the function again, its result in the same place."""
    terms = function()

    def again() -> None:
        found = function()
        terms.values.copy_(found.values)
        terms.gradient.copy_(found.gradient)

    return again, terms


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
