"""Edges in arrays of one shape, for batches of molecules of one size on GPUs.

Which atoms have an edge depends on their positions, and so does the size of every array of edges;
CUDA graphs (:mod:`georecon.training.replay`) need sizes that stay. Here each pair of atoms of a
molecule has its place in the arrays whether it has edges or not, and ``ways`` and the roles of
links say which edges there are: the Triton kernels pass over the others. Everything else depends on
the number of molecules and atoms alone and is made once. The host waits for nothing.

Sums over pairs have other terms than those of :func:`georecon.graph.radius_edges`, zeros in
between, so the numbers are the same but for rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

from georecon.graph import Edges, FoundEdges, MolGraph, find_edges, measure_edges, nearest
from georecon.kernels import native
from georecon.kernels.reference import Neighbors

MOST_ATOMS = 64
"""Largest molecules for which pairs without edges are cheaper than what the host costs."""
DEAD = 4  # role of a pair without edges

_atoms: ContextVar[int] = ContextVar("atoms", default=0)


@contextmanager
def equal_molecules(atoms: int) -> Iterator[None]:
    """Within, all molecules of all batches have so many atoms, and edges may have fixed shapes."""
    token = _atoms.set(atoms)
    try:
        yield
    finally:
        _atoms.reset(token)


def available(device: str) -> bool:
    """Whether the kernels of a type of device take such edges."""
    return native.kernel(device) == "triton"


class Frame(NamedTuple):
    """What edges of so many molecules of one size have in common.

    Attributes:
        found: all pairs of each molecule, with edges in both directions, and self loops.
        to_first, to_second: place of a pair's edges among those of all atoms to all atoms of their
            molecule (B · A · A), (P,).
        loops: whether a pair is that of self loops, (P,) bool.
        table: first and second atom and pair of each link, (3, P + N).
        rows: first end of each atom, (N + 1,).
        ends: other atom and pair of each end, (2, M).
        own, low: whether an end is a self loop's, and whether its atom is its pair's first, (M,).
    """

    found: FoundEdges
    to_first: Tensor
    to_second: Tensor
    loops: Tensor
    table: Tensor
    rows: Tensor
    ends: Tensor
    own: Tensor
    low: Tensor


def fixed_edges(
    graph: MolGraph, cutoff: float, max_neighbors: int
) -> tuple[Edges, Neighbors] | None:
    """Edges of a batch and what the Triton kernels need of them.

    Arguments as of :func:`georecon.graph.radius_edges`.

    Returns:
        None outside of :func:`equal_molecules`, and where other kernels are used.
    """
    atoms, device = _atoms.get(), graph.pos.device
    if not atoms or graph.pos.dtype != torch.float32 or not available(device.type):
        return None
    frame = _frame(graph.num_graphs, atoms, device)
    ways = _ways(frame, graph.pos.detach().view(-1, atoms, 3), cutoff, max_neighbors)
    edges = measure_edges(graph, frame.found._replace(ways=ways))
    return edges, Neighbors.of(edges, graph.ptr)._replace(links=_links(frame, ways))


@functools.cache  # a recorded CUDA graph reads it for as long as it lives
def _frame(molecules: int, atoms: int, device: torch.device) -> Frame:
    """Made on the host, from molecules whose atoms are all neighbours."""
    from georecon.kernels.attention_triton import make_links

    count = molecules * atoms
    ptr = torch.arange(molecules + 1) * atoms
    atom = torch.arange(count)
    together = MolGraph(atom, torch.zeros(count, 3), atom // atoms, ptr, ptr[1:])
    found = find_edges(together, cutoff=1.0, max_neighbors=atoms)
    first, second = found.first, found.second
    table, rows, ends = make_links(Neighbors.of(found, ptr), len(first))
    other, pair = ends[:2, : int(rows[-1])]
    owner = torch.repeat_interleave(atom, rows.diff())
    loops = torch.zeros(len(first), dtype=torch.bool).index_fill_(0, found.pairs[:-1], value=True)
    frame = Frame(
        FoundEdges(*(part.to(device) for part in found)),
        first * atoms + second % atoms,
        second * atoms + first % atoms,
        loops,
        table[:3],
        rows,
        torch.stack([other, pair]),
        owner == other,
        owner < other,
    )
    return Frame(frame.found, *(part.to(device) for part in frame[1:]))


def _ways(frame: Frame, pos: Tensor, cutoff: float, max_neighbors: int) -> Tensor:
    """Which edges each pair has, (P,), for positions (B, A, 3)."""
    squared = (pos[:, :, None] - pos[:, None]).square().sum(-1)
    near = nearest(squared, cutoff, max_neighbors).view(-1).long()
    return near[frame.to_first] + 2 * near[frame.to_second]


def _links(frame: Frame, ways: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Links of :func:`georecon.kernels.attention_triton.make_links` with these ways."""
    from georecon.kernels.attention_triton import Links

    of_pairs = ways.masked_fill(ways == 0, DEAD).masked_fill(frame.loops, 0)
    roles = torch.cat([of_pairs, torch.ones_like(frame.found.rows[:-1])])
    of_ends = ways[frame.ends[1]]
    turned = (of_ends >> 1) + 2 * (of_ends & 1)  # as the pair's second atom sees them
    of_ends = torch.where(frame.low, of_ends, turned).masked_fill(frame.own, 3)
    table, ends = torch.cat([frame.table, roles[None]]), torch.cat([frame.ends, of_ends[None]])
    return Links(table, frame.rows, ends)
