"""Unit conversion: values against ASE, refusals, printed forms."""

from __future__ import annotations

import numpy as np
import pytest

from georecon import units
from georecon.errors import ConfigError


def test_constants_agree_with_ase() -> None:
    ase = pytest.importorskip("ase.units")
    kcal = ase.kcal / ase.mol
    assert pytest.approx(ase.Hartree, rel=2e-7) == units.HARTREE_TO_EV
    assert pytest.approx(1 / kcal, rel=1e-7) == units.EV_TO_KCAL_MOL
    assert pytest.approx(ase.Bohr, rel=1e-8) == units.BOHR_TO_ANGSTROM
    assert pytest.approx(ase.Hartree / kcal, rel=1e-7) == units.HARTREE_TO_KCAL_MOL
    assert pytest.approx(ase.kB / ase.Hartree, rel=1e-5) == units.BOLTZMANN_HARTREE_PER_KELVIN
    assert (
        pytest.approx(ase.fs / (np.sqrt(ase._me * ase.kg / ase.Hartree) * ase.Bohr), rel=1e-6)
        == units.FEMTOSECOND_TO_ATOMIC_TIME
    )


def test_hartree_is_the_value_of_the_lineage() -> None:
    assert float(units.convert(1.0, "Ha", "eV")) == 27.2113825435


def test_round_trip_and_shape() -> None:
    values = np.arange(6.0).reshape(2, 3)
    there = units.convert(values, "kcal/mol/Å", "meV/Å")
    np.testing.assert_allclose(units.convert(there, "meV/Å", "kcal/mol/Å"), values, rtol=1e-14)
    assert there[0, 1] == pytest.approx(43.364, abs=1e-3)


def test_same_unit_leaves_numbers_untouched() -> None:
    values = np.array([0.1, 1e300])
    assert np.array_equal(units.convert(values, "eV", "eV"), values)


def test_unknown_unit_lists_the_allowed_ones() -> None:
    with pytest.raises(ConfigError, match=r"hartree.*allowed: eV, meV, Ha"):
        units.convert(1.0, "hartree", "eV")


def test_other_quantity_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"eV \(energy\) to Å \(length\).*allowed targets"):
        units.convert(1.0, "eV", "Å")


def test_every_unit_can_be_printed() -> None:
    assert set(units.UNIT_LATEX) == set(units.UNIT_DISPLAY) == set(units.allowed_units())
    assert units.UNIT_DISPLAY["a0^3"] == "a₀³"
