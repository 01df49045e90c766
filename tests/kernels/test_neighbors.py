"""Edges found by the kernel against those of torch operations."""

from __future__ import annotations

import pytest
import torch

from georecon.graph import FoundEdges, MolGraph, find_edges, make_graph
from georecon.kernels import native, neighbors
from tests.toy_graphs import random_batch

pytestmark = pytest.mark.skipif(
    native.library() is None, reason="no C++ compiler, or GEORECON_KERNEL=reference"
)
SIZES = (9, 40, 1, 2, 33)


def equal(found: FoundEdges, expected: FoundEdges) -> bool:
    return all(map(torch.equal, found, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("cap", [1, 10, 32, 100])
@pytest.mark.parametrize("cutoff", [2.0, 5.0])
def test_edges_are_those_of_torch_operations(dtype: torch.dtype, cap: int, cutoff: float) -> None:
    graph = random_batch(3, dtype, sizes=SIZES)
    assert equal(neighbors._find(graph, cutoff, cap), find_edges(graph, cutoff, cap))
    for other in ((cutoff + 0.3, cap), (cutoff, max(1, cap // 5))):
        expected = find_edges(graph, *other)
        told_apart = not equal(neighbors._find(graph, cutoff, cap), expected)
        assert told_apart == (not equal(find_edges(graph, cutoff, cap), expected))


def ends(found: FoundEdges) -> list[list[int]]:
    """Atoms of the pair of each edge, and its ways."""
    columns = (found.first, found.second, found.ways)
    return torch.stack([column[found.pair] for column in columns]).tolist()


def test_pairs_of_one_length_come_in_the_order_of_their_atoms() -> None:
    """A lattice: many distances are equal, also that of the last neighbour under the cap."""
    axis = torch.arange(3.0)
    pos = torch.cartesian_prod(axis, axis, axis)
    counts = torch.tensor([27])
    graph = make_graph(torch.full((27,), 6), pos, counts, torch.tensor([1]))
    found, expected = neighbors._find(graph, 1.5, 5), find_edges(graph, 1.5, 5)
    for name in ("source", "target", "rows", "pairs"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert ends(found) == ends(expected), "each edge has the pair of its atoms"
    keys = 27 * found.first + found.second
    length = (pos[found.first] - pos[found.second]).norm(dim=1)
    inside = length.diff() == 0
    assert bool((keys.diff()[1:] > 0)[inside[1:]].all())
    assert found.rows.diff().max() == 7  # all six at the distance of the fifth, and itself


def test_the_same_edges_with_any_number_of_threads() -> None:
    graph, before = random_batch(3, torch.float32, sizes=SIZES), torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(neighbors._find(graph, 5.0, 10))
    torch.set_num_threads(before)
    assert equal(found[1], found[0])
    assert equal(found[2], found[0])


def test_gradients_flow_through_lengths_and_unit_vectors() -> None:
    graph = random_batch(3, sizes=(6, 3))

    def moved(pos: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        edges = neighbors.radius_edges(graph._replace(pos=pos), 5.0, 32)
        return edges.length, edges.unit

    assert torch.autograd.gradcheck(moved, graph.pos.clone().requires_grad_(True))


def test_positions_of_another_type_are_left_to_torch() -> None:
    graph: MolGraph = random_batch(3, torch.float32)
    half = graph._replace(pos=graph.pos.to(torch.bfloat16))
    assert neighbors.radius_edges(half, 5.0, 32).unit.dtype == torch.bfloat16
