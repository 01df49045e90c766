"""Edge attention: messages of an ET layer from node features and filters of distance.

With ``(q, k, v⁰, v¹, v²)`` the node features, ``(d^k, d⁰, d¹, d²)`` the SiLU of the filters of a
pair (linear in its radial basis), u its unit vector and C its cutoff, all sums over the neighbours
j of atom i (Thölke and De Fabritiis 2022, eqs. 5 to 9)::

    a = SiLU(Σ_D q_i k_j d^k) C        message_i = Σ_j a v⁰_j d⁰
    vector_i = Σ_j (v¹_j d¹ vec_j + v²_j d² u)

:func:`reference` says so in torch operations. On CPUs the kernel of ``attention.cpp`` computes the
same, its gradient and the derivative of its gradient without any array of one row an edge or a
pair; on GPUs the kernels of ``attention_triton.py`` do so for the first two.

DEVIATION: on CPUs, in float32, filters are not evaluated at each distance but on a grid, once a
step, and interpolated (:func:`georecon.models.radial.interpolate`). The difference is that of
rounding; the lineage's product of every pair with the weights was a quarter of a step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from georecon.graph import Edges, scatter_sum
from georecon.models import native
from georecon.models.filters import Filters
from georecon.models.twice import Arrays, Operation

_INDICES = ("atoms", "pairs", "first", "second", "ways")
PARTS, PART_BYTES = 8, 2**24
"""Parts of a batch that are computed at the same time, at most, and memory for what each of them
adds to the gradient of a table. Not the number of threads: results do not depend on that."""


class Neighbors(NamedTuple):
    """Directed edges of a batch, sorted by target, and the pairs of atoms that share one filter.

    Attributes:
        source, target: atoms j and i of each edge, (E,).
        pair: pair of each edge, (E,); its self loops share the first pair of a molecule.
        rows: first edge of each atom, (N + 1,).
        first, second, ways: atoms of each pair and which edges it has, (P,); see
            :class:`georecon.graph.Edges`.
        atoms, pairs: first atom and first pair of each molecule, (B + 1,).
        links: what the GPU kernels make of them, see :func:`prepare`.
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
    def of(cls, edges: Edges, atoms: Tensor) -> Neighbors:
        """Edges of molecules with these first atoms, (B + 1,)."""
        named = {name: getattr(edges, name) for name in cls._fields if hasattr(edges, name)}
        return cls(**named, atoms=atoms)


class Heads(NamedTuple):
    """How attention is formed.

    Attributes:
        heads: number of heads H; channels are split among them.
        vector_cutoff: the cutoff multiplies the values instead of the attention weights.
    """

    heads: int
    vector_cutoff: bool


def prepare(neighbors: Neighbors, pairs: int) -> Neighbors:
    """With what the kernels of their device need, made once for all layers.

    Args:
        neighbors: edges of a batch.
        pairs: number of pairs P.
    """
    if native.kernel(neighbors.source.device.type) != "triton":
        return neighbors
    from georecon.models import attention_triton

    return neighbors._replace(links=attention_triton.make_links(neighbors, pairs))


def edge_attention(
    qkv: Tensor,
    vec: Tensor | None,
    filters: Filters,
    unit: Tensor,
    cutoff: Tensor,
    neighbors: Neighbors,
    heads: Heads,
) -> tuple[Tensor, Tensor]:
    """Messages to each atom.

    Args:
        qkv: q, k, v⁰, v¹, v² of each atom, (N, 5F).
        vec: vector features, (N, 3, F), or None where all are zero.
        filters: of keys and of the three values side by side, (., 4F).
        unit: unit vector of each pair from its first to its second atom, (P, 3); 0 for self loops.
        cutoff: of each pair, (P,).
        neighbors: edges and pairs.
        heads: form of the attention.

    Returns:
        message (N, F) and vector (N, 3, F).
    """
    arguments = qkv, vec, filters, unit, cutoff, neighbors, heads
    kernel = native.kernel(qkv.device.type)
    if kernel == "triton" and qkv.dtype == torch.float32:
        from georecon.models import attention_triton

        return attention_triton.edge_attention(*arguments)
    if kernel == "native":
        message, vector = _call(qkv, vec, filters, unit, cutoff, neighbors, heads)
        return message, vector
    return reference(*arguments)


def embed_neighbors(x: Tensor, filters: Filters, neighbors: Neighbors) -> Tensor:
    """Sum of the filtered features of each atom's neighbours, without itself.

    Args:
        x: features (N, F).
        filters: how they follow from distance.
        neighbors: edges and pairs.

    Returns:
        (N, F).
    """
    if native.kernel(x.device.type) == "native":
        summed: Tensor = _call(x, None, filters, None, None, neighbors, None)[0]
        return summed
    source, target = neighbors.source, neighbors.target
    real = (source != target).to(x.dtype)[:, None]
    factors = filters.of_pairs().to(x.dtype)[neighbors.pair] * real
    return scatter_sum(x.index_select(0, source) * factors, target, x.shape[0])


def reference(
    qkv: Tensor,
    vec: Tensor | None,
    filters: Filters,
    unit: Tensor,
    cutoff: Tensor,
    neighbors: Neighbors,
    heads: Heads,
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


# ---- the CPU kernel -----------------------------------------------------------------------------


def _call(
    qkv: Tensor,
    vec: Tensor | None,
    filters: Filters,
    unit: Tensor | None,
    cutoff: Tensor | None,
    neighbors: Neighbors,
    heads: Heads | None,
) -> Any:
    table, steps = filters.table()
    row, offset = filters.places or (None, None)
    operation = _Kernel(neighbors, heads, row, steps)
    return operation.apply(qkv, vec, table, offset, unit, cutoff)


class _Kernel(Operation):
    """The kernel; with no heads, the sum of filtered neighbours.

    Its table (T, 4F) holds filters after their SiLU, its place is the offset from a pair's first
    row.

    Args:
        neighbors: edges and pairs.
        heads: form of the attention, or None.
        row: first row of the table that each pair reads, or None: its own.
        steps: from the row before to each row of the table, (T, 4F), if there is a grid.
    """

    entry = "edge_attention"
    inputs = ("qkv", "vec", "table", "place", "unit", "cutoff")
    of_positions = frozenset({"place", "unit", "cutoff"})

    def __init__(
        self,
        neighbors: Neighbors,
        heads: Heads | None,
        row: Tensor | None = None,
        steps: Tensor | None = None,
    ) -> None:
        self.neighbors, self.heads, self.row, self.steps = neighbors, heads, row, steps
        self.of_weights = frozenset() if row is None else frozenset({"table"})

    def arguments(self, *inputs: Any) -> dict[str, Tensor | int | None]:
        """Indices of the edges, and sizes."""
        qkv, _, table, *_ = inputs
        return {
            **{name: getattr(self.neighbors, name) for name in _INDICES},
            "row": self.row,
            "steps": self.steps,
            "molecules": self.neighbors.atoms.shape[0] - 1,
            "channels": qkv.shape[1] // (5 if self.heads else 1),
            "heads": self.heads.heads if self.heads else 1,
            "type": native.TYPES[qkv.dtype],
            "vector_cutoff": self.heads is not None and self.heads.vector_cutoff,
            "parts": self._parts(table),
            "nodes": table.shape[0],
            "embedding": self.heads is None,
        }

    def _parts(self, table: Tensor) -> int:
        """A power of two: threads share parts evenly. Each has as many pairs as the table rows."""
        pairs = self.neighbors.first.shape[0]
        most = min(PARTS, PART_BYTES // table.nbytes, pairs // table.shape[0])
        return 1 << max(0, most.bit_length() - 1)

    def outputs(self, *inputs: Any) -> Arrays:
        """Message and vector, which the kernel clears."""
        qkv: Tensor = inputs[0]
        if self.heads is None:
            return {"message": torch.empty_like(qkv), "vector": None}
        atoms, channels = qkv.shape[0], qkv.shape[1] // 5
        return {
            "message": qkv.new_empty(atoms, channels),
            "vector": qkv.new_empty(atoms, 3, channels),
        }

    def parts(self, *inputs: Any) -> dict[str, int]:
        """The gradient of a table, where there is a grid: each part of the batch adds to it."""
        table: Tensor = inputs[2]
        return {} if self.row is None else {"table": self._parts(table)}
