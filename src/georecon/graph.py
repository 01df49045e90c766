"""Batches of molecules as one graph, and the edges of that graph.

Legend used in every docstring and trailing comment:
**B** molecules, **N** atoms of all molecules together, **E** directed edges, **F** channels, **H**
heads,
**K** radial functions. The Cartesian axis is ``3`` and stands before channels: scalars ``(N, F)``,
vectors ``(N, 3, F)``, as in TorchMD-NET, so that weights can be compared.

An edge points from a source atom j to a target atom i and carries ``pos[j] - pos[i]``, the sign of
TorchMD-NET. Edges are sorted by target, then source.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from georecon.errors import DataError

_PAIRS_PER_BLOCK = 2**24  # distances held at once: 200 MB in float32

MIN_DISTANCE = 1e-6
"""Shortest distance [Å] that an edge is given: two coincident atoms then have finite gradients."""


class MolGraph(NamedTuple):
    """A batch of molecules.

    Attributes:
        z: atomic numbers, (N,) int64.
        pos: positions [Å], (N, 3).
        batch: molecule of each atom, (N,) int64, non-decreasing.
        ptr: first atom of each molecule and N at the end, (B + 1,) int64.
        ids: molecule ids, (B,) int64: with seed and step, the whole identity of random noise.
    """

    z: Tensor
    pos: Tensor
    batch: Tensor
    ptr: Tensor
    ids: Tensor

    @property
    def num_graphs(self) -> int:
        """Number of molecules B."""
        return self.ids.shape[0]

    @property
    def atom_index(self) -> Tensor:
        """Position of each atom within its molecule, (N,) int64."""
        return torch.arange(self.z.shape[0], device=self.z.device) - self.ptr[self.batch]

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> MolGraph:
        """Copy to a device; ``dtype`` applies to positions only."""
        moved = MolGraph(*(field.to(device, non_blocking=True) for field in self))
        return moved if dtype is None else moved._replace(pos=moved.pos.to(dtype))


def make_graph(z: Tensor, pos: Tensor, counts: Tensor, ids: Tensor) -> MolGraph:
    """Batch from concatenated molecules.

    Args:
        z: atomic numbers, (N,).
        pos: positions [Å], (N, 3).
        counts: atoms of each molecule, (B,).
        ids: molecule ids, (B,).
    """
    ptr = torch.zeros(counts.shape[0] + 1, dtype=torch.int64)
    ptr[1:] = torch.cumsum(counts, 0)
    batch = torch.repeat_interleave(torch.arange(counts.shape[0]), counts)
    return MolGraph(z.to(torch.int64), pos, batch, ptr, ids.to(torch.int64))


def check_graph(graph: MolGraph, max_z: int) -> None:
    """Refuse molecules that no encoder could read; a single transfer from the device.

    Args:
        graph: molecules about to be encoded.
        max_z: size of the table of elements.

    Raises:
        DataError: a position is not finite or an element is unknown; names the molecule id.
    """
    finite = graph.pos.detach().isfinite()
    low, high, sound = torch.stack([graph.z.amin(), graph.z.amax(), finite.all().long()]).tolist()
    if low >= 1 and high < max_z and sound:
        return
    for bad, reason in (
        (~finite.all(1), "a position is NaN or infinite, expected finite numbers"),
        ((graph.z < 1) | (graph.z >= max_z), f"unknown element, expected Z in 1..{max_z - 1}"),
    ):
        for atom in bad.nonzero()[:1, 0].tolist():
            what = f"atom {int(graph.atom_index[atom])} (Z = {int(graph.z[atom])}): {reason}"
            raise DataError("molecules to encode", int(graph.ids[graph.batch[atom]]), what)


class Edges(NamedTuple):
    """Directed edges within the cutoff, self loops included.

    Attributes:
        source: atom j of each edge, (E,) int64.
        target: atom i of each edge, (E,) int64, non-decreasing.
        length: distance [Å], (E,); exactly 0 for self loops.
        unit: unit vector from i to j, (E, 3); exactly 0 for self loops.
    """

    source: Tensor
    target: Tensor
    length: Tensor
    unit: Tensor


def radius_edges(graph: MolGraph, cutoff: float, max_neighbors: int) -> Edges:
    """All pairs of one molecule closer than ``cutoff``, self loops kept (TorchMD-NET,
    ``loop=True``).

    DEVIATION: an atom with more than ``max_neighbors`` neighbours (itself included) keeps the
    nearest; torch_cluster, which the lineage uses, keeps whichever it meets first, so that its
    result depends on the order of the atoms.

    Args:
        graph: the molecules; gradients flow through ``graph.pos``.
        cutoff: largest distance [Å].
        max_neighbors: cap on edges per target atom, self loop included.
    """
    source, target = _pairs(graph, cutoff, max_neighbors)
    vector = graph.pos[source] - graph.pos[target]  # (E, 3)
    real = (source != target).to(vector.dtype)
    length = vector.square().sum(-1).clamp(min=MIN_DISTANCE**2).sqrt()  # (E,)
    # A self loop's unit vector is cut off before the division: its derivatives of ±1e6 would cancel
    # on paper and drown all others in float32.
    return Edges(source, target, length * real, vector * (real / length)[:, None])


@torch.no_grad()
def _pairs(graph: MolGraph, cutoff: float, max_neighbors: int) -> tuple[Tensor, Tensor]:
    """Source and target atoms, (E,) each; blocks of molecules keep memory within bounds."""
    size = int((graph.ptr[1:] - graph.ptr[:-1]).max())
    step = max(1, _PAIRS_PER_BLOCK // size**2)
    blocks = [
        _dense_pairs(graph.pos, graph.ptr[start : start + step + 1], cutoff, max_neighbors)
        for start in range(0, graph.num_graphs, step)
    ]
    if len(blocks) == 1:
        return blocks[0]
    sources, targets = zip(*blocks, strict=True)
    return torch.cat(sources), torch.cat(targets)


def _dense_pairs(
    pos: Tensor, ptr: Tensor, cutoff: float, max_neighbors: int
) -> tuple[Tensor, Tensor]:
    """Pairs of consecutive molecules, all padded to the largest of them."""
    counts = ptr[1:] - ptr[:-1]
    size = int(counts.max())
    slots = torch.arange(size, device=pos.device)
    filled = slots < counts[:, None]  # (B, A)
    atom = (ptr[:-1, None] + slots).clamp(max=pos.shape[0] - 1)  # (B, A)
    padded = pos[atom]  # (B, A, 3)
    squared = (padded[:, :, None] - padded[:, None]).square().sum(-1)  # (B, A, A)
    near = (squared < cutoff**2) & filled[:, :, None] & filled[:, None, :]
    if size > max_neighbors:
        masked = squared.masked_fill(~near, torch.inf)
        farthest = masked.kthvalue(max_neighbors, dim=-1).values
        near &= squared <= farthest[..., None]
    molecule, i, j = near.nonzero(as_tuple=True)
    return ptr[molecule] + j, ptr[molecule] + i


def scatter_sum(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum rows of ``values`` that share an index: (M, ...) → (size, ...)."""
    return values.new_zeros((size, *values.shape[1:])).index_add(0, index, values)


def pool_mean(values: Tensor, graph: MolGraph) -> Tensor:
    """Mean over the atoms of each molecule: (N, F) → (B, F)."""
    counts = (graph.ptr[1:] - graph.ptr[:-1]).to(values.dtype)
    return scatter_sum(values, graph.batch, graph.num_graphs) / counts[:, None]


def pool_sum(values: Tensor, graph: MolGraph) -> Tensor:
    """Sum over the atoms of each molecule: (N, F) → (B, F)."""
    return scatter_sum(values, graph.batch, graph.num_graphs)
