"""Energies per atom: their metrics' names, and how many atoms a molecule has by its forces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PER_ATOM = "_per_atom"
"""End of the name of a metric of energies that are divided by the number of atoms first."""


def atoms_of(components: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Number of atoms of molecules, by their force components: three an atom.

    Args:
        components: of each molecule, (M,).

    Returns:
        Atoms of each molecule, (M,); None where one has no forces, or there is no molecule.
    """
    return components / 3.0 if len(components) and components.all() else None
