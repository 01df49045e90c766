"""Gates of heads and decoders: what stands between their matrix products.

On CPUs ``gates.cpp`` computes each function in one pass, which takes torch five to ten operations,
and its two derivatives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from georecon.graph import MolGraph
from georecon.kernels import native
from georecon.kernels.autograd import Arrays, Operation

if TYPE_CHECKING:
    from jaxtyping import Float


def smallest_square(dtype: torch.dtype) -> float:
    """Square of a length that is rounding error alone."""
    return float((1000.0 * torch.finfo(dtype).eps) ** 2)


def safe_norm(vec: Tensor, dim: int) -> Tensor:
    """Euclidean norm whose derivatives are 0, not NaN, for vectors that are zero but for rounding.

    Without the floor, a vector that vanishes by symmetry has a gradient of length one in a random
    direction, the direction of its rounding error.
    """
    return vec.square().sum(dim).clamp(min=smallest_square(vec.dtype)).sqrt()


def with_lengths(x: Float[Tensor, "N F"], vec: Float[Tensor, "N 3 F"]) -> Float[Tensor, "N W"]:
    """Scalars (N, F) and the lengths of vectors (N, 3, F), side by side, (N, 2F)."""
    if native.kernel(x.device.type) != "native":
        return torch.cat([x, safe_norm(vec, dim=1)], dim=-1)
    joined: Tensor = _Lengths().apply(x, vec)[0]
    return joined


def activated_gate(
    u: Float[Tensor, "N W"], vec: Float[Tensor, "N 3 F"]
) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N 3 F"]]:
    """Gate vectors.

    Args:
        u: scalars and gates side by side, (N, 2F).
        vec: what is gated, (N, 3, F).

    Returns:
        SiLU of the scalars (N, F), and gated vectors (N, 3, F).
    """
    if native.kernel(u.device.type) == "native":
        scalars, vectors = _Gates().apply(u, vec)
        return scalars, vectors
    x, gates = u.chunk(2, dim=-1)
    return functional.silu(x), gates[:, None] * vec


def modulate(
    m: Float[Tensor, "B W"], x: Float[Tensor, "N F"], vec: Float[Tensor, "N 3 F"], graph: MolGraph
) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N 3 F"]]:
    """``(1 + a)·x + b`` and ``(1 + c)·vec`` with one (a, b, c) for all atoms of a molecule.

    Args:
        m: a, b and c side by side, (B, 3F).
        x: scalars, (N, F).
        vec: vectors, (N, 3, F).
        graph: the molecules.
    """
    if native.kernel(x.device.type) == "native":
        scalars, vectors = _Modulation(graph.ptr).apply(m, x, vec)
        return scalars, vectors
    a, b, c = m[graph.batch].chunk(3, dim=-1)
    return (1 + a) * x + b, (1 + c)[:, None] * vec


class _Lengths(Operation):
    """``vector_lengths``."""

    entry = "vector_lengths"
    inputs = ("x", "vec")

    def arguments(self, *inputs: Any) -> dict[str, Tensor | int | None]:
        """Sizes, and the smallest square."""
        x: Tensor = inputs[0]
        return {
            **_sizes(x, x.shape[1]),
            "smallest": native.number(smallest_square(x.dtype)),
        }

    def outputs(self, *inputs: Any) -> Arrays:
        """Scalars and lengths."""
        x: Tensor = inputs[0]
        return {"y": x.new_empty(x.shape[0], 2 * x.shape[1])}


class _Gates(Operation):
    """``gated_vectors``."""

    entry = "gated_vectors"
    inputs = ("u", "vec")

    def arguments(self, *inputs: Any) -> dict[str, Tensor | int | None]:
        """Sizes."""
        u: Tensor = inputs[0]
        return _sizes(u, u.shape[1] // 2)

    def outputs(self, *inputs: Any) -> Arrays:
        """Scalars and gated vectors."""
        u, vec = inputs
        return {"y": u.new_empty(u.shape[0], u.shape[1] // 2), "w": torch.empty_like(vec)}


class _Modulation(Operation):
    """``feature_modulation``."""

    entry = "feature_modulation"
    inputs = ("m", "x", "vec")

    def __init__(self, atoms: Tensor) -> None:
        self.atoms = atoms

    def arguments(self, *inputs: Any) -> dict[str, Tensor | int | None]:
        """Sizes, and which atoms are a molecule's."""
        m, x, _ = inputs
        return {
            "molecules": m.shape[0],
            "channels": x.shape[1],
            "type": native.TYPES[x.dtype],
            "atoms": self.atoms,
        }

    def outputs(self, *inputs: Any) -> Arrays:
        """Scalars and vectors."""
        _, x, vec = inputs
        return {"y": torch.empty_like(x), "w": torch.empty_like(vec)}


def _sizes(x: Tensor, channels: int) -> dict[str, Tensor | int | None]:
    return {"atoms": x.shape[0], "channels": channels, "type": native.TYPES[x.dtype]}
