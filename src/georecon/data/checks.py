"""Physical plausibility of parsed molecules: how a wrong unit is noticed.

Ranges come from the dataset card (``ranges:``), in the units of the store, and are wide enough for
every real record and too narrow for the same record in another common unit. Keys are label names
or one of ``nearest_neighbour`` [Å], ``bond_ratio`` (shortest distance over the sum of covalent
radii, for any elements), ``largest_gap`` [Å] (longest link of the shortest tree that joins all
atoms), ``energy_per_atom`` and ``force_rms``. A single record in another unit is noticed by its
distance from all others (``outliers:``), a molecule in pieces by :mod:`georecon.data.pieces`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from georecon.data.elements import BOND_FACTOR, bond_lengths_squared
from georecon.data.molecules import Molecules, check_molecules
from georecon.data.pairs import same_size_blocks, squared_distances
from georecon.data.pieces import largest_gap, pieces
from georecon.errors import DataError

Ranges = Mapping[str, Sequence[float]]


def check(
    molecules: Molecules, ranges: Ranges, file: str | Path, hints: Mapping[str, str] | None = None
) -> Molecules:
    """Return ``molecules`` if they are usable and plausible.

    Args:
        molecules: parsed molecules, in store units.
        ranges: lowest and highest allowed value of each quantity, in store units.
        file: raw file, named in the error.
        hints: raw unit that a quantity was read in, named in the error.

    Raises:
        DataError: unusable arrays (see ``check_molecules``), a molecule in pieces unless ``ranges``
            say which gaps there are, or a value outside its range; names the first molecule id at
            fault and the expected range.
    """
    check_molecules(molecules, file)
    for row, reason in faults(molecules, ranges, hints):
        raise DataError(file, int(molecules.ids[row]), reason)
    if "largest_gap" not in ranges:
        for row, reason in pieces(molecules):
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
        unit = f"it was read as {hint}: is the file in that unit?" if hint else "is the unit right?"
        for row in bad:
            yield (
                int(row),
                f"{name} = {values[row]:.6g} is outside the plausible {low:g} to {high:g} "
                f"({len(bad)} of {len(molecules)} molecules here); {unit}",
            )


_FEWEST = 8


def refuse_outliers(molecules: Molecules, limits: Mapping[str, float], file: str | Path) -> None:
    """Refuse a value far from all others, as one record in another unit is.

    The distance is from the mean of the other records, in their standard deviations: one wrong
    record then cannot hide behind the spread it makes itself. Nothing is looked at in fewer than
    eight records.

    Args:
        molecules: all molecules of a file, in store units.
        limits: largest allowed distance by quantity, from the dataset card (``outliers:``).
        file: raw file, named in the error.

    Raises:
        DataError: names the molecule id that is farthest off, and the key that allows it.
    """
    for name, limit in limits.items():
        values = _quantity(molecules, name)
        if values is None or len(values) < _FEWEST:
            continue
        distance = leave_one_out(values)
        row = int(np.argmax(distance))
        if distance[row] > limit:
            raise DataError(
                file,
                int(molecules.ids[row]),
                f"{name} = {values[row]:.6g} is {distance[row]:.3g} standard deviations from the "
                f"mean of the others, allowed {limit:g} ({int((distance > limit).sum())} of "
                f"{len(values)} records here); is the unit right? If it is: outliers.{name}",
            )


def leave_one_out(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each value from the mean of the others, in their standard deviations, (M,)."""
    centred = values - np.median(values)
    scale = np.abs(centred).max() or 1.0
    x, n = centred / scale, len(values) - 1
    mean = (x.sum() - x) / n
    variance = ((x * x).sum() - x * x) / n - mean * mean
    spread = np.sqrt(np.maximum(variance, 1e-24))  # all others equal: rounding is no distance
    return np.asarray(np.abs(x - mean) / spread)


def _quantity(molecules: Molecules, name: str) -> NDArray[np.float64] | None:
    """Values to compare with a range, (M,), or None where the set has no such quantity."""
    if name == "nearest_neighbour":
        return nearest_neighbour(molecules)
    if name == "bond_ratio":
        return nearest_neighbour(molecules, relative=True)
    if name == "largest_gap":
        return largest_gap(molecules)
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


def nearest_neighbour(molecules: Molecules, *, relative: bool = False) -> NDArray[np.float64]:
    """Smallest distance within each molecule [Å], (M,); NaN for a single atom.

    Args:
        molecules: with positions [Å].
        relative: divide each distance by the sum of the two covalent radii first.
    """
    nearest = np.full(len(molecules), np.nan)
    for size, rows in same_size_blocks(molecules.n_atoms()):
        if size < 2:
            continue
        atoms = molecules.offsets[rows][:, None] + np.arange(size)  # (B, n)
        squares = squared_distances(molecules.pos[atoms])  # (B, n, n)
        if relative:
            squares *= np.float32(BOND_FACTOR**2) / bond_lengths_squared(molecules.z[atoms])
        squares[:, np.arange(size), np.arange(size)] = np.inf
        nearest[rows] = np.sqrt(squares.min(axis=(1, 2)))
    return nearest
