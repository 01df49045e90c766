"""The equations of the ET in torch operations; every kernel computes the same, faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from georecon.graph import Edges, FoundEdges, scatter_sum
from georecon.kernels.filters import Filters

if TYPE_CHECKING:
    from jaxtyping import Float


class Neighbors(NamedTuple):
    """Directed edges of a batch, sorted by target, and the pairs of atoms that share one filter.

    Attributes:
        source, target: atoms j and i of each edge, (E,).
        pair: pair of each edge, (E,); its self loops share the first pair of a molecule.
        rows: first edge of each atom, (N + 1,).
        first, second, ways: atoms of each pair and which edges it has, (P,); see
            :class:`georecon.graph.Edges`.
        atoms, pairs: first atom and first pair of each molecule, (B + 1,).
        links: what the GPU kernels make of them, see ``georecon.kernels.attention.prepare``.
    """

    source: Tensor
    target: Tensor
    pair: Tensor
    rows: Tensor
    first: Tensor
    second: Tensor
    ways: Tensor
    atoms: Tensor
    pairs: Tensor
    links: Any = None

    @classmethod
    def of(cls, edges: Edges | FoundEdges, atoms: Tensor) -> Neighbors:
        """Edges of molecules with these first atoms, (B + 1,)."""
        named = {name: getattr(edges, name) for name in cls._fields if hasattr(edges, name)}
        return cls(**named, atoms=atoms)

    def first_molecules(self, count: int) -> Neighbors:
        """Those of the first molecules of the batch, without links."""
        atoms, pairs = self.atoms[: count + 1], self.pairs[: count + 1]
        rows, p = self.rows[: int(atoms[-1]) + 1], int(pairs[-1])
        e = int(rows[-1])
        edges = (self.source[:e], self.target[:e], self.pair[:e])
        return Neighbors(*edges, rows, self.first[:p], self.second[:p], self.ways[:p], atoms, pairs)


class AttentionForm(NamedTuple):
    """How attention is formed.

    Attributes:
        heads: number of heads H; channels are split among them.
        vector_cutoff: whether the cutoff multiplies the vectors' values too, as it does the
            attention weights.
    """

    heads: int
    vector_cutoff: bool


def reference_attention(
    qkv: Tensor,
    vec: Tensor | None,
    filters: Filters,
    unit: Tensor,
    cutoff: Tensor,
    neighbors: Neighbors,
    heads: AttentionForm,
) -> tuple[Tensor, Tensor]:
    """The equations in torch operations; arguments and result as of :func:`edge_attention`."""
    source, target, pair = neighbors.source, neighbors.target, neighbors.pair
    atoms = qkv.shape[0]
    dk, d0, d1, d2 = filters.of_pairs().to(qkv.dtype).index_select(0, pair).chunk(4, dim=-1)
    q, k, *values = qkv.chunk(5, dim=-1)
    v0, v1, v2 = (value.index_select(0, source) for value in values)  # (E, F) each
    near = cutoff[pair][:, None]
    score = q.index_select(0, target) * k.index_select(0, source) * dk
    weight = functional.silu(score.unflatten(1, (heads.heads, -1)).sum(-1)) * near  # (E, H)
    scalar = (v0 * d0).unflatten(1, (heads.heads, -1)) * weight[..., None]
    sign = torch.where(source > target, 1.0, -1.0).to(unit.dtype)[:, None]
    arrow = unit[pair] * sign  # (E, 3), from target to source
    gate1, gate2 = v1 * d1, v2 * d2
    if heads.vector_cutoff:
        gate1, gate2 = gate1 * near, gate2 * near
    vector = gate2[:, None] * arrow[..., None]  # (E, 3, F)
    if vec is not None:
        vector = torch.addcmul(vector, vec.index_select(0, source), gate1[:, None])
    return scatter_sum(scalar.flatten(1), target, atoms), scatter_sum(vector, target, atoms)


def reference_update(
    o: Float[Tensor, "N W"], p: Float[Tensor, "N 3 W"]
) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N 3 F"]]:
    """The equations in torch operations; arguments and result as of :func:`layer_update`."""
    o1, o2, o3 = o.chunk(3, dim=-1)
    p1, p2, p3 = p.chunk(3, dim=-1)
    return (p1 * p2).sum(dim=1) * o2 + o3, p3 * o1[:, None]


def polar_factor(lower: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N 3 3"]:
    """Orthogonal factor W of ``L = P W`` with P = (L Lᵀ)^{1/2}, for lower triangular L.

    ``W = (i1 cof(L) + (i1² − i2) L − L Lᵀ L) / (i1 i2 − i3)`` with the invariants i of P. The
    denominator is the product of the three sums of two singular values.

    Args:
        lower: (N, 3, 3) with positive diagonal, so that ``i3 = det L`` suffers no cancellation.
    """
    one, two, three = lower.unbind(-2)
    cross = torch.linalg.cross
    cofactors = torch.stack([cross(two, three), cross(three, one), cross(one, two)], dim=-2)
    first, second, third = lower.diagonal(dim1=-2, dim2=-1).unbind(-1)
    i3 = first * second * third  # the gradient of ``prod`` makes the host wait for a GPU
    i1, i2 = _root_invariants(lower.square().sum((-2, -1)), cofactors.square().sum((-2, -1)), i3)
    numerator = i1[:, None, None] * cofactors + (i1**2 - i2)[:, None, None] * lower
    numerator = numerator - lower @ lower.mT @ lower
    return numerator / (i1 * i2 - i3)[:, None, None]


def _root_invariants(trace: Tensor, second: Tensor, i3: Tensor) -> tuple[Tensor, Tensor]:
    """First two invariants of P from those of P² and the third of P: (N,) each.

    They obey ``i1² = I1 + 2 i2`` and ``i2² = I2 + 2 i3 i1``. Inserting one into the other contracts
    by at least 9 a step, whatever the singular values; Newton steps finish. The last two carry the
    derivatives: exact to third order.
    """
    with torch.no_grad():
        i1 = (3.0 * trace).sqrt()
        for _ in range(3):
            i2 = (second + 2.0 * i3 * i1).sqrt()
            i1 = (trace + 2.0 * i2).sqrt()
        for _ in range(2):
            i1, i2 = _newton(i1, i2, trace, second, i3)
    for _ in range(2):
        i1, i2 = _newton(i1, i2, trace, second, i3)
    return i1, i2


def _newton(
    i1: Tensor, i2: Tensor, trace: Tensor, second: Tensor, i3: Tensor
) -> tuple[Tensor, Tensor]:
    """One Newton step on both equations."""
    error1 = i1**2 - trace - 2.0 * i2
    error2 = i2**2 - second - 2.0 * i3 * i1
    scale = 2.0 * (i1 * i2 - i3)
    return i1 - (i2 * error1 + error2) / scale, i2 - (i3 * error1 + i1 * error2) / scale
