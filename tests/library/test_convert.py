"""Molecules to ASE and back: every bit, what a calculator knows, and what cannot be taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from georecon.errors import DataError
from georecon.library.convert import from_ase, from_pyg, to_ase, to_pyg
from tests.data.test_pyg import assert_equal, molecules


def test_round_trips_keep_every_bit() -> None:
    given = replace(molecules(), labels=molecules().labels | {"energy": np.array([1.0, 2.5, -3.0])})
    assert_equal(given, from_ase(to_ase(given), list(given.labels)))
    assert_equal(given, from_pyg(to_pyg(given), list(given.labels)))
    both = from_pyg(to_pyg(from_ase(to_ase(given), list(given.labels))), list(given.labels))
    assert_equal(given, both)


def test_a_lost_digit_is_noticed() -> None:
    """The twin."""
    given = molecules()
    frames = to_ase(given)
    frames[0].info["homo"] += 1e-12
    with pytest.raises(AssertionError):
        assert_equal(given, from_ase(frames, ["homo", "mu"]))


def test_what_ase_reads_from_a_file_is_taken(tmp_path: Path) -> None:
    atoms = ase.build.molecule("H2O")
    forces = np.arange(9.0).reshape(3, 3)
    atoms.calc = SinglePointCalculator(atoms, energy=-14.2, forces=forces)
    atoms.info["charge"] = 1
    ase.io.write(tmp_path / "m.xyz", atoms, format="extxyz")
    found = from_ase(ase.io.read(tmp_path / "m.xyz", index=":"), ["energy", "charge"])
    assert found.ids.tolist() == [0]
    assert found.labels["energy"].tolist() == [-14.2]
    assert found.labels["charge"].tolist() == [1.0]
    assert found.forces is not None
    np.testing.assert_array_equal(found.forces, forces)


def test_nothing_is_computed_and_nothing_stale_is_taken() -> None:
    atoms = ase.build.molecule("H2O")
    atoms.calc = EMT()
    with pytest.raises(DataError, match="label energy is in neither its calculator nor"):
        from_ase([atoms], ["energy"])
    atoms.get_potential_energy()
    assert from_ase([atoms], ["energy"]).forces is not None
    atoms.positions[0, 0] += 0.1
    assert from_ase([atoms]).forces is None


def water(**info: Any) -> ase.Atoms:
    atoms = ase.build.molecule("H2O")
    atoms.info |= info
    return atoms


def with_forces() -> ase.Atoms:
    atoms = water()
    atoms.calc = SinglePointCalculator(atoms, forces=np.zeros((3, 3)))
    return atoms


def of_nan() -> ase.Atoms:
    atoms = water()
    atoms.positions[1] = np.nan
    return atoms


@pytest.mark.parametrize(
    ("frames", "what"),
    [
        ([water(), ase.build.bulk("Cu")], "record 1: is periodic"),
        ([water(), ase.Atoms("X")], r"record 1: unknown element: Z = 0, expected 1\.\.100"),
        ([water(), of_nan()], "record 1: positions contain NaN"),
        ([water(id=7), ase.Atoms()], "record 1: no atoms"),
        ([water(), with_forces()], "1 of 2 frames have forces"),
        ([water(mu=1.0), water(homo=2.0)], "record 1: label mu is in neither .* which has homo"),
        ([water(mu="high")], "record 0: label mu is 'high', expected a number"),
    ],
)
def test_what_cannot_be_taken_is_named(frames: list[ase.Atoms], what: str) -> None:
    with pytest.raises(DataError, match=f"^ASE atoms.*{what}") as error:
        from_ase(frames, ["mu"] if "mu" in what else [])
    assert "\n" not in str(error.value)
