"""What labels say without a model: their statistics and references, and predictions from them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from georecon.data.elements import ATOMIC_NUMBER
from georecon.data.force_sums import force_sums
from georecon.data.molecules import MAX_Z, Molecules
from georecon.data.naive import Composition, fit_composition, nearest_frame
from georecon.data.store import Store
from georecon.errors import ConfigError, DataError
from georecon.experiments.settings import Recipe

PART_MOLECULES = 50_000
"""Test molecules in memory at a time."""


def label_statistics(molecules: Molecules, label: str, atomref: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of labels less references, in float64 [label unit].

    Args:
        molecules: labelled training molecules.
        label: name of the label.
        atomref: reference of each atom by atomic number, (max_z,).
    """
    residual = molecules.labels[label] - Composition(atomref, 0.0).predict(molecules)
    return float(residual.mean()), float(residual.std())


def isolated_atoms(store: Store, label: str) -> dict[int, float]:
    """Energies of a store's isolated atoms by atomic number [label unit].

    Raises:
        DataError: its files have no such frames.
    """
    found = store.manifest.isolated_atoms.get(label)
    if not found:
        reason = f"no frame with config_type=IsolatedAtom and {label}; atomref asks for them"
        raise DataError(store.path, None, reason)
    return {ATOMIC_NUMBER[symbol]: value for symbol, value in found.items()}


def atomref_array(atomref: Mapping[int, float], z: np.ndarray, max_z: int) -> np.ndarray:
    """References by atomic number, (max_z,) float64.

    Raises:
        ConfigError: an element of the training set has no reference.
    """
    values = np.zeros(max_z)
    if not atomref:
        return values
    missing = sorted(set(np.unique(z).tolist()) - set(atomref))
    if missing:
        raise ConfigError(f"atomref has no value for Z = {missing}; given: {sorted(atomref)}")
    values[list(atomref)] = list(atomref.values())
    return values


def unlearned(train: Molecules, test: Molecules, label: str, recipe: Recipe) -> dict[str, Tensor]:
    """Predictions that no model is needed for, from the training labels alone [label unit].

    Args:
        train: labelled training molecules.
        test: molecules to predict.
        label: name of the label.
        recipe: its fixed atomic references, if any, are part of the mean.

    Returns:
        ``baseline`` (M,): the training mean, plus atomic references; the forces with it are zero.
        ``naive`` (M,): least squares on element counts; with forces the energy of the nearest
        training frame, and ``naive_force_absolute`` and ``naive_force_square`` (M,): errors of its
        forces, summed over each frame (``ForceSums``).
    """
    references = atomref_array(recipe.atomref, test.z, MAX_Z + 1)
    mean, _ = label_statistics(train, label, references)
    baseline = Composition(references, mean).predict(test)
    if not recipe.forces:
        found = {"baseline": baseline, "naive": fit_composition(train, label).predict(test)}
    else:
        assert test.forces is not None, "frames of a force set"
        energies, forces = nearest_frame(train, test, label)
        sums = force_sums(test.forces, forces, test.n_atoms())
        found = {"baseline": baseline, "naive": energies}
        found |= {"naive_force_absolute": sums.absolute, "naive_force_square": sums.square}
    return {name: torch.from_numpy(values) for name, values in found.items()}


def unlearned_test_set(
    train: Molecules, store: Store, ids: np.ndarray, label: str, recipe: Recipe
) -> dict[str, Tensor]:
    """Labels of test molecules, and those predictions, by parts of ``PART_MOLECULES``.

    Args:
        train: as of :func:`unlearned`; ``label`` and ``recipe`` likewise.
        store: has the molecules.
        ids: of the test molecules, (M,).
        label: name of the label.
        recipe: of the run.

    Returns:
        ``label`` (M,) float64 [label unit], and what :func:`unlearned` does.
    """
    parts: dict[str, list[Tensor]] = {}
    rows = store.rows(ids)
    for start in range(0, len(rows), PART_MOLECULES):
        test = store.gather(rows[start : start + PART_MOLECULES], (label,))
        found = {"label": torch.from_numpy(test.labels[label])}
        for name, value in (found | unlearned(train, test, label, recipe)).items():
            parts.setdefault(name, []).append(value)
    return {name: torch.cat(values) for name, values in parts.items()}
