"""Edges of any batch in arrays of a few sizes, by edges and pairs that count for nothing.

For batches that are filled up (:mod:`georecon.padding`): the edge that is repeated at the end is
the self loop of a filler's atom.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from georecon.kernels.fixed_edges import DEAD
from georecon.kernels.reference import Neighbors
from georecon.padding import room


def padded(values: Tensor) -> Tensor:
    """Rows (M, ...) and zeros after them, so many that the number of rows is a ``room``."""
    more = room(values.shape[0]) - values.shape[0]
    return torch.cat([values, values.new_zeros(more, *values.shape[1:])])


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
    links = neighbors.links
    if links is not None:
        links = _padded_links(links, pairs, first.shape[0] - pairs)
    return neighbors._replace(
        source=source, target=target, pair=pair, first=first, second=second, ways=ways, links=links
    )


def _padded_links(links: Any, pairs: int, more: int) -> Any:
    """Links of which ``more``, after those of pairs, join nothing.

    Args:
        links: of :func:`georecon.kernels.attention_triton.make_links`.
        pairs: number of pairs P.
        more: how many.
    """
    table, dead = links.table, links.table.new_zeros(4, more)
    dead[3] = DEAD
    ends = functional.pad(links.ends, (0, 2 * more))
    return links._replace(table=torch.cat([table[:, :pairs], dead, table[:, pairs:]], 1), ends=ends)
