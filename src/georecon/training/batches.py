"""Batches as a pure function of (seed, step): no loader processes, no generator state to keep."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from georecon.data.store import Store
from georecon.graph import MolGraph, make_graph


class Batch(NamedTuple):
    """Molecules with their labels.

    Attributes:
        graph: B molecules, N atoms.
        label: (B,) float64 [label unit]; (0,) when none was asked for.
        forces: (N, 3) float64 [label unit/Å]; (0, 3) when the store has none.
    """

    graph: MolGraph
    label: Tensor
    forces: Tensor


def load_batch(store: Store, rows: np.ndarray, label: str | None = None) -> Batch:
    """Gather rows of a store into a batch.

    Args:
        store: opened store.
        rows: row numbers, (B,) int64.
        label: name of the label to take along, or None.
    """
    part = store.gather(rows)
    counts = torch.from_numpy(np.diff(part.offsets))
    graph = make_graph(
        torch.from_numpy(part.z), torch.from_numpy(part.pos), counts, torch.from_numpy(part.ids)
    )
    labels = np.zeros(0) if label is None else part.labels[label]
    forces = np.zeros((0, 3)) if label is None or part.forces is None else part.forces
    return Batch(graph, torch.from_numpy(labels), torch.from_numpy(forces))


class ShuffledBatches:
    """Endless shuffled batches of a subset of a store.

    Epoch e visits the molecules in the order ``default_rng([seed, e]).permutation``; a last batch
    smaller than the rest is left out of its epoch.

    Args:
        store: opened store.
        ids: molecule ids of the subset, (M,).
        batch_size: molecules per batch, at most M.
        seed: seed of the order.
        label: label to take along, or None.
    """

    def __init__(
        self, store: Store, ids: np.ndarray, *, batch_size: int, seed: int, label: str | None = None
    ) -> None:
        self.store, self.label, self.seed = store, label, seed
        self.rows = store.rows(ids)
        self.batch_size = min(batch_size, len(self.rows))
        self.per_epoch = len(self.rows) // self.batch_size
        self._epoch, self._order = -1, self.rows

    def at(self, step: int) -> Batch:
        """Batch of optimiser step ``step`` (from 0)."""
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
            self._epoch, self._order = epoch, self.rows[order]
        start = index * self.batch_size
        return load_batch(self.store, self._order[start : start + self.batch_size], self.label)


def in_order(store: Store, ids: np.ndarray, batch_size: int, label: str | None) -> list[Batch]:
    """All molecules of ``ids``, once, in that order, as a list of batches."""
    rows = store.rows(ids)
    return [
        load_batch(store, rows[start : start + batch_size], label)
        for start in range(0, len(rows), batch_size)
    ]
