"""Edge attention: messages of an ET layer from node features and filters of distance.

With ``(q, k, v⁰, v¹, v²)`` the node features, ``(d^k, d⁰, d¹, d²)`` the SiLU of the filters of a
pair (linear in its radial basis), u its unit vector and C its cutoff, all sums over the neighbours
j of atom i (Thölke and De Fabritiis 2022, eqs. 5 to 9)::

    a = SiLU(Σ_D q_i k_j d^k) C        message_i = Σ_j a v⁰_j d⁰
    vector_i = Σ_j (v¹_j d¹ vec_j + v²_j d² u)

:func:`~georecon.kernels.reference.reference_attention` says so in torch operations. On CPUs the
kernel of ``attention.cpp`` computes the same, its gradient and the derivative of its gradient
without any array of one row an edge or a pair; on GPUs the kernels of ``attention_triton.py`` do
so with rows of pairs, for one layer at a time. Which one a device uses is said by
:func:`georecon.kernels.native.kernel`.

DEVIATION: on CPUs, in float32, filters are not evaluated at each distance but on a grid, once a
step, and interpolated (:func:`georecon.kernels.filters.interpolate`). The difference is that of
rounding; the lineage's product of every pair with the weights was a quarter of a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from georecon.graph import scatter_sum
from georecon.kernels import attention_cpu, native
from georecon.kernels.filters import Filters
from georecon.kernels.reference import AttentionForm, Neighbors, reference_attention

if TYPE_CHECKING:
    from jaxtyping import Float


def prepare(neighbors: Neighbors, pairs: int) -> Neighbors:
    """With what the kernels of their device need, made once for all layers.

    Args:
        neighbors: edges of a batch.
        pairs: number of pairs P.
    """
    if native.kernel(neighbors.source.device.type) != "triton":
        return neighbors
    from georecon.kernels import attention_triton

    return neighbors._replace(links=attention_triton.make_links(neighbors, pairs))


def edge_attention(
    qkv: Float[Tensor, "N _"],
    vec: Float[Tensor, "N 3 F"] | None,
    filters: Filters,
    unit: Float[Tensor, "P 3"],
    cutoff: Float[Tensor, " P"],
    neighbors: Neighbors,
    heads: AttentionForm,
) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N 3 F"]]:
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
        from georecon.kernels import attention_triton

        return attention_triton.edge_attention(*arguments)
    if kernel == "native":
        message, vector = attention_cpu.call(qkv, vec, filters, unit, cutoff, neighbors, heads)
        return message, vector
    return reference_attention(*arguments)


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
        summed: Tensor = attention_cpu.call(x, None, filters, None, None, neighbors, None)[0]
        return summed
    source, target, pair = neighbors.source, neighbors.target, neighbors.pair
    way = 1 + (target > source).long()  # towards the pair's first atom, or its second
    real = (source != target) & ((neighbors.ways[pair] & way) > 0)
    factors = filters.of_pairs().to(x.dtype)[pair] * real.to(x.dtype)[:, None]
    return scatter_sum(x.index_select(0, source) * factors, target, x.shape[0])


# ---- the CPU kernel -----------------------------------------------------------------------------
