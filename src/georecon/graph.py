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

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from georecon.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_ELEMENTS, _KEY_SEED = 256, 20250616  # of composition_keys
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
        fillers: how many molecules at the end are none (:mod:`georecon.padding`).
    """

    z: Tensor
    pos: Tensor
    batch: Tensor
    ptr: Tensor
    ids: Tensor
    fillers: int = 0

    @property
    def num_graphs(self) -> int:
        """Number of molecules B."""
        return self.ids.shape[0]

    @property
    def atom_index(self) -> Tensor:
        """Position of each atom within its molecule, (N,) int64."""
        return torch.arange(self.z.shape[0], device=self.z.device) - self.ptr[self.batch]

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All but the number of fillers."""
        return self[:5]

    def each(self, change: Callable[[Tensor], Tensor]) -> MolGraph:
        """With each tensor changed."""
        z, pos, batch, ptr, ids = map(change, self.tensors)
        return MolGraph(z, pos, batch, ptr, ids, self.fillers)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> MolGraph:
        """Copy to a device; ``dtype`` applies to positions only."""
        moved = self.each(lambda field: field.to(device, non_blocking=True))
        return moved if dtype is None else moved._replace(pos=moved.pos.to(dtype))


def make_graph(
    z: Int[Tensor, " N"],
    pos: Float[Tensor, "N 3"],
    counts: Int[Tensor, " B"],
    ids: Int[Tensor, " B"],
) -> MolGraph:
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


def join_graphs(graphs: Sequence[MolGraph]) -> MolGraph:
    """Batches one after another as one."""
    atoms = molecules = 0
    ptr, batch = [graphs[0].ptr[:1]], []
    for graph in graphs:
        ptr.append(graph.ptr[1:] + atoms)
        batch.append(graph.batch + molecules)
        atoms, molecules = atoms + graph.z.shape[0], molecules + graph.num_graphs
    z, pos, ids = (torch.cat([getattr(g, name) for g in graphs]) for name in ("z", "pos", "ids"))
    return MolGraph(z, pos, torch.cat(batch), torch.cat(ptr), ids)


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
    """Directed edges within the cutoff, self loops included, and the pairs of atoms they join.

    The two edges of a pair have one length and opposite unit vectors. All self loops of a molecule
    belong to its first pair, of length 0. Edges are sorted by target, then source, the pairs of a
    molecule by length.

    Attributes:
        source: atom j of each edge, (E,) int64.
        target: atom i of each edge, (E,) int64, non-decreasing.
        pair: pair of each edge, (E,) int64.
        rows: first edge of each target atom and E at the end, (N + 1,) int64.
        pairs: first pair of each molecule and P at the end, (B + 1,) int64.
        first, second: atoms of each pair, (P,) int64; those of self loops do not count.
        ways: 1 if there is the edge to the first atom, 2 if there is that to the second, 3 for
            both, (P,) int64.
        length: distance of each pair [Å], (P,); exactly 0 for self loops.
        unit: unit vector of each pair from its first to its second atom, (P, 3); exactly 0 for self
            loops. An edge's unit vector from i to j is this one if i < j, else its negative.
    """

    source: Tensor
    target: Tensor
    pair: Tensor
    rows: Tensor
    pairs: Tensor
    first: Tensor
    second: Tensor
    ways: Tensor
    length: Tensor
    unit: Tensor


class FoundEdges(NamedTuple):
    """Edges and pairs before they are measured; attributes as of :class:`Edges`."""

    source: Tensor
    target: Tensor
    pair: Tensor
    rows: Tensor
    pairs: Tensor
    first: Tensor
    second: Tensor
    ways: Tensor


class _Block(NamedTuple):
    """Edges and pairs of consecutive molecules; pairs are counted from the block's first."""

    source: Tensor
    target: Tensor
    pair: Tensor
    first: Tensor
    second: Tensor
    ways: Tensor
    pairs_of_molecule: Tensor


def radius_edges(graph: MolGraph, cutoff: float, max_neighbors: int) -> Edges:
    """All pairs of one molecule closer than ``cutoff``, with self loops as in TorchMD-NET.

    DEVIATION: an atom with more than ``max_neighbors`` neighbours (itself included) keeps the
    nearest; torch_cluster, which the lineage uses, keeps whichever it meets first, so that its
    result depends on the order of the atoms.

    Args:
        graph: the molecules; gradients flow through ``graph.pos``.
        cutoff: largest distance [Å].
        max_neighbors: cap on edges per target atom, self loop included.
    """
    return measure_edges(graph, find_edges(graph, cutoff, max_neighbors))


def measure_edges(graph: MolGraph, found: FoundEdges) -> Edges:
    """Lengths and unit vectors of pairs; gradients flow through ``graph.pos``."""
    vector = graph.pos[found.second] - graph.pos[found.first]  # (P, 3)
    real = torch.ones_like(found.first, dtype=vector.dtype).index_fill_(0, found.pairs[:-1], 0.0)
    length = vector.square().sum(-1).clamp(min=MIN_DISTANCE**2).sqrt()  # (P,)
    # A self loop's unit vector is cut off before the division: its derivatives of ±1e6 would cancel
    # on paper and drown all others in float32.
    unit = vector * (real / length)[:, None]
    return Edges(*found, length * real, unit)


def find_edges(graph: MolGraph, cutoff: float, max_neighbors: int) -> FoundEdges:
    """Edges and pairs of :func:`radius_edges`, in torch operations."""
    found = _blocks(graph, cutoff, max_neighbors)
    pairs = _starts(found.pairs_of_molecule)
    rows = _starts(torch.bincount(found.target, minlength=graph.z.shape[0]))
    return FoundEdges(*found[:3], rows, pairs, *found[3:6])


def _starts(counts: Tensor) -> Tensor:
    """First index of each of consecutive groups, and the total at the end."""
    return functional.pad(counts.cumsum(0), (1, 0))


@torch.no_grad()
def _blocks(graph: MolGraph, cutoff: float, max_neighbors: int) -> _Block:
    """Edges of all molecules; blocks of molecules keep memory within bounds."""
    size = int((graph.ptr[1:] - graph.ptr[:-1]).max())
    step = max(1, _PAIRS_PER_BLOCK // size**2)
    blocks = []
    before = 0
    for start in range(0, graph.num_graphs, step):
        ptr = graph.ptr[start : start + step + 1]
        block = _dense_pairs(graph.pos, ptr, cutoff, max_neighbors)
        blocks.append(block._replace(pair=block.pair + before) if before else block)
        before += block.first.shape[0]
    if len(blocks) == 1:
        return blocks[0]
    return _Block(*(torch.cat(parts) for parts in zip(*blocks, strict=True)))


def _dense_pairs(pos: Tensor, ptr: Tensor, cutoff: float, max_neighbors: int) -> _Block:
    """Edges of consecutive molecules, all padded to the largest of them."""
    counts = ptr[1:] - ptr[:-1]
    size = int(counts.max())
    slots = torch.arange(size, device=pos.device)
    filled = slots < counts[:, None]  # (B, A)
    atom = (ptr[:-1, None] + slots).clamp(max=pos.shape[0] - 1)  # (B, A)
    padded = pos[atom]  # (B, A, 3)
    squared = (padded[:, :, None] - padded[:, None]).square().sum(-1)  # (B, A, A)
    both = filled[:, :, None] & filled[:, None, :]
    near = nearest(squared.masked_fill(~both, torch.inf), cutoff, max_neighbors)
    used = (near | near.mT).triu(1)
    used[:, 0, 0] = True  # the pair of all self loops
    number = used.view(-1).cumsum(0) - 1
    molecule, i, j = near.nonzero(as_tuple=True)
    low, high = torch.minimum(i, j), torch.maximum(i, j) * (i != j)
    pair = number[(molecule * size + low * (i != j)) * size + high]
    owner, first, second = used.nonzero(as_tuple=True)
    start = ptr[molecule]
    length = squared[owner, first, second].double().where(first != second, -1.0)
    order = torch.argsort(length + 2.0 * cutoff**2 * owner)
    owner, first, second = owner[order], first[order], second[order]
    ways = near[owner, first, second] + 2 * near[owner, second, first]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=pos.device)
    atoms = ptr[owner]
    return _Block(
        start + j, start + i, place[pair], atoms + first, atoms + second, ways, used.sum((1, 2))
    )


def nearest(squared: Tensor, cutoff: float, max_neighbors: int) -> Tensor:
    """Which atoms of a molecule have an edge to which, (B, A, A) bool: target, then source.

    Args:
        squared: squares of their distances [Å²], (B, A, A); infinite where there is no atom.
        cutoff: largest distance [Å].
        max_neighbors: most edges of a target, self loop included.
    """
    near = squared < cutoff**2
    if squared.shape[-1] <= max_neighbors:
        return near
    masked = squared.masked_fill(~near, torch.inf)
    farthest = masked.topk(max_neighbors, dim=-1, largest=False).values.amax(-1)
    return near & (squared <= farthest[..., None])


def scatter_sum(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum rows of ``values`` that share an index: (M, ...) → (size, ...)."""
    return values.new_zeros((size, *values.shape[1:])).index_add(0, index, values)


def composition_keys(graph: MolGraph) -> Tensor:
    """A number for each molecule that is the same for isomers, (B,) int64.

    A sum of random numbers, one an element; different atoms have the same sum by chance alone.
    """
    source = torch.Generator().manual_seed(_KEY_SEED)
    of_element = torch.randint(1 << 62, (_ELEMENTS,), generator=source).to(graph.z.device)
    keys = torch.zeros(graph.num_graphs, dtype=torch.int64, device=graph.z.device)
    return keys.index_add_(0, graph.batch, of_element[graph.z.long()])


def mean_of_atoms(values: Float[Tensor, "N ..."], graph: MolGraph) -> Float[Tensor, ""]:
    """Mean over atoms and whatever each has, fillers left out: (N, ...) → ()."""
    if not graph.fillers:
        return values.mean()
    real = (graph.batch < graph.num_graphs - graph.fillers).to(values.dtype)  # (N,)
    return (values.flatten(1).mean(1) if values.dim() > 1 else values).dot(real) / real.sum()


def mse_of_atoms(
    found: Float[Tensor, "N 3"], wanted: Float[Tensor, "N 3"], graph: MolGraph
) -> Float[Tensor, ""]:
    """Mean squared error over atoms and axes, fillers left out."""
    if not graph.fillers:
        return functional.mse_loss(found, wanted)
    return mean_of_atoms((found - wanted).square(), graph)


def pool_mean(values: Float[Tensor, "N F"], graph: MolGraph) -> Float[Tensor, "B F"]:
    """Mean over the atoms of each molecule: (N, F) → (B, F)."""
    counts = (graph.ptr[1:] - graph.ptr[:-1]).to(values.dtype)
    return scatter_sum(values, graph.batch, graph.num_graphs) / counts[:, None]


def pool_sum(values: Float[Tensor, "N F"], graph: MolGraph) -> Float[Tensor, "B F"]:
    """Sum over the atoms of each molecule: (N, F) → (B, F)."""
    return scatter_sum(values, graph.batch, graph.num_graphs)
