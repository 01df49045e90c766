"""Every number of the real files as NumPy, ASE and pandas read it, bit for bit after one rounding.

(The SDF files against RDKit: test_sdf.py.)
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.molecules import Molecules
from georecon.data.readers.extxyz import read_extxyz
from georecon.data.readers.md17 import read_md17
from georecon.data.readers.qm9_official import read_gdb9, read_qm9_xyz
from georecon.data.readers.qm9_package import LABELS, RAW_HARTREE
from georecon.units import convert

NONE = np.zeros(0, dtype=np.int64)
UNITS = {"pos": "Å", "energy": "kcal/mol", "forces": "kcal/mol/Å"}


def same(ours: Molecules, z: Any, pos: Any, energy: Any, forces: Any) -> None:
    assert np.array_equal(ours.z, np.asarray(z).ravel())
    assert np.array_equal(ours.pos, np.asarray(pos).reshape(-1, 3).astype(np.float32))
    assert np.array_equal(ours.labels["energy"], np.asarray(energy, dtype=np.float64).ravel())
    if forces is not None:
        assert ours.forces is not None
        assert np.array_equal(ours.forces, np.asarray(forces, dtype=np.float64).reshape(-1, 3))


def test_every_npz_equals_numpy(mirror: Path) -> None:
    files = [file for file in sorted(mirror.rglob("*.npz")) if "cases" not in file.parts]
    assert len(files) >= 26
    for file in files:
        with np.load(file, allow_pickle=False) as data:
            names = ("R", "E", "F", "z", "original_index")
            if "coords" in data:
                names = ("coords", "energies", "forces", "nuclear_charges", "old_indices")
            pos, energy, forces, z = (data[name] for name in names[:4])
            ids = data[names[4]] if names[4] in data else np.arange(len(pos))
        ours = read_md17(file, ranges={})
        same(ours, np.tile(z, len(pos)), pos, energy, forces)
        assert np.array_equal(ours.ids, ids), file
        # a broken reader would be noticed: one bit of one coordinate
        changed = pos.astype(np.float32)
        changed[-1, -1, -1] = np.nextafter(changed[-1, -1, -1], np.float32(np.inf))
        with pytest.raises(AssertionError):
            same(ours, np.tile(z, len(pos)), changed, energy, forces)


def test_every_extended_xyz_equals_ase(mirror: Path) -> None:
    ase_io = pytest.importorskip("ase.io")
    files = sorted((mirror / "3bpa").rglob("*.xyz")) + sorted((mirror / "md22").rglob("*.xyz"))
    assert len(files) >= 6
    for file in files:
        frames = ase_io.read(file, index=":", format="extxyz")
        atoms = file.name == "iso_atoms.xyz"
        ours = read_extxyz(file, ranges={}, units=UNITS, forces=not atoms)
        energies = [f.info["Energy"] if "Energy" in f.info else f.get_potential_energy()
                    for f in frames]  # fmt: skip
        same(
            ours,
            np.concatenate([frame.numbers for frame in frames]),
            np.concatenate([frame.positions for frame in frames]),
            energies,
            None if atoms else np.concatenate([frame.get_forces() for frame in frames]),
        )


@pytest.fixture(scope="module")
def table(mirror: Path) -> Any:
    pandas = pytest.importorskip("pandas")
    found = pandas.read_csv(mirror / "qm9/raw/gdb9_subset12000.sdf.csv")
    assert len(found) == 12_000
    return found


def check_labels(ours: Molecules, table: Any) -> None:
    columns = {"u": "u298", "h": "h298", "g": "g298"}
    ids = [int(name.removeprefix("gdb_")) for name in table["mol_id"]]
    rows = np.argsort(ids)
    order = np.argsort(ours.ids)
    assert np.array_equal(ours.ids[order], np.array(ids)[rows])
    for name in LABELS:
        raw = table[columns.get(name, name)].to_numpy()[rows]
        wanted = convert(raw, "Ha", "eV") if name in RAW_HARTREE else raw
        assert np.array_equal(ours.labels[name][order], wanted), name


def test_gdb9_labels_equal_pandas(mirror: Path, table: Any) -> None:
    raw = mirror / "qm9/raw"
    sdf, csv = raw / "gdb9_subset12000.sdf.gz", raw / "gdb9_subset12000.sdf.csv"
    (ours,) = read_gdb9(sdf, csv, NONE, ranges={}, expected_molecules=12_000)
    assert isinstance(ours, Molecules)
    check_labels(ours, table)


@pytest.mark.slow
def test_qm9_archive_equals_numpy_and_pandas(mirror: Path, table: Any) -> None:
    """Atoms as NumPy reads the same text (its way of exponents), labels as the CSV."""
    file = mirror / "qm9/raw/dsgdb9nsd_subset12000.xyz.tar.bz2"
    (ours,) = read_qm9_xyz(file, NONE, ranges={}, expected_molecules=12_000)
    assert isinstance(ours, Molecules)
    check_labels(ours, table)
    ids, words = [], []
    with tarfile.open(file, "r|*") as archive:
        for member in archive:
            handle = archive.extractfile(member)
            assert handle is not None
            lines = handle.read().decode().replace("*^", "e").splitlines()
            ids.append(int(member.name[-10:-4]))
            words += [word for line in lines[2 : 2 + int(lines[0])] for word in line.split()[:4]]
    columns = np.array(words).reshape(-1, 4)
    number = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
    assert np.array_equal(ours.ids, ids)
    assert np.array_equal(ours.z, [number[symbol] for symbol in columns[:, 0]])
    assert np.array_equal(ours.pos, columns[:, 1:].astype(np.float64).astype(np.float32))
