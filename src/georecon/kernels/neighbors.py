"""Edges of molecules: on CPUs found by ``neighbors.cpp``, elsewhere in torch operations."""

from __future__ import annotations

import torch
from torch import Tensor

from georecon.graph import (
    MIN_DISTANCE,
    Edges,
    FoundEdges,
    MolGraph,
    find_edges,
    measure_edges,
)
from georecon.kernels import native


def radius_edges(graph: MolGraph, cutoff: float, max_neighbors: int) -> Edges:
    """As :func:`georecon.graph.radius_edges`, in one call instead of forty.

    Torch measures the edges where gradients are to flow through the positions.
    """
    pos = graph.pos
    if native.kernel(pos.device.type) != "native" or pos.dtype not in native.TYPES:
        return measure_edges(graph, find_edges(graph, cutoff, max_neighbors))
    if pos.requires_grad and torch.is_grad_enabled():
        return measure_edges(graph, _find(graph, cutoff, max_neighbors))
    return _find_and_measure(graph, cutoff, max_neighbors)


def _find(graph: MolGraph, cutoff: float, max_neighbors: int) -> FoundEdges:
    """:func:`georecon.graph.find_edges` by the kernel."""
    return FoundEdges(*_find_and_measure(graph, cutoff, max_neighbors)[: len(FoundEdges._fields)])


def _find_and_measure(graph: MolGraph, cutoff: float, max_neighbors: int) -> Edges:
    """:func:`georecon.graph.radius_edges` by the kernel, without gradients."""
    rows, pairs = graph.ptr.new_empty(graph.z.shape[0] + 1), torch.empty_like(graph.ptr)
    pos = graph.pos.detach().contiguous()
    arguments: dict[str, Tensor | int] = {
        "type": native.TYPES[pos.dtype],
        "threads": torch.get_num_threads(),
        "molecules": graph.num_graphs,
        "most": max_neighbors,
        "cutoff": native.number(cutoff),
        "shortest": native.number(MIN_DISTANCE),
        "pos": pos,
        "atoms": graph.ptr.contiguous(),
        "rows": rows,
        "pairs": pairs,
    }
    native.run("neighbors", kind=0, **arguments)
    count = int(pairs[-1])
    source, target, pair = graph.ptr.new_empty(3, int(rows[-1])).unbind()
    first, second, ways = graph.ptr.new_empty(3, count).unbind()
    length, unit = pos.new_empty(count), pos.new_empty(count, 3)
    found = Edges(source, target, pair, rows, pairs, first, second, ways, length, unit)
    native.run("neighbors", kind=1, **{**arguments, **found._asdict()})
    return found
