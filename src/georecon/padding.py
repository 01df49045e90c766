"""Batches in arrays of a few sizes, for steps that are recorded (:mod:`georecon.training.replay`).

Molecules of several sizes make another number of atoms and of edges at every step. Here a batch is
filled up to the next of a few sizes with molecules whose atoms nothing is near. Losses leave them
out (:func:`georecon.graph.mean_of_atoms`), so losses and gradients are the batch's own but for
rounding: sums have zeros between their terms.
"""

from __future__ import annotations

import torch

from georecon.graph import MolGraph

FILLERS = 8
"""Molecules that a batch is filled up with: each has about as many atoms as one of the batch's."""
FILLER_ID = -1
_SIZES = 8  # between two powers of two
_APART = 100.0  # Å, beyond any cutoff


def room(count: int) -> int:
    """The next of a few sizes, at most an eighth above ``count``."""
    step = max(1, 2 ** (count.bit_length() - 1) // _SIZES)
    return -(-count // step) * step


def filled_up(graph: MolGraph) -> MolGraph:
    """A batch with ``FILLERS`` more molecules; the number of its atoms is one of a few sizes.

    The host waits for nothing.
    """
    atoms, device = graph.z.shape[0], graph.z.device
    spare = room(atoms + FILLERS) - atoms
    last = atoms + torch.arange(1, FILLERS + 1, device=device) * spare // FILLERS
    ptr = torch.cat([graph.ptr, last])
    molecule = torch.arange(FILLERS, device=device) + graph.num_graphs
    batch = molecule.repeat_interleave(ptr[-FILLERS - 1 :].diff(), output_size=spare)
    pos = graph.pos.new_zeros(spare, 3)
    pos[:, 0] = _APART * torch.arange(spare, device=device)
    return MolGraph(
        torch.cat([graph.z, graph.z.new_ones(spare)]),
        torch.cat([graph.pos, pos]),
        torch.cat([graph.batch, batch]),
        ptr,
        torch.cat([graph.ids, graph.ids.new_full((FILLERS,), FILLER_ID)]),
        FILLERS,
    )
