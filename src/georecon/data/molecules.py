"""Parsed molecules in memory: what readers return and stores hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from georecon.errors import DataError

MAX_Z = 100

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Molecules:
    """A chunk of parsed molecules; atoms of molecule ``i`` are ``offsets[i]:offsets[i+1]``.

    Attributes:
        ids: molecule ids, (M,).
        z: atomic numbers, (N,).
        pos: positions [Å], (N, 3).
        offsets: first atom of each molecule and the number of atoms, (M+1,).
        labels: per-molecule values in the units of the dataset card, (M,) each.
        forces: per-atom forces in the units of the dataset card, (N, 3), or None.
    """

    ids: Int
    z: NDArray[np.uint8]
    pos: NDArray[np.float32]
    offsets: Int
    labels: dict[str, Float]
    forces: Float | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def n_atoms(self) -> Int:
        """Atoms per molecule, (M,)."""
        return np.diff(self.offsets)

    def keep(self, mask: NDArray[np.bool_]) -> Molecules:
        """The molecules where ``mask`` (M,) is true."""
        counts = self.n_atoms()
        atoms = np.repeat(mask, counts)
        return Molecules(
            ids=self.ids[mask],
            z=self.z[atoms],
            pos=self.pos[atoms],
            offsets=_offsets(counts[mask]),
            labels={name: values[mask] for name, values in self.labels.items()},
            forces=None if self.forces is None else self.forces[atoms],
        )

    @classmethod
    def from_list(
        cls,
        ids: ArrayLike,
        z: Sequence[ArrayLike],
        pos: Sequence[ArrayLike],
        labels: dict[str, ArrayLike] | None = None,
        forces: Sequence[ArrayLike] | None = None,
    ) -> Molecules:
        """Join separate molecules: ``z[i]`` (n_i,), ``pos[i]`` (n_i, 3) [Å], ``forces[i]``."""
        counts = np.array([len(np.asarray(one)) for one in z], dtype=np.int64)
        return cls(
            ids=np.asarray(ids, dtype=np.int64),
            z=_join(z, np.uint8, ()),
            pos=_join(pos, np.float32, (3,)),
            offsets=_offsets(counts),
            labels={k: np.asarray(v, dtype=np.float64) for k, v in (labels or {}).items()},
            forces=None if forces is None else _join(forces, np.float64, (3,)),
        )

    @classmethod
    def concatenate(cls, chunks: Iterable[Molecules]) -> Molecules:
        """One chunk from several that carry the same labels."""
        parts = list(chunks)
        if not parts:
            return cls.from_list([], [], [])
        has_forces = all(part.forces is not None for part in parts)
        counts = np.concatenate([part.n_atoms() for part in parts])
        return cls(
            ids=np.concatenate([part.ids for part in parts]),
            z=np.concatenate([part.z for part in parts]),
            pos=np.concatenate([part.pos for part in parts]),
            offsets=_offsets(counts),
            labels={k: np.concatenate([part.labels[k] for part in parts]) for k in parts[0].labels},
            forces=np.concatenate([part.forces for part in parts if part.forces is not None])
            if has_forces
            else None,
        )


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that was left out on purpose, and why."""

    record: str
    reason: str


@dataclass(frozen=True, slots=True)
class IsolatedAtom(Rejected):
    """A frame of a single atom: no molecule, but a reference of its element.

    Attributes:
        symbol: of its element.
        labels: its energies by label, in store units.
    """

    symbol: str
    labels: Mapping[str, float]


def _offsets(counts: Int) -> Int:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _join(items: Sequence[ArrayLike], dtype: Any, tail: tuple[int, ...]) -> NDArray[Any]:
    arrays = [np.asarray(item, dtype=dtype).reshape(-1, *tail) for item in items]
    return np.concatenate(arrays) if arrays else np.zeros((0, *tail), dtype=dtype)


def check_molecules(molecules: Molecules, file: str | Path) -> None:
    """Refuse a chunk that no store may hold.

    Args:
        molecules: the chunk.
        file: named in the error.

    Raises:
        DataError: wrong shapes, an empty molecule, Z outside 1..100, or a number that is not
            finite; the error names the first molecule id at fault.
    """
    _check_shapes(molecules, file)
    offsets = molecules.offsets

    def owner(atom: np.int64) -> int:
        return int(molecules.ids[np.searchsorted(offsets, atom, side="right") - 1])

    for name, values in molecules.labels.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            where = int(molecules.ids[bad[0]])
            raise DataError(file, where, f"label {name} is {values[bad[0]]}, expected finite")
    odd = np.flatnonzero((molecules.z < 1) | (molecules.z > MAX_Z))
    if len(odd):
        reason = f"unknown element: Z = {molecules.z[odd[0]]}, expected 1..{MAX_Z}"
        raise DataError(file, owner(odd[0]), reason)
    for name, array in (("positions", molecules.pos), ("forces", molecules.forces)):
        if array is not None:
            bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
            if len(bad):
                reason = f"{name} contain NaN or infinity, expected finite numbers"
                raise DataError(file, owner(bad[0]), reason)


def _check_shapes(molecules: Molecules, file: str | Path) -> None:
    m, n, offsets = len(molecules.ids), len(molecules.z), molecules.offsets
    if len(offsets) != m + 1 or offsets[0] != 0 or offsets[-1] != n:
        raise DataError(file, None, f"offsets must run from 0 to {n} in {m + 1} entries")
    for name, array in (("positions", molecules.pos), ("forces", molecules.forces)):
        if array is not None and array.shape != (n, 3):
            raise DataError(file, None, f"{name} have shape {array.shape}, expected ({n}, 3)")
    for name, values in molecules.labels.items():
        if values.shape != (m,):
            raise DataError(file, None, f"label {name} has shape {values.shape}, expected ({m},)")
    empty = np.flatnonzero(np.diff(offsets) < 1)
    if len(empty):
        raise DataError(file, int(molecules.ids[empty[0]]), "no atoms, expected at least one")
