"""Models with one fault each, which the property checks must reject."""

from __future__ import annotations

import torch
from torch import Tensor

from georecon.graph import MIN_DISTANCE, Edges, MolGraph, radius_edges
from tests.models.subjects import Outputs, Subject


def absolute_positions(f: Subject) -> Subject:
    """Outputs depend a little on where the molecule is."""

    def broken(graph: MolGraph) -> Outputs:
        out = f(graph)
        per_row = graph.pos.new_zeros(graph.num_graphs).index_add(0, graph.batch, graph.pos[:, 0])
        shift = 1e-3 * per_row[out.owner]
        shift = shift if out.invariant.dim() == 1 else shift[:, None]
        return out._replace(
            invariant=out.invariant + shift, vectors=out.vectors + 1e-3 * graph.pos[:, :1, None]
        )

    return broken


def handed(f: Subject) -> Subject:
    """Outputs tell a molecule from its mirror image, by a triple product: a pseudoscalar."""

    def broken(graph: MolGraph) -> Outputs:
        out = f(graph)
        first = graph.ptr[:-1]
        a, b, c = (graph.pos[first + k] - graph.pos[first] for k in (1, 2, 3))
        volume = 1e-3 * (torch.linalg.cross(a, b) * c).sum(-1)
        shift = volume[out.owner]
        shift = shift if out.invariant.dim() == 1 else shift[:, None]
        axis = torch.linalg.cross(a, b)[graph.batch] * 1e-3
        return out._replace(invariant=out.invariant + shift, vectors=out.vectors + axis[:, :, None])

    return broken


def ordered(f: Subject) -> Subject:
    """Outputs depend on the order of atoms."""

    def broken(graph: MolGraph) -> Outputs:
        weight = 1.0 + 1e-3 * graph.atom_index.to(graph.pos.dtype)
        out = f(graph)
        centre = torch.zeros_like(graph.pos[: graph.num_graphs])
        counts = graph.batch.bincount().to(graph.pos.dtype)
        centre = centre.index_add(0, graph.batch, graph.pos) / counts[:, None]
        spread = (graph.pos - centre[graph.batch]).square().sum(-1) * weight
        sums = graph.pos.new_zeros(graph.num_graphs).index_add(0, graph.batch, spread)
        shift = sums[out.owner]
        shift = shift if out.invariant.dim() == 1 else shift[:, None]
        return out._replace(
            invariant=out.invariant + shift, vectors=out.vectors * weight[:, None, None]
        )

    return broken


def mixed_molecules(f: Subject) -> Subject:
    """Outputs contain a mean over all molecules of the batch."""

    def broken(graph: MolGraph) -> Outputs:
        out = f(graph)
        invariant, vectors = out.invariant, out.vectors
        if invariant.numel():
            invariant = invariant - 1e-3 * invariant.mean(0, keepdim=True)
        return out._replace(
            invariant=invariant, vectors=vectors - 1e-3 * vectors.mean(0, keepdim=True)
        )

    return broken


def intensive(f: Subject) -> Subject:
    """A mean over atoms instead of a sum."""

    def broken(graph: MolGraph) -> Outputs:
        out = f(graph)
        counts = graph.batch.bincount().to(graph.pos.dtype)
        of_row = counts[out.owner]
        of_row = of_row if out.invariant.dim() == 1 else of_row[:, None]
        return out._replace(
            invariant=out.invariant / of_row,
            vectors=out.vectors / counts[graph.batch][:, None, None],
        )

    return broken


def unclamped_edges(graph: MolGraph, cutoff: float, max_neighbors: int) -> Edges:
    """``radius_edges`` whose lengths are plain norms: self loops are divided by zero."""
    edges = radius_edges(graph, cutoff, max_neighbors)
    ends = torch.zeros(len(edges.length), 2, dtype=torch.int64)
    ends[edges.pair] = torch.stack([edges.source, edges.target], dim=1)
    vector = graph.pos[ends.amax(1)] - graph.pos[ends.amin(1)]
    length = vector.norm(dim=-1)
    unit = vector / length.clamp(min=MIN_DISTANCE)[:, None]
    return edges._replace(length=length, unit=unit)


def first_neighbours(graph: MolGraph, cutoff: float, max_neighbors: int) -> Edges:
    """``radius_edges`` that keeps the first neighbours it meets, not the nearest."""
    edges = radius_edges(graph, cutoff, 10_000)
    rank = torch.arange(len(edges.target))
    keep = rank - edges.rows[edges.target] < max_neighbors
    return edges._replace(source=edges.source[keep], target=edges.target[keep])


def hard_cutoff(length: Tensor, cutoff: float) -> Tensor:
    """A cutoff function with a step."""
    return 0.5 * (torch.cos(length * (torch.pi / cutoff)) + 1.02) * (length < cutoff)
