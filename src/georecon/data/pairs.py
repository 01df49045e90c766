"""Distances of all pairs of atoms, for molecules of equal size at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_PAIRS_PER_BLOCK = 1_000_000


def same_size_blocks(
    n_atoms: NDArray[np.int64], pairs: int = _PAIRS_PER_BLOCK
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Group molecules of equal size, so that a dense (B, n, n) array stays within ``pairs``."""
    if not len(n_atoms):
        return
    order = np.argsort(n_atoms, kind="stable")
    sizes, starts = np.unique(n_atoms[order], return_index=True)
    for size, group in zip(sizes, np.split(order, starts[1:]), strict=True):
        step = max(1, pairs // int(size) ** 2)
        for first in range(0, len(group), step):
            yield int(size), group[first : first + step]


def squared_distances(pos: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distances [Å²] of all pairs, (B, n, 3) → (B, n, n), in float32."""
    squares = np.zeros((*pos.shape[:2], pos.shape[1]), dtype=np.float32)
    for axis in range(3):
        x = pos[:, :, axis]
        difference = x[:, :, None] - x[:, None, :]
        squares += difference * difference
    return squares
