"""Layer norm of atoms' scalar features."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from georecon.models import native
from georecon.models.twice import Arrays, Operation

_PARTS, _ROWS = 8, 16  # most parts that are computed at the same time, fewest rows of each


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` over F channels, on CPUs with ``norm.cpp``: torch composes its second
    derivative of thirty operations, one of training on forces.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, F) → (N, F)."""
        if native.kernel(input.device.type) != "native":
            return super().forward(input)
        normed: Tensor = _Norm().apply(input, self.weight, self.bias)[0]
        return normed


class _Norm(Operation):
    entry = "layer_norm"
    inputs = ("x", "weight", "bias")
    of_weights = frozenset({"weight", "bias"})

    def arguments(self, *inputs: Any) -> dict[str, Tensor | int | None]:
        """Sizes."""
        x: Tensor = inputs[0]
        return {
            "atoms": x.shape[0],
            "channels": x.shape[1],
            "type": native.TYPES[x.dtype],
            "parts": parts_of(x.shape[0]),
        }

    def outputs(self, *inputs: Any) -> Arrays:
        """Normalised features."""
        x: Tensor = inputs[0]
        return {"y": x.new_empty(x.shape)}

    def parts(self, *inputs: Any) -> dict[str, int]:
        """Gradients of weights are sums over atoms."""
        count = parts_of(inputs[0].shape[0])
        return {"weight": count, "bias": count}


def parts_of(atoms: int) -> int:
    """Parts of the atoms that a norm computes at the same time, whatever the number of threads."""
    return max(1, min(_PARTS, atoms // _ROWS))
