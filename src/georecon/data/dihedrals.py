"""Dihedral angles of frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dihedral_degrees(pos: NDArray[np.float64], atoms: tuple[int, ...]) -> NDArray[np.float64]:
    """Dihedral angle of four atoms, with the sign of IUPAC: positive clockwise along the bond.

    Args:
        pos: positions [Å] of frames of one molecule, (M, N, 3).
        atoms: four rows of a frame, a chain.

    Returns:
        Angles from 0 up to 360 [degrees], (M,).
    """
    a, b, c, d = (pos[:, atom] for atom in atoms)
    axis = (c - b) / np.linalg.norm(c - b, axis=1, keepdims=True)
    left, right = np.cross(a - b, axis), np.cross(d - c, axis)
    cos = (left * right).sum(axis=1)
    sin = (np.cross(left, right) * axis).sum(axis=1)
    return np.degrees(np.arctan2(sin, cos)) % 360.0
