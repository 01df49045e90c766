"""Norms of atoms' features on CPUs: ``norm.cpp`` and ``whiten.cpp`` in autograd."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from georecon.kernels import native
from georecon.kernels.autograd import Arrays, Operation

_PARTS, _ROWS = 8, 16  # most parts that are computed at the same time, fewest rows of each


class NormOperation(Operation):
    """A norm of each atom's features, its first input, regularised by ``eps``.

    Gradients of weights are summed over parts of the atoms, the same parts for any number of
    threads.
    """

    def __init__(self, eps: float) -> None:
        self.eps = native.number(eps)

    def arguments(self, *inputs: Any) -> dict[str, Tensor | int | None]:
        """Sizes and the regularisation."""
        x: Tensor = inputs[0]
        return {
            "atoms": x.shape[0],
            "channels": x.shape[-1],
            "type": native.TYPES[x.dtype],
            "parts": _parts(x),
            "eps": self.eps,
        }

    def outputs(self, *inputs: Any) -> Arrays:
        """Normalised features."""
        x: Tensor = inputs[0]
        return {"y": x.new_empty(x.shape)}

    def parts(self, *inputs: Any) -> dict[str, int]:
        """Gradients of weights are sums over atoms."""
        return dict.fromkeys(self.of_weights, _parts(inputs[0]))


def _parts(x: Tensor) -> int:
    return max(1, min(_PARTS, x.shape[0] // _ROWS))


class LayerNormOperation(NormOperation):
    """``norm.cpp``."""

    entry = "layer_norm"
    inputs = ("x", "weight", "bias")
    of_weights = frozenset({"weight", "bias"})


class WhitenedNormOperation(NormOperation):
    """``whiten.cpp``."""

    entry = "whitened_norm"
    inputs = ("vec", "weight")
    of_weights = frozenset({"weight"})
