"""Edges of molecules: on CPUs found by ``neighbors.cpp``, elsewhere in torch operations."""

from __future__ import annotations

import torch
from torch import Tensor

from georecon.graph import Edges, FoundEdges, MolGraph, find_edges, measure_edges
from georecon.kernels import native


def radius_edges(graph: MolGraph, cutoff: float, max_neighbors: int) -> Edges:
    """As :func:`georecon.graph.radius_edges`, in one call instead of forty."""
    kernel = native.kernel(graph.pos.device.type)
    find = _find if kernel == "native" and graph.pos.dtype in native.TYPES else find_edges
    return measure_edges(graph, find(graph, cutoff, max_neighbors))


def _find(graph: MolGraph, cutoff: float, max_neighbors: int) -> FoundEdges:
    """:func:`georecon.graph.find_edges` by the kernel."""
    rows, pairs = graph.ptr.new_empty(graph.z.shape[0] + 1), torch.empty_like(graph.ptr)
    arguments: dict[str, Tensor | int] = {
        "type": native.TYPES[graph.pos.dtype],
        "threads": torch.get_num_threads(),
        "molecules": graph.num_graphs,
        "most": max_neighbors,
        "cutoff": native.number(cutoff),
        "pos": graph.pos.detach().contiguous(),
        "atoms": graph.ptr.contiguous(),
        "rows": rows,
        "pairs": pairs,
    }
    native.run("neighbors", kind=0, **arguments)
    source, target, pair = graph.ptr.new_empty(3, int(rows[-1])).unbind()
    first, second, ways = graph.ptr.new_empty(3, int(pairs[-1])).unbind()
    found = FoundEdges(source, target, pair, rows, pairs, first, second, ways)
    native.run("neighbors", kind=1, **{**arguments, **found._asdict()})
    return found
