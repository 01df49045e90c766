"""Equivariant Transformer (ET) encoder: TorchMD-NET (Thölke and De Fabritiis 2022), as PVD uses it.

Parameter names follow TorchMD-NET. The 3F outputs of ``v_proj`` and ``dv_proj`` are ordered (3,
heads, D) here and (heads, 3, D) there: whole rows of F channels are what a processor reads
fastest. ``x`` are scalars (N, F), ``vec`` vectors (N, 3, F).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from georecon.experiments.settings import EncoderSettings
from georecon.graph import MolGraph, check_graph
from georecon.kernels import native
from georecon.kernels.attention import edge_attention, embed_neighbors, prepare
from georecon.kernels.filters import Filters, Places
from georecon.kernels.fixed_edges import fixed_edges
from georecon.kernels.neighbors import radius_edges
from georecon.kernels.padded_edges import padded, padded_neighbors
from georecon.kernels.reference import AttentionForm, Neighbors
from georecon.kernels.update import layer_update
from georecon.models.norms import LayerNorm, WhitenedVectorNorm
from georecon.models.radial import ExpNormalBasis, cosine_cutoff

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class EdgeFeatures(NamedTuple):
    """What a layer sees of the geometry.

    Attributes:
        neighbors: edges, and the pairs of atoms they join.
        unit: unit vector of each pair from its first to its second atom, (P, 3), 0 for self loops.
        cutoff: cosine cutoff of the length, (P,).
        rbf: radial basis of the length, (P, K), or of each node of a grid, (T, K) float64.
        near: cosine cutoff of the same lengths, (P,) or (T,).
        places: of pairs on the grid, or None if there is none.
    """

    neighbors: Neighbors
    unit: Tensor
    cutoff: Tensor
    rbf: Tensor
    near: Tensor
    places: Places | None

    def first_molecules(self, count: int) -> EdgeFeatures:
        """Those of the first molecules of the batch."""
        neighbors = self.neighbors.first_molecules(count)
        pairs = neighbors.first.shape[0]
        neighbors = prepare(neighbors, pairs)
        unit, cutoff = self.unit[:pairs], self.cutoff[:pairs]
        if self.places is None:
            return EdgeFeatures(neighbors, unit, cutoff, self.rbf[:pairs], self.near[:pairs], None)
        places = Places(*(part[:pairs] for part in self.places))
        return EdgeFeatures(neighbors, unit, cutoff, self.rbf, self.near, places)

    def padded(self) -> EdgeFeatures:
        """In arrays of a few sizes, of a batch that ends with fillers; on no grid."""
        assert self.places is None
        neighbors = padded_neighbors(self.neighbors)
        unit, cutoff, rbf, near = map(padded, (self.unit, self.cutoff, self.rbf, self.near))
        return EdgeFeatures(neighbors, unit, cutoff, rbf, near, None)


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Linear layer with Xavier-uniform weights and zero bias (TorchMD-NET's initialisation)."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class NeighborEmbedding(nn.Module):
    """Mix the embedding of each atom with those of its neighbours, filtered by distance."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        channels = settings.channels
        self.embedding = nn.Embedding(settings.max_z, channels)
        self.distance_proj = linear(settings.rbf, channels)
        self.combine = linear(2 * channels, channels)

    def forward(
        self, z: Int[Tensor, " N"], x: Float[Tensor, "N F"], edges: EdgeFeatures
    ) -> Float[Tensor, "N F"]:
        """Atomic numbers (N,) and embeddings (N, F) → (N, F); self loops do not take part."""
        weight, bias = self.distance_proj.weight, self.distance_proj.bias
        filters = Filters(edges.rbf, weight, bias, edges.places, edges.near)
        neighbors = embed_neighbors(self.embedding(z), filters, edges.neighbors)
        return self.combine(torch.cat([x, neighbors], dim=-1))


class AttentionLayer(nn.Module):
    """One ET layer: distance-modulated attention over neighbours, scalar and vector updates.

    Args:
        settings: encoder sizes; ``vector_cutoff`` multiplies the vectors' values by the cutoff
            too, which makes vectors smooth there. The paper's lineage leaves it off: vectors then
            jump at the cutoff.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        channels, self.heads = (
            settings.channels,
            AttentionForm(settings.heads, settings.vector_cutoff),
        )
        self.layernorm = LayerNorm(channels)
        self.q_proj = linear(channels, channels)
        self.k_proj = linear(channels, channels)
        self.v_proj = linear(channels, 3 * channels)
        self.o_proj = linear(channels, 3 * channels)
        self.vec_proj = linear(channels, 3 * channels, bias=False)
        self.dk_proj = linear(settings.rbf, channels)
        self.dv_proj = linear(settings.rbf, 3 * channels)

    def forward(
        self, x: Float[Tensor, "N F"], vec: Float[Tensor, "N 3 F"] | None, edges: EdgeFeatures
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N 3 F"]]:
        """(N, F), (N, 3, F) → residual updates of the same shapes.

        ``vec`` is None where all vectors are zero, as in the first layer: the same numbers for
        less work.
        """
        x = self.layernorm(x)
        weight, bias = _together(self.q_proj, self.k_proj, self.v_proj)
        qkv = functional.linear(x, weight, bias)  # (N, 5F)
        filters = Filters(edges.rbf, *_together(self.dk_proj, self.dv_proj), edges.places)
        message, vector_message = edge_attention(
            qkv, vec, filters, edges.unit, edges.cutoff, edges.neighbors, self.heads
        )
        if vec is None:
            last = slice(2 * x.shape[1], None)  # of the three outputs only this is read
            dx = functional.linear(message, self.o_proj.weight[last], self.o_proj.bias[last])
            return dx, vector_message
        dx, dvec = layer_update(self.o_proj(message), self.vec_proj(vec))
        return dx, dvec + vector_message


def _together(*layers: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of several linear layers of one input as a single product."""
    weight = torch.cat([layer.weight for layer in layers])
    return weight, torch.cat([layer.bias for layer in layers])


Modulate = Callable[[int, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
"""Place, scalars (N, F) and vectors (N, 3, F), None while they are zero → both, changed."""


class EquivariantTransformer(nn.Module):
    """ET encoder: molecules → scalar (N, F) and vector (N, 3, F) features of each atom.

    Smoothness at the cutoff: with ``vector_cutoff=False`` (paper) vector features jump when an atom
    crosses the cutoff; with ``True`` they are continuous.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        self.embedding = nn.Embedding(settings.max_z, settings.channels)
        self.distance_expansion = ExpNormalBasis(settings.cutoff, settings.rbf)
        self.neighbor_embedding = NeighborEmbedding(settings)
        self.attention_layers = nn.ModuleList(
            AttentionLayer(settings) for _ in range(settings.layers)
        )
        self.out_norm = LayerNorm(settings.channels)
        whitened = settings.vector_norm == "whitened"
        self.vec_norm = WhitenedVectorNorm(settings.channels) if whitened else nn.Identity()

    def edges(self, graph: MolGraph) -> EdgeFeatures:
        """Radius graph of ``graph.pos`` with its radial features.

        Raises:
            DataError: a molecule with positions that are not finite or with an unknown element;
                edges of fixed shapes are not checked.
        """
        settings = self.settings
        found = fixed_edges(graph, settings.cutoff, settings.max_neighbors)
        if found is None:
            check_graph(graph, settings.max_z)
            edges = radius_edges(graph, settings.cutoff, settings.max_neighbors)
            neighbors = prepare(Neighbors.of(edges, graph.ptr), edges.length.shape[0])
        else:
            edges, neighbors = found
        cutoff = cosine_cutoff(edges.length, settings.cutoff)
        basis = self.distance_expansion
        gridded = native.kernel(graph.pos.device.type) == "native"
        if gridded and graph.pos.dtype == torch.float32:
            return EdgeFeatures(neighbors, edges.unit, cutoff, *basis.grid(edges.length))
        return EdgeFeatures(neighbors, edges.unit, cutoff, basis(edges.length), cutoff, None)

    def forward(
        self, graph: MolGraph, edges: EdgeFeatures | None = None, modulate: Modulate | None = None
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N 3 F"]]:
        """Features of each atom.

        Args:
            graph: molecules; atomic numbers from 1 to ``max_z - 1``.
            edges: radius graph of ``graph`` if it has been built already.
            modulate: changes the features after the neighbour embedding (place 0) and after each
                layer (places 1, 2, …).

        Returns:
            Scalars (N, F), layer-normalised, and vectors (N, 3, F), whitened unless switched off.
        """
        edges = self.edges(graph) if edges is None else edges
        x = self.neighbor_embedding(graph.z, self.embedding(graph.z), edges)
        vec: Tensor | None = None  # zero before the first layer
        if modulate is not None:
            x, vec = modulate(0, x, vec)
        for place, layer in enumerate(self.attention_layers, start=1):
            dx, dvec = layer(x, vec, edges)
            x, vec = x + dx, dvec if vec is None else vec + dvec
            if modulate is not None:
                x, vec = modulate(place, x, vec)
        return self.out_norm(x), self.vec_norm(vec)
