"""Layer norm of atoms' scalar features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from georecon.models import native
from georecon.models.twice import Arrays, Operation

_PARTS, _ROWS = 8, 16  # most parts that are computed at the same time, fewest rows of each


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` over F channels, on CPUs with ``norm.cpp``: torch composes its second
    derivative of thirty operations, one of training on forces.
    """

    def __init__(self, channels: int, eps: float = 1e-5, dtype: torch.dtype | None = None) -> None:
        super().__init__(channels, eps, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        """(N, F) → (N, F)."""
        if native.kernel(input.device.type) != "native":
            return super().forward(input)
        normed: Tensor = _Norm(self.eps).apply(input, self.weight, self.bias)[0]
        return normed


class NormOperation(Operation):
    """A norm of the features of each atom, its first input, regularised by ``eps``.

    Gradients of weights are sums over parts of the atoms, whatever the number of threads.
    """

    def __init__(self, eps: float) -> None:
        self.eps = torch.tensor(eps, dtype=torch.float64)

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


class _Norm(NormOperation):
    """``norm.cpp``."""

    entry = "layer_norm"
    inputs = ("x", "weight", "bias")
    of_weights = frozenset({"weight", "bias"})
