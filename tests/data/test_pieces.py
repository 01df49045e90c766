"""Molecules in pieces: wrapped frames are noticed, complexes and real data are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from georecon.data.checks import check, faults
from georecon.data.molecules import Molecules
from georecon.data.pieces import largest_gap, pieces
from georecon.data.readers.extxyz import read_extxyz
from georecon.data.readers.md17 import read_md17
from georecon.data.readers.sdf import iter_sdf
from georecon.errors import DataError

UNITS = {"pos": "Å", "energy": "eV", "forces": "eV/Å"}
ETHANOL = Path("md17/raw/md17_ethanol_first2000.npz")
Atoms = tuple[np.ndarray, np.ndarray]


def made(*parts: Atoms) -> Molecules:
    """One molecule of several parts, (z, pos) each."""
    z = np.concatenate([z for z, _ in parts])
    return Molecules.from_list([7], [z], [np.concatenate([pos for _, pos in parts])])


def found(molecules: Molecules) -> list[tuple[int, str]]:
    return list(pieces(molecules))


def benzene(shift: float = 0.0) -> Atoms:
    angle = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    pos = np.concatenate([1.39 * ring, 2.48 * ring])
    pos[:, 2] = shift
    return np.array([6] * 6 + [1] * 6), pos


def ion_pair(distance: float) -> Atoms:
    """Ammonium, one hydrogen of which points at a chloride."""
    h = 1.03 * np.array([[1, 0, 0], [-0.33, 0.94, 0], [-0.33, -0.47, 0.82], [-0.33, -0.47, -0.82]])
    return np.array([7, 1, 1, 1, 1, 17]), np.concatenate(
        [[[0, 0, 0]], h, [[1.03 + distance, 0, 0]]]
    )


@pytest.mark.parametrize(
    "name",
    [
        *(
            f"md17/raw/md17_{name}_subset2000.npz"
            for name in ("aspirin", "malonaldehyde", "uracil")
        ),
        str(ETHANOL),
        "md17/ccsd/ethanol_ccsd_t-train.npz",
        "rmd17/rmd17-npz/rmd17_toluene_train_01.npz",
        "3bpa/dataset_3BPA/train_mixedT.xyz",
        "3bpa/derived/mixedT_frames335-500_inferred_1200K.xyz",
        "3bpa/dataset_3BPA/iso_atoms.xyz",
        "md22/raw/md22_Ac-Ala3-NHMe_first5frames.xyz",
        "pretrain/conformers/conformer_benchmark_neutral_subset.sdf.gz",
        "qm9/raw/gdb9_subset12000.sdf.gz",
    ],
)
def test_no_real_molecule_is_in_pieces(mirror: Path, name: str) -> None:
    file = mirror / name
    if file.suffix == ".npz":
        molecules = read_md17(file, ranges={"largest_gap": [0, 99]})
    elif file.suffix == ".xyz":
        molecules = read_extxyz(file, ranges={}, units=UNITS, forces="iso" not in name)
    else:
        molecules = Molecules.concatenate(iter_sdf(file))
    assert found(molecules) == []
    assert np.nanmax([0.0, *largest_gap(molecules)]) < 2.2


def test_nor_any_of_qm9(qm9: Molecules) -> None:
    assert found(qm9) == []


@pytest.mark.parametrize("distance", [2.5, 3.0, 3.4, 3.7])
def test_complexes_are_of_one_piece(distance: float) -> None:
    """As in MD22: a ball in its catcher, tubes in each other, stacked and bonded bases."""
    assert found(made(benzene(), benzene(distance))) == []
    three = made(benzene(), benzene(distance), benzene(2 * distance))
    assert found(three) == []
    water = np.array([8, 1, 1]), np.array([[0, 0, 5.4], [0.76, 0, 5.9], [-0.76, 0, 5.9]])
    assert found(made(benzene(), (water[0], water[1] - [0, 0, 5.4 - distance]))) == []


@pytest.mark.parametrize("distance", [1.5, 1.9, 2.3])
def test_ion_pairs_in_contact_are_of_one_piece(distance: float) -> None:
    assert found(made(ion_pair(distance))) == []
    assert found(made((np.array([11, 17]), np.array([[0, 0, 0], [2.4, 0, 0]])))) == []
    radical = np.array([7, 8]), np.array([[0, 0, 3.0], [1.15, 0, 3.0]])
    assert found(made(benzene(), radical)) == []  # odd, but so is the whole


@pytest.mark.parametrize(
    ("z", "length"), [(1, 0.74), (53, 2.67), (55, 4.6), (35, 2.28), (2, 3.0), (54, 3.9)]
)
def test_pairs_of_atoms(z: int, length: float) -> None:
    assert found(made((np.array([z, z]), np.array([[0, 0, 0], [length, 0, 0]])))) == []


def wrapped(mirror: Path, box: float, shift: float) -> Molecules:
    """Frames of ethanol moved by ``shift`` along x and put back into a box through its walls."""
    frames = read_md17(mirror / ETHANOL, ranges={})
    keep = frames.keep(np.arange(len(frames)) < 200)
    pos = keep.pos + np.float32([shift, box / 2, box / 2])
    return Molecules(ids=keep.ids, z=keep.z, pos=np.mod(pos, np.float32(box)), offsets=keep.offsets,
                     labels=keep.labels, forces=keep.forces)  # fmt: skip


@pytest.mark.parametrize("box", [6.5, 7.0, 8.0, 10.0, 20.0, 50.0])
@pytest.mark.parametrize("shift", [-0.6, 0.0, 0.6])
def test_wrapped_frames_are_noticed(mirror: Path, box: float, shift: float) -> None:
    frames = wrapped(mirror, box, shift)
    broken = {row for row, _ in found(frames)}
    twin = wrapped(mirror, 1000.0, 500.0)  # in the middle of a large box: all are whole
    assert found(twin) == []
    cut = [row for row in range(len(frames)) if _is_cut(frames, row)]
    assert len(cut) > 150
    share = np.isin(cut, list(broken)).mean()
    # in a tight box pieces with even numbers of electrons look like molecules in contact
    assert share > (0.99 if box > 8 else 0.9 if box == 8 else 0.3)
    assert broken <= set(cut)
    with pytest.raises(DataError, match=r"record \d+: is in \d+ pieces up to .*largest_gap"):
        check(frames, {}, "a.npz")
    assert check(frames, {"largest_gap": [0, 60]}, "a.npz") is frames


def _is_cut(frames: Molecules, row: int) -> bool:
    """Whether a bond of ethanol is longer than 2.5 Å, in either order of its atoms."""
    pos = frames.pos[9 * row : 9 * row + 9]
    bonds = [(0, 1), (1, 2), (0, 3), (0, 4), (0, 5), (1, 6), (1, 7), (2, 8)]
    other = [(0, 1), (0, 2), (1, 3), (1, 4), (1, 5), (0, 6), (0, 7), (2, 8)]
    lengths = [min(np.linalg.norm(pos[a] - pos[b]) for a, b in pair)
               for pair in zip(bonds, other, strict=True)]  # fmt: skip
    return max(lengths) > 2.5


def test_gaps_and_their_range() -> None:
    molecules = made(benzene(), benzene(6.0))
    assert largest_gap(molecules)[0] == pytest.approx(6.0, abs=1e-5)
    ((_, reason),) = found(molecules)
    assert reason.startswith("is in 2 pieces up to 6 Å apart; was it wrapped")
    ((row, reason),) = faults(molecules, {"largest_gap": [0, 5]})
    assert (row, reason.split(" (")[0]) == (
        0,
        "largest_gap = 6 is outside the plausible 0 to 5",
    )
    assert np.isnan(largest_gap(made((np.array([1]), np.zeros((1, 3)))))[0])
    methyl = (
        np.array([6, 1, 1, 1]),
        np.array([[0, 0, 0], [1.0, 0, 0], [-0.5, 0.9, 0], [-0.5, -0.9, 0]]),
    )
    ((_, reason),) = found(made(methyl, (methyl[0], methyl[1] + [0, 0, 3.0])))
    assert "3 Å apart, with 9 and 9 electrons: a broken bond" in reason
