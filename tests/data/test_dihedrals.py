"""Dihedral angles: those that 3BPA's files name, RDKit's, and their sign."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from georecon.data.dihedrals import dihedral_degrees
from georecon.data.readers.extxyz import read_extxyz
from georecon.experiments.experiments import Experiments

ROOT = Path(__file__).resolve().parents[2]
OFFICIAL = "3bpa/dataset_3BPA/train_300K.xyz"


def test_the_angles_of_official_frames_are_those_of_their_comment_lines(mirror: Path) -> None:
    """So the atoms that the card's scan names are α's and β's."""
    scan = (
        Experiments.load(ROOT / "config", {"edition": "paper"})
        .data.card("3bpa")
        .target("3bpa")
        .scan
    )
    assert scan is not None
    text = (mirror / OFFICIAL).read_text()
    named = np.array(
        [
            [float(number) for number in line.split(",")]
            for line in re.findall(r'dihedrals="_JSON \[([^\]]*)\]"', text)
        ]
    )
    frames = read_extxyz(
        mirror / OFFICIAL, ranges={}, units={"pos": "Å", "energy": "eV", "forces": "eV/Å"}
    )
    pos = frames.pos.reshape(len(frames), 27, 3).astype(np.float64)
    assert named.shape == (500, 3)
    for column, atoms in enumerate((scan.turned, scan.slices)):
        off = (dihedral_degrees(pos, atoms) - named[:, column] + 180.0) % 360.0 - 180.0
        assert np.abs(off).max() < 0.01
    other = (dihedral_degrees(pos, scan.turned) - named[:, 2] + 180.0) % 360.0 - 180.0
    assert np.abs(other).max() > 10.0, "another dihedral would be noticed"


def test_angles_equal_rdkits() -> None:
    geometry = pytest.importorskip("rdkit.Geometry")
    transforms = pytest.importorskip("rdkit.Chem.rdMolTransforms")
    chem = pytest.importorskip("rdkit.Chem")
    rng = np.random.default_rng(0)
    mol = chem.AddHs(chem.MolFromSmiles("CCCC"))
    pos = rng.normal(size=(20, mol.GetNumAtoms(), 3))
    found = dihedral_degrees(pos, (0, 1, 2, 3))
    for frame, angle in zip(pos, found, strict=True):
        conformer = chem.Conformer(mol.GetNumAtoms())
        for atom, place in enumerate(frame):
            conformer.SetAtomPosition(atom, geometry.Point3D(*map(float, place)))
        assert angle == pytest.approx(transforms.GetDihedralDeg(conformer, 0, 1, 2, 3) % 360.0)


def test_a_mirror_image_has_the_other_sign_and_the_reversed_chain_the_same() -> None:
    pos = np.random.default_rng(1).normal(size=(30, 5, 3))
    found = dihedral_degrees(pos, (4, 0, 2, 1))
    np.testing.assert_allclose(dihedral_degrees(pos * [1, 1, -1], (4, 0, 2, 1)), 360.0 - found)
    np.testing.assert_allclose(dihedral_degrees(pos, (1, 2, 0, 4)), found)
    assert ((found >= 0) & (found < 360)).all()


@pytest.mark.parametrize(("last", "angle"), [([1, 1, 0], 0.0), ([1, -1, 0], 180.0),
                                             ([1, 0, 1], 90.0), ([1, 0, -1], 270.0)])  # fmt: skip
def test_simple_angles(last: list[float], angle: float) -> None:
    pos = np.array([[[0, 1, 0], [0, 0, 0], [1, 0, 0], last]], dtype=np.float64)
    assert dihedral_degrees(pos, (0, 1, 2, 3))[0] == pytest.approx(angle)
