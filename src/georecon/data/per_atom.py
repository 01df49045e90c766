"""Energies per atom: their metrics' names, and how many atoms a molecule has by its predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PER_ATOM = "_per_atom"
"""End of the name of a metric of energies that are divided by the number of atoms first."""


def atoms_of(ids: NDArray[np.int64], forces: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Number of atoms of molecules, by their force components: three an atom.

    Args:
        ids: of the molecules, (M,).
        forces: id of each force component, (3N,).

    Returns:
        Atoms of each molecule, (M,); None where one has no forces.
    """
    return count_atoms(ids, *np.unique(forces, return_counts=True))


def count_atoms(
    ids: NDArray[np.int64], known: NDArray[np.int64], components: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """The same from the number of force components of each molecule that has any.

    Args:
        ids: of the molecules, (M,).
        known: molecules with forces, each once, (K,).
        components: of each, (K,).
    """
    if not len(known) or not np.isin(ids, known).all():
        return None
    order = np.argsort(known)
    return np.asarray(components[order][np.searchsorted(known[order], ids)] / 3.0)
