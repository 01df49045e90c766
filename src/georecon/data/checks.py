"""Physical plausibility of parsed molecules: how a wrong unit is noticed.

Ranges come from the dataset card (``ranges:``), in the units of the store, and are wide enough for
every real record and too narrow for the same record in another common unit. Keys are label names
or one of ``nearest_neighbour`` [Å], ``energy_per_atom`` and ``force_rms``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from georecon.data.molecules import Molecules, check_molecules
from georecon.errors import DataError

Ranges = Mapping[str, Sequence[float]]

_PAIRS_PER_BLOCK = 1_000_000


def check(
    molecules: Molecules, ranges: Ranges, file: str | Path, hints: Mapping[str, str] | None = None
) -> Molecules:
    """Return ``molecules`` if they are usable and plausible.

    Args:
        molecules: parsed molecules, in store units.
        ranges: lowest and highest allowed value of each quantity, in store units.
        file: raw file, named in the error.
        hints: what the raw unit of a quantity should be, named in the error.

    Raises:
        DataError: unusable arrays (see ``check_molecules``), or a value outside its range; names
            the first molecule id at fault and the expected range.
    """
    check_molecules(molecules, file)
    for row, reason in faults(molecules, ranges, hints):
        raise DataError(file, int(molecules.ids[row]), reason)
    return molecules


def faults(
    molecules: Molecules, ranges: Ranges, hints: Mapping[str, str] | None = None
) -> Iterator[tuple[int, str]]:
    """Index and reason of each implausible value; a molecule may come more than once."""
    for name, (low, high) in ranges.items():
        values = _quantity(molecules, name)
        if values is None:
            continue
        bad = np.flatnonzero((values < low) | (values > high))  # NaN: does not apply
        hint = (hints or {}).get(name)
        unit = f"the raw unit must be {hint}" if hint else "is the unit right?"
        for row in bad:
            yield (
                int(row),
                f"{name} = {values[row]:.6g} is outside the plausible {low:g} to {high:g} "
                f"({len(bad)} of {len(molecules)} molecules here); {unit}",
            )


def _quantity(molecules: Molecules, name: str) -> NDArray[np.float64] | None:
    """Values to compare with a range, (M,), or None where the set has no such quantity."""
    if name == "nearest_neighbour":
        return nearest_neighbour(molecules)
    if name == "energy_per_atom":
        energy = molecules.labels.get("energy")
        if energy is None:
            return None
        # Isolated atoms are exempt: hydrogen's energy is far from any molecule's mean.
        return np.where(molecules.n_atoms() > 1, energy / molecules.n_atoms(), np.nan)
    if name == "force_rms":
        if molecules.forces is None:
            return None
        squares = np.add.reduceat((molecules.forces**2).mean(axis=1), molecules.offsets[:-1])
        return np.asarray(np.sqrt(squares / molecules.n_atoms()))
    return molecules.labels.get(name)


def same_size_blocks(
    n_atoms: NDArray[np.int64], pairs: int = _PAIRS_PER_BLOCK
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Group molecules of equal size, so that a dense (B, n, n) array stays within ``pairs``."""
    order = np.argsort(n_atoms, kind="stable")
    sizes, starts = np.unique(n_atoms[order], return_index=True)
    for size, group in zip(sizes, np.split(order, starts[1:]), strict=True):
        step = max(1, pairs // int(size) ** 2)
        for first in range(0, len(group), step):
            yield int(size), group[first : first + step]


def nearest_neighbour(molecules: Molecules) -> NDArray[np.float64]:
    """Smallest distance within each molecule [Å], (M,); NaN for a single atom."""
    nearest = np.full(len(molecules), np.nan)
    for size, rows in same_size_blocks(molecules.n_atoms()):
        if size < 2:
            continue
        atoms = molecules.offsets[rows][:, None] + np.arange(size)  # (B, n)
        squares = squared_distances(molecules.pos[atoms])  # (B, n, n)
        squares[:, np.arange(size), np.arange(size)] = np.inf
        nearest[rows] = np.sqrt(squares.min(axis=(1, 2)))
    return nearest


def squared_distances(pos: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distances [Å²] of all pairs, (B, n, 3) → (B, n, n), in float32."""
    squares = np.zeros((*pos.shape[:2], pos.shape[1]), dtype=np.float32)
    for axis in range(3):
        x = pos[:, :, axis]
        difference = x[:, :, None] - x[:, None, :]
        squares += difference * difference
    return squares
