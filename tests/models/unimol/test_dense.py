"""Places of atoms and pairs in padded arrays."""

from __future__ import annotations

import pytest
import torch

from georecon.models.unimol.dense import Dense
from tests.toy_graphs import random_batch


@pytest.mark.parametrize("sizes", [(3, 5, 2), (4,), (1, 1), (6, 6)])
def test_places_are_those_of_loops(sizes: tuple[int, ...]) -> None:
    graph = random_batch(1, sizes=sizes)
    dense, largest = Dense.of(graph), max(sizes)
    assert (dense.molecules, dense.size) == (len(sizes), largest)
    places, pairs = [], []
    for k, n in enumerate(sizes):
        first = int(graph.ptr[k])
        assert dense.atom[k, :n].tolist() == list(range(first, first + n))
        places += [k * largest + slot for slot in range(n)]
        pairs += [
            ((k * largest + i) * largest + j, first + i, first + j)
            for i in range(n)
            for j in range(n)
        ]
    assert dense.place.tolist() == places
    found = zip(dense.pair.tolist(), dense.first.tolist(), dense.second.tolist(), strict=True)
    assert list(found) == pairs
    assert dense.counts.tolist() == list(sizes)


def test_rows_and_partners_are_those_of_the_atoms() -> None:
    graph = random_batch(2, sizes=(3, 5))
    dense = Dense.of(graph)
    values = torch.arange(2 * 5 * 5 * 2).view(2, 5, 5, 2)
    atoms = torch.tensor([1, 7, 3])
    assert torch.equal(
        dense.rows(values, atoms), torch.stack([values[0, 1], values[1, 4], values[1, 0]])
    )
    partners, there = dense.partners(graph, atoms)
    assert partners[0, :3].tolist() == [0, 1, 2]
    assert partners[1].tolist() == [3, 4, 5, 6, 7]
    assert there.sum(1).tolist() == [3, 5, 5]
    assert there[0].tolist() == [True] * 3 + [False] * 2
