"""Extended XYZ: 3BPA and MD22 against a hand parser, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.readers.extxyz import read_extxyz
from georecon.errors import DataError

pytest.importorskip("ase")


def by_hand(file: Path, frame: int, size: int) -> tuple[str, np.ndarray]:
    """Comment line and the numbers of one frame of a fixed-size file."""
    lines = file.read_text().splitlines()[frame * (size + 2) :][: size + 2]
    return lines[1], np.array([line.split()[1:] for line in lines[2:]], dtype=float)


def test_3bpa(mirror: Path, cards: dict[str, Any]) -> None:
    file = mirror / "3bpa/dataset_3BPA/train_300K.xyz"
    card = cards["3bpa"]
    got = read_extxyz(file, ranges=card["ranges"], units=card["units"])
    assert len(got) == 500
    assert set(got.n_atoms()) == {27}
    assert got.labels["energy"][0] == -17660.461737861464
    for frame in (0, 123, 499):
        comment, numbers = by_hand(file, frame, 27)
        assert f"energy={got.labels['energy'][frame]}" in comment
        rows = slice(27 * frame, 27 * frame + 27)
        assert np.array_equal(got.pos[rows], numbers[:, :3].astype(np.float32))
        assert got.forces is not None
        assert np.array_equal(got.forces[rows], numbers[:, 3:])


def test_isolated_atoms_have_no_forces(mirror: Path, cards: dict[str, Any]) -> None:
    file = mirror / "3bpa/dataset_3BPA/iso_atoms.xyz"
    card = cards["3bpa"]
    got = read_extxyz(file, ranges=card["ranges"], units=card["units"], forces=False)
    assert got.z.tolist() == [6, 1, 7, 8]
    assert got.forces is None
    energies = dict(zip(["C", "H", "N", "O"], got.labels["energy"].tolist(), strict=True))
    assert card["atomrefs"]["energy"] == energies
    with pytest.raises(DataError, match=r"record 0: has no forces, expected .* it has: energy"):
        read_extxyz(file, ranges={}, units=card["units"])


def test_md22_energy_key(mirror: Path, cards: dict[str, Any]) -> None:
    file = mirror / "md22/raw/md22_Ac-Ala3-NHMe_first5frames.xyz"
    got = read_extxyz(file, ranges=cards["md22"]["ranges"], units=cards["md22"]["units"])
    assert len(got) == 5
    assert set(got.n_atoms()) == {42}
    assert got.labels["energy"][0] == -620726.002662
    assert np.array_equal(got.forces[:42], by_hand(file, 0, 42)[1][:, 3:])  # type: ignore[index]


def test_units_of_another_dataset_are_refused(mirror: Path, cards: dict[str, Any]) -> None:
    file = mirror / "3bpa/dataset_3BPA/train_300K.xyz"
    with pytest.raises(DataError, match=r"train_300K\.xyz, record 0: energy_per_atom = -654"):
        read_extxyz(file, ranges=cards["md22"]["ranges"], units=cards["md22"]["units"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[: len(t) - 100], "record 2"),
        (lambda t: t.replace("-620726", "nan-", 1), "record 0"),
        (lambda t: t.replace("2.04866", "nan", 1), "record 0: positions contain NaN"),
        (lambda t: t.replace("2.04866", "x", 1), "record 0"),
        (lambda t: t.replace("H  2.04866", "Xx  2.04866", 1), "record 0"),
        (lambda t: t.replace("Energy=-620726.002662 ", "", 1), "record 0: has no energy"),
        (lambda t: t.replace(":forces:R:3", ":other:R:3", 1), "record 0: has no forces"),
        (lambda t: "", "holds no frames|record 0"),
    ],
)
def test_damaged_file_is_refused(
    tmp_path: Path, mirror: Path, cards: dict[str, Any], change: Any, message: str
) -> None:
    text = (mirror / "md22/raw/md22_Ac-Ala3-NHMe_first5frames.xyz").read_text()
    file = tmp_path / "a.xyz"
    file.write_text(change("\n".join(text.splitlines()[: 3 * 44]) + "\n"))
    with pytest.raises(DataError, match=rf"a\.xyz(, |: ).*({message})|a\.xyz.*{message}"):
        read_extxyz(file, ranges={}, units=cards["md22"]["units"])
