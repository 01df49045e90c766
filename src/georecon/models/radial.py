"""Radial functions of distance: cosine cutoff, exponential-normal basis, and its grid."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from georecon.kernels.filters import Places, grid_rows

NODES_PER_FUNCTION, NODES = 12, 256
"""Nodes of the grid: so many for each radial function, but at least so many in all. Interpolated
filters are then as exact as float32 (tests/models/test_parts.py)."""
NEGLIGIBLE = 1e-17
"""Functions of a node beside its largest that are set to zero, less than a rounding error of it:
the kernel leaves them out."""


def cosine_cutoff(length: Tensor, cutoff: float) -> Tensor:
    """``(cos(π d / d_cut) + 1) / 2`` inside the cutoff, 0 outside: (E,) → (E,) (Behler 2011)."""
    inside = (length < cutoff).to(length.dtype)
    return 0.5 * (torch.cos(length * (math.pi / cutoff)) + 1.0) * inside


class ExpNormalBasis(nn.Module):
    """Exponential-normal radial basis (PhysNet) with fixed centres and widths.

    ``φ_k(d) = cutoff(d) · exp(−β_k (exp(−α d) − μ_k)²)`` with ``α = 5 / d_cut``, TorchMD-NET's
    default.

    Args:
        cutoff: cutoff distance [Å].
        size: number of functions K.
    """

    means: Tensor
    betas: Tensor

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.cutoff, self.alpha = cutoff, 5.0 / cutoff
        start = math.exp(-cutoff)
        means = torch.linspace(start, 1.0, size)
        betas = torch.full((size,), (2.0 / size * (1.0 - start)) ** -2)
        self.register_buffer("means", means, persistent=False)
        self.register_buffer("betas", betas, persistent=False)

    def forward(self, length: Tensor) -> Tensor:
        """Distances [Å] (E,) → basis (E, K)."""
        centred = torch.exp(-self.alpha * length)[:, None] - self.means  # (E, K)
        return cosine_cutoff(length, self.cutoff)[:, None] * torch.exp(-self.betas * centred**2)

    def grid(self, length: Tensor) -> Grid:
        """Radial functions on a grid, and where on it pairs of these distances [Å] (P,) lie.

        Only the nodes that a pair reads are there: no molecule has atoms closer than a bond.
        """
        rbf, cutoff, first = _nodes(self.cutoff, self.means.shape[0])
        step = (1.0 - first) / (rbf.shape[0] - 1)
        node = (torch.exp(-0.5 * self.alpha * length.double()) - first) / step
        rows = grid_rows(node, rbf.shape[0])
        places = Places(rows.row, (node - rows.before).to(length.dtype))
        return Grid(rbf[rows.kept], cutoff[rows.kept], places)


class Grid(NamedTuple):
    """Nodes of a grid over all distances within the cutoff, evenly spaced in ``exp(−α d / 2)``.

    That spacing is about as narrow as the basis at short distances and as the cutoff function at
    long ones.

    Attributes:
        rbf: radial basis of each node, (T, K) float64: forces are differences of neighbouring
            nodes, which rounding to float32 would spoil.
        cutoff: cosine cutoff of each node, (T,) float64.
        places: of pairs on it, counted from the farthest node that is there. The six that a pair
            reads lie next to each other.
    """

    rbf: Tensor
    cutoff: Tensor
    places: Places


@functools.cache
def _nodes(cutoff: float, size: int) -> tuple[Tensor, Tensor, float]:
    """What the nodes of the grid hold, from the cutoff to distance 0.

    Returns:
        Radial basis (T, K), cosine cutoff (T,), and ``exp(−α d / 2)`` of the first node.
    """
    basis = ExpNormalBasis(cutoff, size)
    first = math.exp(-0.5 * basis.alpha * cutoff)
    count = max(NODES, NODES_PER_FUNCTION * size)
    nodes = torch.linspace(first, 1.0, count, dtype=torch.float64)
    length = nodes.log() * (-2.0 / basis.alpha)
    rbf = basis(length)
    rbf[rbf < NEGLIGIBLE * rbf.amax(1, keepdim=True)] = 0.0
    return rbf, cosine_cutoff(length, cutoff), first
