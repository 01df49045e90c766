"""Molecules in pieces: how frames wrapped through the walls of a box are noticed.

Atoms are linked where they are bonded, or as near as molecules in contact are. A complex, such as a
ball in its catcher 3 Å away, is of one piece then; a molecule whose other half was put at the far
wall is not. Where the box is hardly larger than the molecule the halves may be as near as two
molecules are: a bond broken in two leaves halves of odd numbers of electrons, which molecules in
contact do not have.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from georecon.data.elements import BOND_FACTOR, bond_lengths_squared
from georecon.data.molecules import Molecules
from georecon.data.pairs import same_size_blocks, squared_distances

_BONDED = 1.7
"""Distance over the sum of covalent radii up to which atoms are bonded, in hot molecules too (1.26
at 1200 K); hydrogen bonds begin at 1.6 but are shorter than ``_CONTACT``."""
_CONTACT = 2.5
"""[Å] Hydrogen bonds and ion pairs are shorter."""
_APART = 4.0
"""[Å] The nearest atoms of two molecules in contact are never so far away."""

Mask = NDArray[np.bool_]


def pieces(molecules: Molecules) -> Iterator[tuple[int, str]]:
    """Index and reason of each molecule that is in pieces.

    Either a gap of more than 4 Å runs through it, or a smaller one leaves two or more fragments
    with odd numbers of electrons.
    """
    for size, rows in same_size_blocks(molecules.n_atoms()):
        atoms = molecules.offsets[rows][:, None] + np.arange(size)  # (B, n)
        squares = squared_distances(molecules.pos[atoms])  # (B, n, n)
        z = molecules.z[atoms]
        bonds = bond_lengths_squared(z) * np.float32((_BONDED / BOND_FACTOR) ** 2)
        near = squares <= np.maximum(bonds, np.float32(_CONTACT**2))
        # of one piece if every atom but the first is linked to an earlier one
        earlier = np.tri(size, k=-1, dtype=np.bool_)
        whole = (near & earlier).any(axis=2)[:, 1:].all(axis=1)
        for place in np.flatnonzero(~whole):
            far = squares[place] <= np.maximum(bonds[place], np.float32(_APART**2))
            reason = _reason(z[place], near[place], far, squares[place])
            if reason is not None:
                yield int(rows[place]), reason


def _reason(
    z: NDArray[np.uint8], near: Mask, far: Mask, squares: NDArray[np.float32]
) -> str | None:
    fragments = _fragments(near)
    if len(fragments) == 1:
        return None
    electrons = [int(z[one].sum()) for one in fragments]
    odd = sum(count % 2 for count in electrons) > 1
    if not odd and len(fragments := _fragments(far)) == 1:
        return None
    gap = float(_largest_gap(squares[None])[0])
    why = f", with {' and '.join(map(str, electrons[:4]))} electrons: a broken bond" if odd else ""
    return (
        f"is in {len(fragments)} pieces up to {gap:.3g} Å apart{why}; was it wrapped through the "
        "wall of a box? If it is right, say how far apart pieces may be: ranges.largest_gap: "
        f"[0, {np.ceil(gap):.0f}]"
    )


def _fragments(linked: Mask) -> list[Mask]:
    """Atoms of each connected part, from (n, n) links."""
    left = np.ones(len(linked), dtype=np.bool_)
    found = []
    while left.any():
        part = np.zeros_like(left)
        part[np.argmax(left)] = True
        while (grown := linked[part].any(axis=0) | part).sum() > part.sum():
            part = grown
        left &= ~part
        found.append(part)
    return found


def largest_gap(molecules: Molecules) -> NDArray[np.float64]:
    """Longest link of the shortest tree that joins all atoms [Å], (M,); NaN for a single atom."""
    gaps = np.full(len(molecules), np.nan)
    for size, rows in same_size_blocks(molecules.n_atoms()):
        if size > 1:
            atoms = molecules.offsets[rows][:, None] + np.arange(size)
            gaps[rows] = _largest_gap(squared_distances(molecules.pos[atoms]))
    return gaps


def _largest_gap(squares: NDArray[np.float32]) -> NDArray[np.float64]:
    """Prim's algorithm on many molecules at once, (B, n, n) squared distances → (B,)."""
    block = np.arange(len(squares))
    outside = np.ones(squares.shape[:2], dtype=np.bool_)
    outside[:, 0] = False
    nearest, gaps = squares[:, 0].copy(), np.zeros(len(squares), dtype=np.float32)
    for _ in range(squares.shape[1] - 1):
        distance = np.where(outside, nearest, np.inf)
        atom = distance.argmin(axis=1)
        gaps = np.maximum(gaps, distance[block, atom])
        outside[block, atom] = False
        nearest = np.minimum(nearest, squares[block, atom])
    return np.sqrt(gaps.astype(np.float64))
