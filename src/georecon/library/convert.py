"""Molecules from and to the objects of other libraries: ASE's ``Atoms``, PyG's ``Data``.

:func:`from_pyg` and :func:`to_pyg` are those of :mod:`georecon.data.pyg`. Nothing converts units:
positions are in Å everywhere, labels and forces keep the units that they come in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from georecon.data.molecules import MAX_Z, Molecules, check_molecules
from georecon.data.pyg import from_pyg, to_pyg
from georecon.errors import DataError

if TYPE_CHECKING:
    import ase

__all__ = ["from_ase", "from_pyg", "to_ase", "to_pyg"]

SOURCE = "ASE atoms"
CALCULATED = ("energy",)
"""Labels that ASE keeps with a calculator, not in ``atoms.info``."""


def from_ase(frames: Iterable[ase.Atoms], labels: Sequence[str] = ()) -> Molecules:
    """Molecules of ASE's ``Atoms``, with the forces that their calculators have kept.

    Args:
        frames: one molecule each. Ids are the integers ``atoms.info["id"]``; without one, ids
            count from 0. Nothing is computed: a calculator gives what it knows of these positions.
        labels: numbers to take along, each of the calculator or of ``atoms.info``. ASE's
            calculators have ``energy`` [eV] and forces [eV/Å].

    Raises:
        DataError: a frame is periodic, a label is missing or no number, an element is unknown, a
            number is not finite, or only some frames have forces; names the frame.
    """
    ids, z, pos, forces = [], [], [], []
    values: dict[str, list[float]] = {name: [] for name in labels}
    for row, atoms in enumerate(frames):
        number = atoms.info.get("id", row)
        number = int(number) if isinstance(number, int | np.integer) else row
        if atoms.pbc.any():
            raise DataError(SOURCE, number, "is periodic (pbc), expected a single molecule")
        ids.append(number)
        z.append(atoms.get_atomic_numbers())
        pos.append(atoms.positions)
        if len(odd := z[-1][(z[-1] < 1) | (z[-1] > MAX_Z)]):
            reason = f"unknown element: Z = {odd[0]}, expected 1..{MAX_Z}"
            raise DataError(SOURCE, number, reason)
        if (force := _known(atoms, "forces")) is not None:
            forces.append(force)
        for name in labels:
            values[name].append(_label(atoms, name, number))
    if forces and len(forces) != len(ids):
        raise DataError(SOURCE, None, f"{len(forces)} of {len(ids)} frames have forces")
    molecules = Molecules.from_list(ids, z, pos, dict(values), forces or None)
    check_molecules(molecules, SOURCE)
    return molecules


def to_ase(molecules: Molecules) -> list[ase.Atoms]:
    """One ``Atoms`` a molecule: its id and labels in ``info``, energy and forces as calculated.

    ASE takes the label ``energy`` for eV and forces for eV/Å.
    """
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    found = []
    bounds = zip(molecules.offsets[:-1], molecules.offsets[1:], strict=True)
    for row, (start, end) in enumerate(bounds):
        atoms = Atoms(molecules.z[start:end], molecules.pos[start:end])
        atoms.info["id"] = int(molecules.ids[row])
        results: dict[str, object] = {}
        for name, values in molecules.labels.items():
            (results if name in CALCULATED else atoms.info)[name] = float(values[row])
        if molecules.forces is not None:
            results["forces"] = molecules.forces[start:end]
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def _known(atoms: ase.Atoms, name: str) -> Any:
    """What a calculator knows of these very positions, without computing; else None."""
    if atoms.calc is None:
        return None
    try:
        return atoms.calc.get_property(name, atoms, allow_calculation=False)
    except NotImplementedError:  # ASE's PropertyNotImplementedError
        return None


def _label(atoms: ase.Atoms, name: str, number: int) -> float:
    found = _known(atoms, name)
    found = atoms.info.get(name) if found is None else found
    if found is None:
        there = ", ".join(sorted(map(str, atoms.info))) or "nothing"
        reason = f"label {name} is in neither its calculator nor atoms.info, which has {there}"
        raise DataError(SOURCE, number, reason)
    try:
        return float(found)
    except (TypeError, ValueError):
        raise DataError(SOURCE, number, f"label {name} is {found!r}, expected a number") from None
