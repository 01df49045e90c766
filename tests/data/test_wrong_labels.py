"""Fault F14: NaN, infinity and mixed-up units in real files, in one record or in all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.card_checks import DEFAULT_RANGES
from georecon.data.checks import leave_one_out, nearest_neighbour, refuse_outliers
from georecon.data.molecules import Molecules
from georecon.errors import DataError
from georecon.stages.preprocess import preprocess
from georecon.units import BOHR_TO_ANGSTROM, EV_TO_KCAL_MOL, HARTREE_TO_EV

FRAMES = 40


def md17(mirror: Path, folder: Path, **changes: Any) -> Path:
    """A short archive of real ethanol frames with some arrays changed."""
    with np.load(mirror / "md17/raw/md17_ethanol_first2000.npz") as data:
        arrays = {name: data[name] for name in ("R", "E", "F", "z")}
    arrays |= {name: arrays[name][:FRAMES].copy() for name in "REF"}
    for name, change in changes.items():
        change(arrays[name])
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def scaled(row: int | slice, by: float) -> Any:
    def change(array: np.ndarray) -> None:
        array[row] *= by

    return change


def put(row: int, value: float) -> Any:
    def change(array: np.ndarray) -> None:
        array[row].flat[0] = value

    return change


ALL = slice(None)
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "NaN energy": ({"E": put(17, np.nan)}, r"record 17: label energy is nan"),
    "infinite energy": ({"E": put(17, np.inf)}, r"record 17: label energy is inf"),
    "NaN force": ({"F": put(17, np.nan)}, r"record 17: forces contain NaN"),
    "infinite force": ({"F": put(17, -np.inf)}, r"record 17: forces contain NaN or inf"),
    "NaN position": ({"R": put(17, np.nan)}, r"record 17: positions contain NaN"),
    "one energy in eV": ({"E": scaled(17, 1 / EV_TO_KCAL_MOL)}, r"record 17: energy"),
    "one energy x 27.2": ({"E": scaled(17, HARTREE_TO_EV)}, r"record 17: energy"),
    "one energy / 27.2": ({"E": scaled(17, 1 / HARTREE_TO_EV)}, r"record 17: energy"),
    "one energy 0.5 % off": ({"E": scaled(17, 1.005)}, r"record 17: energy.*standard deviations"),
    "one frame's forces x 27.2": ({"F": scaled(17, HARTREE_TO_EV)}, r"record 17: force_rms"),
    "one frame's forces in eV": ({"F": scaled(17, 1 / EV_TO_KCAL_MOL)}, r"record 17: force_rms"),
    "one frame in bohr": ({"R": scaled(17, 1 / BOHR_TO_ANGSTROM)}, r"record 17: .*(bond|nearest)"),
    "one frame in nm": ({"R": scaled(17, 0.1)}, r"record 17: .*(bond|nearest)"),
    "all energies in eV": ({"E": scaled(ALL, 1 / EV_TO_KCAL_MOL)}, r"record 0: energy_per_atom"),
    "all forces in eV": ({"F": scaled(ALL, 1 / EV_TO_KCAL_MOL)}, r"record 0: force_rms"),
    "all in bohr": ({"R": scaled(ALL, 1 / BOHR_TO_ANGSTROM)}, r"record 0: nearest_neighbour"),
}


@pytest.mark.parametrize("case", CASES)
def test_md17(case: str, mirror: Path, cards: dict[str, Any], tmp_path: Path) -> None:
    changes, message = CASES[case]
    files = {"ethanol": {"name": "x.npz"}}
    card = {**cards["md17"], "sources": {"official": {"reader": "frames", "files": files}}}
    md17(mirror, tmp_path)
    assert preprocess(card, tmp_path, tmp_path / "good", "ethanol").counts.rejected == 0
    md17(mirror, tmp_path, **changes)
    with pytest.raises(DataError, match=rf"x\.npz, {message}"):
        preprocess(card, tmp_path, tmp_path / "bad", "ethanol")
    assert not (tmp_path / "bad").exists()


QM9 = {
    "NaN": (",13.21,", ",nan,", "record 1: label alpha is nan"),
    "infinity": (",13.21,", ",inf,", "record 1: label alpha is inf"),
    "u0 in eV": (",-40.47893,", ",-1101.4877,", "record 1: u0"),
    "u0 0.2 % off": (",-40.47893,", ",-40.4,", "record 1: u - u0 = -2.0"),
    "gap in eV": (",0.5048,", ",13.7363,", "record 1: gap"),
    "gap / 27.2": (",0.5048,", ",0.018551,", "record 1: gap"),
    "lumo / 27.2": (",0.1171,", ",0.0043034,", "record 1: gap - lumo"),
    "h in another unit": (",-40.475117,", ",-25398.4,", "record 1: h"),
}


@pytest.mark.parametrize("case", QM9)
def test_one_label_of_gdb9(case: str, mirror: Path, cards: dict[str, Any], tmp_path: Path) -> None:
    old, new, message = QM9[case]
    raw = mirror / "qm9/raw"
    text = (raw / "gdb9_subset12000.sdf.csv").read_text()
    first = text.splitlines()[1]
    assert old in first
    (tmp_path / "a.csv").write_text(text.replace(first, first.replace(old, new), 1))
    (tmp_path / "a.sdf.gz").symlink_to(raw / "gdb9_subset12000.sdf.gz")
    files = {"sdf": {"name": "a.sdf.gz"}, "csv": {"name": "a.csv"}}
    source = {"reader": "gdb9", "files": files, "expected_molecules": 12_000}
    card = {**cards["qm9"], "default_source": "x", "sources": {"x": source}}
    with pytest.raises(DataError, match=rf"a\.csv, {message}"):
        preprocess(card, tmp_path, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def molecules(energy: np.ndarray) -> Molecules:
    n = len(energy)
    pair = [[0.0, 0, 0], [0, 0, 0.74]]
    return Molecules.from_list(np.arange(n) + 3, [[1, 1]] * n, [pair] * n, {"energy": energy})


def test_one_wrong_record_cannot_hide_behind_its_own_spread() -> None:
    """The plain standard score of one of n records is at most (n - 1) / sqrt(n): 6.2 for 40."""
    energy = -10.0 + np.random.default_rng(0).normal(size=40)
    refuse_outliers(molecules(energy), {"energy": 10.0}, "a")
    energy[7] *= HARTREE_TO_EV
    plain = np.abs(energy - energy.mean()) / energy.std()
    assert plain.max() < 10.0
    assert leave_one_out(energy)[7] > 100.0
    with pytest.raises(DataError, match=r"a, record 10: energy = -2.*outliers\.energy"):
        refuse_outliers(molecules(energy), {"energy": 10.0}, "a")
    refuse_outliers(molecules(energy), {"energy": 1e9}, "a")
    refuse_outliers(molecules(energy[4:11]), {"energy": 10.0}, "a")  # too few to tell


def test_distance_from_the_others_is_theirs() -> None:
    values = np.random.default_rng(1).normal(size=30) * 3.0 - 97_208.0
    found = leave_one_out(values)
    for row in (0, 13, 29):
        others = np.delete(values, row)
        expected = abs(values[row] - others.mean()) / others.std()
        assert found[row] == pytest.approx(expected, rel=1e-8)
    assert np.array_equal(leave_one_out(np.full(9, -1.1)), np.zeros(9))


def test_bond_ratio_of_every_qm9_molecule_tells_angstrom_from_bohr(qm9: Molecules) -> None:
    some = qm9.keep(np.arange(len(qm9)) % 20 == 0)
    ratio = nearest_neighbour(some, relative=True)
    low, high = DEFAULT_RANGES["bond_ratio"]
    assert low < np.nanmin(ratio)
    assert np.nanmax(ratio) < high < np.nanmin(ratio) / BOHR_TO_ANGSTROM
