"""Frames against their temperature: real files pass at their own and are refused at another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from georecon.data.heat import Heat
from georecon.data.molecules import Molecules
from georecon.data.readers.extxyz import read_extxyz
from georecon.errors import DataError

UNITS = {"pos": "Å", "energy": "eV", "forces": "eV/Å"}
FILES = {
    300.0: "dataset_3BPA/train_300K.xyz",
    600.0: "derived/mixedT_frames168-334_inferred_600K.xyz",
    1200.0: "derived/mixedT_frames335-500_inferred_1200K.xyz",
}


@pytest.fixture(scope="module")
def frames(mirror: Path) -> dict[float, Molecules]:
    return {
        kelvin: read_extxyz(mirror / "3bpa" / name, ranges={}, units=UNITS)
        for kelvin, name in FILES.items()
    }


def test_real_frames_are_as_hot_as_they_say(frames: dict[float, Molecules]) -> None:
    heat = Heat(UNITS)
    for kelvin, found in frames.items():
        heat.look(found, kelvin, Path(f"{kelvin:g}K.xyz"))
    heat.check()


@pytest.mark.parametrize(("said", "real"), [(300.0, 1200.0), (1200.0, 300.0)])
def test_frames_of_another_temperature_are_refused(
    frames: dict[float, Molecules], said: float, real: float
) -> None:
    with pytest.raises(DataError, match="is it another temperature, or another unit than eV/Å"):
        Heat(UNITS).look(frames[real], said, Path("mixed.xyz"))


@pytest.mark.parametrize("unit", ["kcal/mol/Å", "meV/Å", "Ha/a0"])
def test_forces_in_another_unit_are_refused(frames: dict[float, Molecules], unit: str) -> None:
    with pytest.raises(DataError, match="another unit"):
        Heat({**UNITS, "forces": unit}).look(frames[600.0], 600.0, Path("mixed.xyz"))


def test_neighbouring_temperatures_are_told_by_their_energies(
    frames: dict[float, Molecules],
) -> None:
    heat = Heat(UNITS)
    heat.look(frames[600.0], 300.0, Path("cold.xyz"))
    heat.look(frames[300.0], 600.0, Path("hot.xyz"))
    with pytest.raises(DataError, match=r"hot\.xyz: mean energy .* at 600 K is not above that of"):
        heat.check()


def test_nothing_is_said_of_files_without_a_temperature_or_of_several_molecules() -> None:
    one = Molecules.from_list([0], [[8, 1]], [np.zeros((2, 3))], {"energy": [1.0]})
    two = Molecules.from_list(
        [0, 1], [[8, 1], [6]], [np.zeros((2, 3)), np.zeros((1, 3))], {"energy": [1.0, 2.0]},
        [np.full((2, 3), 1e6), np.zeros((1, 3))],
    )  # fmt: skip
    heat = Heat(UNITS)
    heat.look(one, None, Path("a"))
    heat.look(two, 300.0, Path("b"))
    heat.check()
