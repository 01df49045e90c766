"""Edge attention on CPUs: the kernel of ``attention.cpp`` in autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from georecon.kernels import native
from georecon.kernels.autograd import Arrays, Operation
from georecon.kernels.filters import Filters
from georecon.kernels.reference import AttentionForm, Neighbors

_INDICES = ("atoms", "pairs", "first", "second", "ways")
PARTS, PART_BYTES = 8, 2**24
"""A batch is computed in at most so many parts, and each may take so many bytes for what it adds to
a table's gradient. Threads share out the parts; their number changes no result."""


def call(
    qkv: Tensor,
    vec: Tensor | None,
    filters: Filters,
    unit: Tensor | None,
    cutoff: Tensor | None,
    neighbors: Neighbors,
    heads: AttentionForm | None,
) -> Any:
    """Message and vector, or without a form of attention the sum of filtered neighbours.

    Arguments as of :func:`georecon.kernels.attention.edge_attention`.
    """
    table, steps = filters.table()
    row, offset = filters.places or (None, None)
    operation = _Kernel(neighbors, heads, row, steps)
    return operation.apply(qkv, vec, table, offset, unit, cutoff)


class _Kernel(Operation):
    """The kernel; without a form of attention, the sum of filtered neighbours.

    The table (T, 4F) holds filters after their SiLU. The input ``place`` is a pair's offset from
    the first row that it reads.

    Args:
        neighbors: edges and pairs.
        heads: form of the attention, or None.
        row: first row of the table that each pair reads, or None: its own.
        steps: from the row before to each row of the table, (T, 4F), if there is a grid.
    """

    entry = "edge_attention"
    inputs = ("qkv", "vec", "table", "place", "unit", "cutoff")
    of_positions = frozenset({"place", "unit", "cutoff"})

    def __init__(
        self,
        neighbors: Neighbors,
        heads: AttentionForm | None,
        row: Tensor | None = None,
        steps: Tensor | None = None,
    ) -> None:
        self.neighbors, self.heads, self.row, self.steps = neighbors, heads, row, steps
        self.of_weights = frozenset() if row is None else frozenset({"table"})

    def arguments(self, *inputs: Any) -> dict[str, Tensor | int | None]:
        """Indices of the edges, and sizes."""
        qkv, _, table, *_ = inputs
        return {
            **{name: getattr(self.neighbors, name) for name in _INDICES},
            "row": self.row,
            "steps": self.steps,
            "molecules": self.neighbors.atoms.shape[0] - 1,
            "channels": qkv.shape[1] // (5 if self.heads else 1),
            "heads": self.heads.heads if self.heads else 1,
            "type": native.TYPES[qkv.dtype],
            "vector_cutoff": self.heads is not None and self.heads.vector_cutoff,
            "parts": self._parts(table),
            "nodes": table.shape[0],
            "embedding": self.heads is None,
        }

    def _parts(self, table: Tensor) -> int:
        """Number of parts: a power of two, so that threads share them evenly.

        No part has fewer pairs than twice the table's rows, which are cleared and summed for each.
        """
        pairs = self.neighbors.first.shape[0]
        most = min(PARTS, PART_BYTES // table.nbytes, pairs // (2 * table.shape[0]))
        return 1 << max(0, most.bit_length() - 1)

    def outputs(self, *inputs: Any) -> Arrays:
        """Message and vector, which the kernel clears."""
        qkv: Tensor = inputs[0]
        if self.heads is None:
            return {"message": torch.empty_like(qkv), "vector": None}
        atoms, channels = qkv.shape[0], qkv.shape[1] // 5
        return {
            "message": qkv.new_empty(atoms, channels),
            "vector": qkv.new_empty(atoms, 3, channels),
        }

    def parts(self, *inputs: Any) -> dict[str, int]:
        """The gradient of a table, where there is a grid: each part of the batch adds to it."""
        table: Tensor = inputs[2]
        return {} if self.row is None else {"table": self._parts(table)}
