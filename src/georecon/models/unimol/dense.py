"""Dense batches: each molecule's atoms in as many places as the largest molecule has."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from georecon.graph import MolGraph


class Dense(NamedTuple):
    """Where atoms and pairs of atoms lie in arrays padded to A atoms a molecule.

    Attributes:
        molecules, size: B and A.
        atom: atom in each place, some other where the place is empty, (B, A) int64.
        place: place of each atom among B·A, (N,) int64.
        pair: place of each ordered pair of one molecule's atoms, an atom with itself included,
            among B·A·A, (P,) int64.
        first, second: its atoms, (P,) int64.
        counts: atoms of each molecule, (B,) int64.
    """

    molecules: int
    size: int
    atom: Tensor
    place: Tensor
    pair: Tensor
    first: Tensor
    second: Tensor
    counts: Tensor

    @classmethod
    def of(cls, graph: MolGraph) -> Dense:
        """Places of a batch's atoms."""
        counts = graph.ptr[1:] - graph.ptr[:-1]
        size = int(counts.max())
        slots = torch.arange(size, device=counts.device)
        filled = slots < counts[:, None]  # (B, A)
        atom = (graph.ptr[:-1, None] + slots).clamp(max=len(graph.z) - 1)
        place = filled.view(-1).nonzero()[:, 0]
        pair = (filled[:, :, None] & filled[:, None]).view(-1).nonzero()[:, 0]
        row = pair.div(size, rounding_mode="floor")
        molecule = row.div(size, rounding_mode="floor")
        second = graph.ptr[molecule] + pair % size
        return cls(len(counts), size, atom, place, pair, atom.view(-1)[row], second, counts)

    def rows(self, values: Tensor, atoms: Tensor) -> Tensor:
        """Rows of some atoms: values of pairs (B, A, A, C), atoms (M,) → (M, A, C)."""
        shape = (self.molecules * self.size, self.size, values.shape[-1])
        return values.reshape(shape).index_select(0, self.place[atoms])

    def partners(self, graph: MolGraph, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Atoms of the molecules of some atoms: atoms (M,) → atoms (M, A), and which are there."""
        molecule = graph.batch[atoms]
        slots = torch.arange(self.size, device=atoms.device)
        return self.atom[molecule], slots < self.counts[molecule][:, None]
