"""Predictions that learn nothing of geometry: what a model must beat to have learned some.

:func:`fit_composition` is the least-squares fit on element counts; :func:`nearest_frame` takes
energy and forces of the training frame most like the one asked for. Both see the training part
alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from georecon.data.molecules import MAX_Z, Float, Molecules

_CHUNK = 2**24  # distances compared at a time, numbers


@dataclass(frozen=True, slots=True)
class Composition:
    """A value for each atom of an element, and a constant.

    Attributes:
        per_atom: by atomic number, as many as the molecules need, float64 [label unit].
        constant: [label unit].
    """

    per_atom: Float
    constant: float

    def predict(self, molecules: Molecules) -> Float:
        """Predictions, (M,) float64 [label unit]."""
        sums = np.add.reduceat(self.per_atom[molecules.z], molecules.offsets[:-1])
        return np.asarray(sums + self.constant)


def fit_composition(train: Molecules, label: str) -> Composition:
    """Least squares on element counts and a constant, fitted on the training molecules.

    Where the counts do not fix the fit the smallest coefficients are taken: an element that no
    training molecule has counts nothing, and molecules of one composition give the training mean.

    Args:
        train: labelled molecules.
        label: name of the label.
    """
    elements = np.unique(train.z)
    starts = train.offsets[:-1]
    counts = np.stack(
        [np.add.reduceat((train.z == z).astype(np.float64), starts) for z in elements], axis=1
    )
    centre, mean = counts.mean(axis=0), float(train.labels[label].mean())
    fit, *_ = np.linalg.lstsq(counts - centre, train.labels[label] - mean, rcond=None)
    per_atom = np.zeros(MAX_Z + 1)
    per_atom[elements] = fit
    return Composition(per_atom, mean - float(centre @ fit))


def nearest_frame(train: Molecules, test: Molecules, label: str) -> tuple[Float, Float]:
    """Energy and forces of the nearest training frame of the same atoms in the same order.

    Frames are compared by all their interatomic distances, so that pose does not count; forces are
    turned with the training frame onto the test frame (Kabsch 1976, without reflection). A test
    frame whose atoms no training frame has gets the training mean and no force.

    Args:
        train: frames with energies and forces.
        test: frames to predict.
        label: name of the energy.

    Returns:
        Energies [label unit], (M,), and forces [label unit/Å], (N, 3), float64.
    """
    assert train.forces is not None, "frames of a force set"
    energies = np.full(len(test), train.labels[label].mean())
    forces = np.zeros((len(test.z), 3))
    known = _by_atoms(train)
    for atoms, frames in _by_atoms(test).items():
        if atoms not in known:
            continue
        size, others = len(atoms), known[atoms]
        there, here = _positions(train, others, size), _positions(test, frames, size)
        nearest = _nearest(there, here)
        energies[frames] = train.labels[label][others[nearest]]
        rotation = _rotations(there[nearest], here)
        rows = train.offsets[others[nearest]][:, None] + np.arange(size)
        turned = train.forces[rows] @ rotation
        forces[(test.offsets[frames][:, None] + np.arange(size)).ravel()] = turned.reshape(-1, 3)
    return energies, forces


def _by_atoms(molecules: Molecules) -> dict[bytes, NDArray[np.int64]]:
    """Rows of the molecules with the same atoms in the same order."""
    found: dict[bytes, list[int]] = {}
    for row, (start, end) in enumerate(
        zip(molecules.offsets[:-1], molecules.offsets[1:], strict=True)
    ):
        found.setdefault(molecules.z[start:end].tobytes(), []).append(row)
    return {atoms: np.array(rows) for atoms, rows in found.items()}


def _positions(molecules: Molecules, rows: NDArray[np.int64], size: int) -> Float:
    """Positions of molecules of equal size, (rows, size, 3) float64."""
    return molecules.pos[molecules.offsets[rows][:, None] + np.arange(size)].astype(np.float64)


def _distances(pos: Float) -> Float:
    """All interatomic distances of each frame, (M, pairs)."""
    first, second = np.triu_indices(pos.shape[1], k=1)
    return np.asarray(np.linalg.norm(pos[:, first] - pos[:, second], axis=-1))


def _nearest(there: Float, here: Float) -> NDArray[np.int64]:
    """Row of the nearest of ``there`` for each of ``here``; the first of equally near ones."""
    known = _distances(there)
    squares = (known**2).sum(axis=1)
    step = max(1, _CHUNK // max(known.size, known.shape[1], 1))
    found = [
        (squares - 2.0 * _distances(here[k : k + step]) @ known.T).argmin(axis=1)
        for k in range(0, len(here), step)
    ]
    return np.concatenate(found)


def _rotations(there: Float, here: Float) -> Float:
    """Rotations R, (M, 3, 3), for which ``there @ R`` lies best on ``here``, both centred."""
    there = there - there.mean(axis=1, keepdims=True)
    here = here - here.mean(axis=1, keepdims=True)
    left, _, right = np.linalg.svd(there.transpose(0, 2, 1) @ here)
    proper = np.ones((len(there), 3, 1))
    proper[:, 2, 0] = np.sign(np.linalg.det(left @ right))
    return np.asarray(left @ (proper * right))
