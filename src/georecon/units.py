"""Physical constants, unit conversion, and how units are printed.

Internal units: Å for lengths; eV for the energies of QM9 and 3BPA; kcal/mol and kcal/mol/Å for
MD17-like sets, as their literature reports them. Raw labels are converted here by the readers of
``georecon.data``, results by the tables, and nowhere else.

Constants are CODATA 2018 (https://physics.nist.gov/cuu/Constants) except ``HARTREE_TO_EV``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from georecon.errors import ConfigError

# DEVIATION: not CODATA 2018 (27.211386245988). PyTorch Geometric's QM9, on which the ET lineage
# trains and reports, converts labels with this older value; using it keeps labels equal to theirs.
# The two differ by 1.4e-7, far below any reported digit of an error.
HARTREE_TO_EV = 27.2113825435
EV_TO_KCAL_MOL = 23.060547830619
HARTREE_TO_KCAL_MOL = 627.5094740631
KCAL_MOL_TO_KJ_MOL = 4.184
BOHR_TO_ANGSTROM = 0.529177210903
BOLTZMANN_HARTREE_PER_KELVIN = 3.1668115634556e-6
DALTON_TO_ELECTRON_MASS = 1822.888486209
FEMTOSECOND_TO_ATOMIC_TIME = 41.341373335182

# unit -> (what it measures, size in the base unit of that quantity)
_UNITS: dict[str, tuple[str, float]] = {
    "eV": ("energy", 1.0),
    "meV": ("energy", 1e-3),
    "Ha": ("energy", HARTREE_TO_EV),
    "kcal/mol": ("energy", 1.0 / EV_TO_KCAL_MOL),
    "kJ/mol": ("energy", 1.0 / (EV_TO_KCAL_MOL * KCAL_MOL_TO_KJ_MOL)),
    "Å": ("length", 1.0),
    "a0": ("length", BOHR_TO_ANGSTROM),
    "nm": ("length", 10.0),
    "eV/Å": ("force", 1.0),
    "meV/Å": ("force", 1e-3),
    "Ha/a0": ("force", HARTREE_TO_EV / BOHR_TO_ANGSTROM),
    "Ha/Å": ("force", HARTREE_TO_EV),
    "kcal/mol/Å": ("force", 1.0 / EV_TO_KCAL_MOL),
    "kJ/mol/Å": ("force", 1.0 / (EV_TO_KCAL_MOL * KCAL_MOL_TO_KJ_MOL)),
    "kJ/mol/nm": ("force", 0.1 / (EV_TO_KCAL_MOL * KCAL_MOL_TO_KJ_MOL)),
    "D": ("dipole moment", 1.0),
    "mD": ("dipole moment", 1e-3),
    "a0^2": ("area", 1.0),
    "a0^3": ("polarizability", 1.0),
    "cal/mol/K": ("heat capacity", 1.0),
    "mcal/mol/K": ("heat capacity", 1e-3),
    "1": ("number", 1.0),
}

UNIT_DISPLAY: dict[str, str] = {
    unit: unit.replace("a0", "a₀").replace("^2", "²").replace("^3", "³") for unit in _UNITS
}

UNIT_LATEX: dict[str, str] = {
    "eV": r"\mathrm{eV}",
    "meV": r"\mathrm{meV}",
    "Ha": r"E_\mathrm{h}",
    "kcal/mol": r"\mathrm{kcal\,mol^{-1}}",
    "kJ/mol": r"\mathrm{kJ\,mol^{-1}}",
    "Å": r"\mathrm{\AA}",
    "a0": r"a_0",
    "nm": r"\mathrm{nm}",
    "eV/Å": r"\mathrm{eV\,\AA^{-1}}",
    "meV/Å": r"\mathrm{meV\,\AA^{-1}}",
    "Ha/a0": r"E_\mathrm{h}\,a_0^{-1}",
    "Ha/Å": r"E_\mathrm{h}\,\mathrm{\AA}^{-1}",
    "kcal/mol/Å": r"\mathrm{kcal\,mol^{-1}\,\AA^{-1}}",
    "kJ/mol/Å": r"\mathrm{kJ\,mol^{-1}\,\AA^{-1}}",
    "kJ/mol/nm": r"\mathrm{kJ\,mol^{-1}\,nm^{-1}}",
    "D": r"\mathrm{D}",
    "mD": r"\mathrm{mD}",
    "a0^2": r"a_0^2",
    "a0^3": r"a_0^3",
    "cal/mol/K": r"\mathrm{cal\,mol^{-1}\,K^{-1}}",
    "mcal/mol/K": r"\mathrm{mcal\,mol^{-1}\,K^{-1}}",
    "1": "1",
}


# Other spellings of the parts of a unit, as people write them in configuration files.
_SPELLINGS = {
    **dict.fromkeys(("Hartree", "hartree", "Eh"), "Ha"),
    **dict.fromkeys(("Angstrom", "angstrom", "Ang", "A"), "Å"),
    **dict.fromkeys(("Bohr", "bohr"), "a0"),
    **dict.fromkeys(("Debye", "debye"), "D"),
}


def unit_name(text: str) -> str:
    """This project's name of a unit that may be spelt otherwise, ``"Hartree/bohr"`` → ``"Ha/a0"``.

    Raises:
        ConfigError: no known unit; lists the known ones.
    """
    parts = (part.partition("^") for part in str(text).split("/"))
    name = "/".join(_SPELLINGS.get(base, base) + mark + power for base, mark, power in parts)
    quantity_of(name)
    return name


def allowed_units(quantity: str | None = None) -> list[str]:
    """Names of the known units, all of them or those of one quantity such as ``"energy"``."""
    return [unit for unit, (kind, _) in _UNITS.items() if quantity in (None, kind)]


def quantity_of(unit: str) -> str:
    """The quantity that ``unit`` measures; ``ConfigError`` lists the known units otherwise."""
    if unit not in _UNITS:
        raise ConfigError(f"unknown unit {unit!r}; allowed: {', '.join(_UNITS)}")
    return _UNITS[unit][0]


def factor(from_unit: str, to_unit: str) -> float:
    """Multiplier that turns a number in ``from_unit`` into one in ``to_unit``.

    Raises:
        ConfigError: a unit is unknown, or the two measure different quantities.
    """
    have, want = quantity_of(from_unit), quantity_of(to_unit)
    if have != want:
        raise ConfigError(
            f"cannot convert {from_unit} ({have}) to {to_unit} ({want}); "
            f"allowed targets for {have}: {', '.join(allowed_units(have))}"
        )
    return 1.0 if from_unit == to_unit else _UNITS[from_unit][1] / _UNITS[to_unit][1]


def convert(values: ArrayLike, from_unit: str, to_unit: str) -> NDArray[np.float64]:
    """Convert numbers between two units of the same quantity, in float64.

    Args:
        values: any shape, in ``from_unit``.
        from_unit: unit of ``values``, see ``allowed_units``.
        to_unit: unit wanted.

    Returns:
        A new array of the same shape in ``to_unit``; unchanged numbers when the units are equal.

    Raises:
        ConfigError: a unit is unknown, or the two measure different quantities.
    """
    multiplier = factor(from_unit, to_unit)
    return np.asarray(values, dtype=np.float64) * multiplier
