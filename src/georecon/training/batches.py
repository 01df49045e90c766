"""Batches as a pure function of (seed, step): no loader processes, no generator state to keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from georecon.data.store import Store
from georecon.errors import ConfigError
from georecon.graph import MolGraph, check_graph, make_graph
from georecon.padding import filled_up
from georecon.training.world import World

RESIDENT_FRACTION = 0.4
"""Part of a GPU's free memory that a store may take up to be kept there."""
_CHECKED = 1024  # molecules at once


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

    def filled_up(self) -> Batch:
        """With fillers (:mod:`georecon.padding`), whose labels are 0; of energies alone."""
        graph = filled_up(self.graph)
        label = functional.pad(self.label, (0, graph.fillers))
        return Batch(graph, label, self.forces[:0])

    def to(self, device: str) -> Batch:
        """Copy to a device; on a GPU by way of pinned memory, without waiting for the copy."""
        batch = self
        if device == "cuda":
            pinned = self.graph.each(Tensor.pin_memory)
            batch = Batch(pinned, self.label.pin_memory(), self.forces.pin_memory())
        label, forces = (t.to(device, non_blocking=True) for t in (batch.label, batch.forces))
        return Batch(batch.graph.to(device), label, forces)


class Share(NamedTuple):
    """What part of the global batch's molecules and atoms this process has; 1 for one process.

    A mean over the share times the part is this process's summand of the mean over the batch.
    """

    molecules: float
    atoms: float

    def of(self, kind: str, mean: Tensor) -> Tensor:
        """Summand of the global mean over ``kind``, "atoms" or "molecules"."""
        part = self.atoms if kind == "atoms" else self.molecules
        return mean if part == 1.0 else mean * part


WHOLE = Share(1.0, 1.0)


def load_batch(store: Store, rows: np.ndarray, label: str | None = None) -> Batch:
    """Gather rows of a store into a batch.

    Args:
        store: opened store.
        rows: row numbers, (B,) int64.
        label: name of the label to take along, or None.
    """
    part = store.gather(rows, () if label is None else (label,))
    counts = torch.from_numpy(np.diff(part.offsets))
    graph = make_graph(
        torch.from_numpy(part.z), torch.from_numpy(part.pos), counts, torch.from_numpy(part.ids)
    )
    labels = np.zeros(0) if label is None else part.labels[label]
    forces = np.zeros((0, 3)) if label is None or part.forces is None else part.forces
    return Batch(graph, torch.from_numpy(labels), torch.from_numpy(forces))


class Resident:
    """A store's arrays as tensors on one device; batches are gathered there.

    Args:
        store: opened store.
        label: label to take along, or None.
        device: any torch device.
    """

    def __init__(self, store: Store, label: str | None, device: str) -> None:
        self.device, self.label = device, label
        self.columns = {
            name: torch.from_numpy(np.array(values)).to(device)  # a copy: maps are read-only
            for name, values in _columns(store, label).items()
        }

    def gather(self, rows: np.ndarray, atoms: int) -> Batch:
        """The same batch as :func:`load_batch`; the host waits for nothing.

        Args:
            rows: row numbers, (B,).
            atoms: number of their atoms N, which the host knows from the store.
        """
        columns = self.columns
        row = torch.from_numpy(rows).to(self.device, non_blocking=True)
        start = columns["offsets"][row]
        counts = columns["offsets"][row + 1] - start
        ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        molecule = torch.arange(len(rows), device=self.device)
        batch = molecule.repeat_interleave(counts, output_size=atoms)
        atom = torch.arange(atoms, device=self.device) + (start - ptr[:-1])[batch]
        z, pos, ids = columns["z"][atom].to(torch.int64), columns["pos"][atom], columns["ids"][row]
        empty = torch.zeros(0, dtype=torch.float64, device=self.device)
        label = columns["label"][row] if "label" in columns else empty
        forces = columns["forces"][atom] if "forces" in columns else empty.view(0, 3)
        return Batch(MolGraph(z, pos, batch, ptr, ids), label, forces)


def _columns(store: Store, label: str | None) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {
        **{"offsets": store.offsets, "ids": store.ids},
        **{"z": store.z, "pos": store.pos},
    }
    if label is not None:
        columns["label"] = store.labels[label]
        if store.forces is not None:
            columns["forces"] = store.forces
    return columns


def fits(store: Store, label: str | None, free: int) -> bool:
    """Whether a store may be kept in ``free`` bytes of a GPU's memory."""
    size = sum(values.nbytes for values in _columns(store, label).values())
    return size <= RESIDENT_FRACTION * free


class ShuffledBatches:
    """Endless shuffled batches of a subset of a store, or one process's share of each.

    Epoch e visits the molecules in the order ``default_rng([seed, e]).permutation``; a last batch
    smaller than the rest is left out of its epoch. Of every batch, process k of W takes the
    molecules k, k + W, k + 2W, …

    Args:
        store: opened store.
        ids: molecule ids of the subset, (M,).
        batch_size: molecules per batch of all processes together, at most M.
        seed: seed of the order.
        label: label to take along, or None.
        world: the processes that share each batch, and their device. A GPU keeps the store if it
            fits; otherwise batches are gathered in the memory-mapped files and copied.
        part_atoms: a process takes its share of a batch in parts of at most so many atoms, a
            larger molecule alone; 0: all at once.

    Raises:
        ConfigError: fewer molecules in a batch than processes.
    """

    def __init__(
        self,
        store: Store,
        ids: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        label: str | None = None,
        world: World | None = None,
        part_atoms: int = 0,
    ) -> None:
        self.store, self.label, self.seed, self.part_atoms = store, label, seed, part_atoms
        self.world = world or World()
        self.rows = store.rows(ids)
        self.batch_size = min(batch_size, len(self.rows))
        if self.batch_size < self.world.size:
            raise ConfigError(
                f"batch_size is {self.batch_size}; must be at least the number of processes "
                f"({self.world.size})"
            )
        self.per_epoch = len(self.rows) // self.batch_size
        self._epoch, self._order = -1, self.rows
        self._resident: Resident | None = None
        self._checked = False
        on_gpu = self.world.device == "cuda"
        if on_gpu and fits(store, label, torch.cuda.mem_get_info()[0]):
            self._resident = Resident(store, label, self.world.device)

    def rows_at(self, step: int) -> np.ndarray:
        """Rows of the whole batch of optimiser step ``step`` (from 0), of all processes."""
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
            self._epoch, self._order = epoch, self.rows[order]
        start = index * self.batch_size
        return self._order[start : start + self.batch_size]

    def ids_at(self, step: int) -> list[int]:
        """Molecule ids of the whole batch of a step."""
        return list(map(int, self.store.ids[self.rows_at(step)]))

    def check(self, max_z: int) -> None:
        """Refuse molecules that no encoder could read, all at once, the first time it is asked.

        Raises:
            DataError: as of :func:`georecon.graph.check_graph`.
        """
        if not self._checked:
            for rows in _pieces(self.store, self.rows, _CHECKED, 0):
                check_graph(load_batch(self.store, rows).graph, max_z)
        self._checked = True

    def parts(self, step: int) -> list[np.ndarray]:
        """Rows of each part that this process takes of a step's batch."""
        rows = self.rows_at(step)[self.world.rank :: self.world.size]
        return _pieces(self.store, rows, len(rows), self.part_atoms)

    def equal_atoms(self, step: int, part: int) -> int:
        """Atoms of each molecule of a part, if all have the same number, else 0."""
        counts = self.store.n_atoms(self.parts(step)[part])
        return int(counts[0]) if (counts == counts[0]).all() else 0

    def at(self, step: int, part: int = 0) -> Batch:
        """A part of this process's share of a step's batch, on the device."""
        rows = self.parts(step)[part]
        if self._resident is not None:
            return self._resident.gather(rows, int(self.store.n_atoms(rows).sum()))
        return load_batch(self.store, rows, self.label).to(self.world.device)

    def share(self, step: int, part: int = 0) -> Share:
        """How much of a step's whole batch that part is."""
        mine, rows = self.parts(step)[part], self.rows_at(step)
        if len(mine) == len(rows):
            return WHOLE
        atoms = self.store.n_atoms(mine).sum() / self.store.n_atoms(rows).sum()
        return Share(len(mine) / len(rows), float(atoms))


def _pieces(store: Store, rows: np.ndarray, molecules: int, atoms: int) -> list[np.ndarray]:
    """Rows in order, in pieces of so many molecules and, unless it is 0, atoms at most."""
    if len(rows) <= molecules and not atoms:
        return [rows]
    counts = store.n_atoms(rows)
    starts, held = [0], 0
    for place, count in enumerate(counts.tolist()):
        full = place - starts[-1] == molecules or (atoms and held + count > atoms)
        if full and place > starts[-1]:
            starts.append(place)
            held = 0
        held += count
    return np.split(rows, starts[1:])


def in_order(
    store: Store, ids: np.ndarray, batch_size: int, label: str | None, part_atoms: int = 0
) -> list[Batch]:
    """The batches of :func:`one_by_one` as a list, to be gone through many times.

    Arguments are those of :func:`one_by_one`.
    """
    return list(one_by_one(store, ids, batch_size, label, part_atoms))


def one_by_one(
    store: Store, ids: np.ndarray, batch_size: int, label: str | None, part_atoms: int = 0
) -> Iterator[Batch]:
    """All molecules of ``ids``, once, in that order; of the batches one at a time is in memory.

    Args:
        store: opened store.
        ids: molecule ids, (M,).
        batch_size: most molecules of a batch.
        label: label to take along, or None.
        part_atoms: most atoms of a batch, a larger molecule alone; 0: any number.
    """
    pieces = _pieces(store, store.rows(ids), batch_size, part_atoms)
    return (load_batch(store, rows, label) for rows in pieces if len(rows))
