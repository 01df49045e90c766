"""Edges of any batch in arrays of a few sizes, by edges and pairs that count for nothing.

For batches that are filled up (:mod:`georecon.padding`): the edge that is repeated at the end is
the self loop of a filler's atom.
"""

from __future__ import annotations

import torch
from torch import Tensor

from georecon.kernels.attention import prepare
from georecon.kernels.fixed_edges import DEAD
from georecon.kernels.reference import Neighbors
from georecon.padding import room


def padded(values: Tensor, value: float = 0) -> Tensor:
    """Rows (M, ...) and rows of one value after them, so many that their number is a ``room``."""
    more = room(values.shape[0]) - values.shape[0]
    return torch.cat([values, values.new_full((more, *values.shape[1:]), value)])


def padded_neighbors(neighbors: Neighbors) -> Neighbors:
    """The same with more pairs, and as many edges as pairs and atoms can have.

    Args:
        neighbors: edges of a batch that ends with fillers.
    """
    pairs, atoms = neighbors.first.shape[0], neighbors.rows.shape[0] - 1
    first, second, ways = map(padded, (neighbors.first, neighbors.second, neighbors.ways))
    most = 2 * first.shape[0] + atoms  # follows from the others: fewer shapes
    repeated = most - neighbors.source.shape[0]
    edges = (neighbors.source, neighbors.target, neighbors.pair)
    source, target, pair = (torch.cat([part, part[-1:].expand(repeated)]) for part in edges)
    more = neighbors._replace(
        source=source, target=target, pair=pair, first=first, second=second, ways=ways
    )
    more = prepare(more, first.shape[0])
    if more.links is not None:
        more.links.table[3, pairs : first.shape[0]] = DEAD
    return more
