"""Extended XYZ: 3BPA and MD22 against a hand parser, what programs write, refusals."""

from __future__ import annotations

import bz2
import gzip
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.molecules import Molecules, Rejected
from georecon.data.readers.extxyz import read_extxyz
from georecon.data.readers.extxyz_frames import parse_comment
from georecon.data.readers.text import number
from georecon.errors import DataError

UNITS = {"pos": "Å", "energy": "eV", "forces": "eV/Å"}


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


# ---- what programs write -------------------------------------------------------------------------

HEAD = 'Properties=species:S:1:pos:R:3:forces:R:3 energy=-10.5 pbc="F F F"'
ATOMS = ["O 0.0 0.0 0.119 0.5 0.0 0.25", "H 0.0 0.763 -0.477 0.0 1e-5 0.0",
         "H 0.0 -0.763 -0.477 -0.5 0.0 -2.5e-6"]  # fmt: skip


def text_of(head: str = HEAD, atoms: list[str] | None = None, frames: int = 2) -> str:
    lines = ATOMS if atoms is None else atoms
    return "\n".join([str(len(lines)), head, *lines, ""]) * frames


def read(folder: Path, text: str | bytes, name: str = "a.xyz", **options: Any) -> Molecules:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_extxyz(file, ranges={}, units=UNITS, **options)


def check_plain(got: Molecules, z: list[int] | None = None) -> None:
    assert got.z.tolist() == (z or [8, 1, 1]) * 2
    expected = [[float(word) for word in line.split()[1:]] for line in ATOMS] * 2
    assert np.array_equal(got.pos, np.float32([row[:3] for row in expected]))
    assert np.array_equal(got.forces, [row[3:] for row in expected])  # type: ignore[arg-type]
    assert got.labels["energy"].tolist() == [-10.5, -10.5]


def changed(*pairs: tuple[str, str]) -> list[str]:
    text = "\n".join(ATOMS)
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text.split("\n")


@pytest.mark.parametrize(
    "atoms",
    [
        ATOMS,
        changed(("H", "D")),
        changed(("H", "T"), ("O", "o")),
        changed(("H", "1"), ("O", "8")),
        changed(("H", "h")),
        changed(("1e-5", "1.0D-05"), ("-2.5e-6", "-2.5d-6"), ("0.763", "7.63D-01")),
        changed(("1e-5", "1.*^-5"), ("-2.5e-6", "-2.5*^-6"), ("0.119", "11.9*^-2")),
        changed(("1e-5", "0.1E-004"), ("-2.5e-6", "-0.25-005")),
    ],
)
def test_species_and_numbers_as_programs_write_them(tmp_path: Path, atoms: list[str]) -> None:
    check_plain(read(tmp_path, text_of(atoms=atoms)))


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace("-10.5", "-1.05D+01"),
        HEAD.replace("-10.5", '"-10.5"'),
        HEAD.replace("energy", "REF_energy").replace("forces", "REF_forces"),
        HEAD.replace("energy", "Energy") + ' comment="a = b, \\"quoted\\"" note=[1 2 3] flag',
        HEAD.replace("species:S:1", "Z:S:1"),
        HEAD + " REF_energy=-10.500 E=-1.05e1",
        HEAD + ' Lattice="9 0 0 0 9 0 0 0 9"',
        HEAD.replace('pbc="F F F"', "pbc=[F,F,F] lattice={9 9 9}"),
        HEAD.replace('pbc="F F F"', 'Lattice="0 0 0 0 0 0 0 0 0" stress="1 0 0 0 1 0 0 0 1"'),
        HEAD.replace('pbc="F F F"', 'dihedrals="_JSON [209.44, 80.54]"'),
    ],
)
def test_comment_lines_as_programs_write_them(tmp_path: Path, head: str) -> None:
    check_plain(read(tmp_path, text_of(head)))


def test_comments_are_parsed_by_their_grammar() -> None:
    line = 'a=1 b="x \\"y\\" = z" c={1 2} d=[1, 2] e f=\'single one\' g= "quoted key"=3 h=i=j'
    assert parse_comment(line) == {
        "a": "1", "b": 'x "y" = z', "c": "1 2", "d": "1, 2", "e": "T", "f": "single one", "g": "",
        "quoted key": "3", "h": "i=j",
    }  # fmt: skip
    assert parse_comment("  \n") == {}
    with pytest.raises(ValueError, match="a is given twice: '1' and '2'"):
        parse_comment("a=1 b=2 a=2")


@pytest.mark.parametrize(
    ("word", "value"),
    [("1.0D-05", 1e-5), ("-2.d3", -2000.0), ("6.*^-6", 6e-6), ("1.5*^2", 150.0), ("1.0Q+2", 100.0),
     ("1.0-105", 1e-105), (".5D0", 0.5), ("1.0E-05", 1e-5), (" 7 ", 7.0)],
)  # fmt: skip
def test_numbers_of_text_files(word: str, value: float) -> None:
    assert number(word) == value


@pytest.mark.parametrize(
    "word", ["", "1_0", "1.0D", "D5", "1*2", "0x1", "1,5", "1.0-5", "--1", "*^"]
)
def test_what_is_no_number(word: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        number(word)


def test_plain_xyz_and_odd_ends(tmp_path: Path) -> None:
    plain = text_of("made by hand, step = 1 step = 1", [" ".join(a.split()[:4]) for a in ATOMS])
    for text in (plain, "\ufeff" + plain, plain.replace("\n", "\r\n"), plain + "\n \n\n",
                 plain[:-1], plain.replace("by hand", "à la main").encode("latin-1")):  # fmt: skip
        got = read(tmp_path, text, labels=(), forces=False)
        assert got.z.tolist() == [8, 1, 1] * 2
    with pytest.raises(DataError, match=r"record 0: has no energy.*it has: 1, by, hand"):
        read(tmp_path, plain.replace("hand,", "hand"))


def test_every_container(tmp_path: Path) -> None:
    data = text_of().encode()
    files = {"a.xyz.gz": gzip.compress(data), "a.XYZ.BZ2": bz2.compress(data), "frames.gz": b""}
    files["frames.gz"] = files["a.xyz.gz"]
    for name, content in files.items():
        check_plain(read(tmp_path, content, name))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("__MACOSX/._a.extxyz", b"\0\5\x16\7")
        archive.writestr("folder/a.extxyz", data)
    check_plain(read_extxyz(tmp_path / "a.zip", ranges={}, units=UNITS))
    with pytest.raises(DataError, match=r"a\.xyz, record 0: .* is no number of atoms"):
        read(tmp_path, gzip.compress(data))


NAMES = ("a.xyz@3", "a.xyz@:1", "*.xyz", "a?.xyz", "[a].xyz", "a#b.xyz", "50%25.xyz", "~a.xyz",
         "~", "-.xyz", "a b.xyz", "a.json", "a.cif", "ü.XYZ", "file:a.xyz", "A.db")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_interpreted(tmp_path: Path, name: str) -> None:
    """Beside each file lies one that a library would open in its place."""
    for other in ("a.xyz", "ab.xyz", "a", "50%.xyz"):
        (tmp_path / other).write_text(text_of(HEAD.replace("-10.5", "99.5")))
    check_plain(read(tmp_path, text_of(), name))


# ---- periodic frames -----------------------------------------------------------------------------

BOX = 'Lattice="7 0 0 0 7 0 0 0 7"'


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ('pbc="T T T"', 'pbc="T T T": a periodic frame'),
        (f'{BOX} pbc="F F T"', 'pbc="F F T": a periodic frame'),
        ("pbc=True", 'pbc="True": a periodic frame'),
        ('PBC="1 1 1"', 'pbc="1 1 1": a periodic frame'),
        ("pbc=[T,T,T]", "a periodic frame"),
        (BOX, "Lattice|lattice='7 0 0 0 7 0 0 0 7' without pbc"),
        ('cell="7.0 7.0 7.0"', "cell='7.0 7.0 7.0' without pbc"),
        ("cell=[[7,0,0],[0,7,0],[0,0,7]]", "cell=.* without pbc"),
        ('pbc="xyz"', 'pbc="xyz" is unclear'),
    ],
)
def test_a_periodic_frame_is_refused_by_its_row(tmp_path: Path, cell: str, message: str) -> None:
    good, bad = text_of(frames=1), text_of(HEAD.replace('pbc="F F F"', cell), frames=1)
    with pytest.raises(DataError, match=rf"a\.xyz, record 2: .*({message})"):
        read(tmp_path, good * 2 + bad + good)
    assert len(read(tmp_path, good * 3)) == 3


def test_cell_vectors_after_the_atoms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"record 1: .*'VEC1 7 0 0' .*a periodic frame"):
        read(tmp_path, text_of(frames=1) + "VEC1 7 0 0\nVEC2 0 7 0\nVEC3 0 0 7\n")


# ---- isolated atoms, labels that differ, damage --------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["IsolatedAtom", "isolated_atom", "isolated_atoms", '"IsolatedAtom"']
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_isolated_atoms_are_offered_as_references(tmp_path: Path, kind: str, place: int) -> None:
    head = HEAD.replace("-10.5", "-13.5") + f" config_type={kind}"
    atom = text_of(head, ["H 0 0 0 0 0 0"], frames=1)
    frames = [text_of(frames=1)] * 2
    frames.insert(place, atom)
    left_out: list[Rejected] = []
    got = read(tmp_path, "".join(frames), on_reject=left_out.append)
    check_plain(got)
    assert got.ids.tolist() == [row for row in range(3) if row != place]
    assert [one.record for one in left_out] == [str(place)]
    assert left_out[0].reason.endswith("for the card's atomrefs: energy: {H: -13.5} eV")
    # without the mark, or with it on a molecule, a frame is what it was
    assert len(read(tmp_path, "".join(frames).replace(f" config_type={kind}", ""))) == 3
    assert len(read(tmp_path, text_of(HEAD + f" config_type={kind}"))) == 2
    with pytest.raises(DataError, match="holds 1 isolated atoms only"):
        read(tmp_path, atom)


def test_a_file_of_forces_without_energies_of_its_atoms(tmp_path: Path) -> None:
    head = HEAD.replace("energy=-10.5", "config_type=IsolatedAtom")
    left_out: list[Rejected] = []
    text = text_of(head, ["H 0 0 0 0 0 0"], frames=1) + text_of()
    check_plain(read(tmp_path, text, on_reject=left_out.append))
    assert left_out[0].reason.endswith("atomrefs: none")


@pytest.mark.parametrize(
    ("head", "keys", "energy"),
    [
        (HEAD + " REF_energy=-11.5", {"energy": "REF_energy"}, -11.5),
        (HEAD + " REF_energy=-11.5", {"energy": "energy"}, -10.5),
        (HEAD + " Energy=-10.4 E=-10.5", {"energy": "Energy"}, -10.4),
        (HEAD + " E=0", {"energy": "E"}, 0.0),
    ],
)
def test_energies_that_differ_are_chosen_by_the_card(
    tmp_path: Path, head: str, keys: dict[str, str], energy: float
) -> None:
    names = re.findall(r"(\w*[eE]nergy|E)=", head)
    with pytest.raises(DataError, match=f"record 0: has {names[0]} = .* and .*which differ; say"):
        read(tmp_path, text_of(head))
    assert read(tmp_path, text_of(head), keys=keys).labels["energy"].tolist() == [energy] * 2


def test_forces_that_differ_are_chosen_by_the_card(tmp_path: Path) -> None:
    head = HEAD.replace("forces:R:3", "forces:R:3:REF_forces:R:3")
    twice = [f"{line} {' '.join(line.split()[4:])}" for line in ATOMS]
    check_plain(read(tmp_path, text_of(head, twice)))
    other = [f"{line} 1 2 3" for line in ATOMS]
    with pytest.raises(DataError, match="record 0: has forces and REF_forces, which differ; say"):
        read(tmp_path, text_of(head, other))
    check_plain(read(tmp_path, text_of(head, other), keys={"forces": "forces"}))
    got = read(tmp_path, text_of(head, other), keys={"forces": "REF_forces"})
    assert got.forces is not None
    assert got.forces.tolist() == [[1, 2, 3]] * 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (text_of().replace("H 0.0 0.763 -0.477 0.0 1e-5 0.0\n", "", 1), "record 0: .*atom 3 of 3"),
        (text_of(atoms=changed(("0.25", "0.25 7"))), "atom 1 of 3 has 8 fields, expected 7"),
        (text_of(atoms=changed(("O", "X"))), "record 0: unknown element 'X'"),
        (text_of(atoms=changed(("O", "101"))), "unknown element '101'"),
        (text_of(atoms=changed(("O", "0"))), "unknown element '0'"),
        (text_of(atoms=changed(("0.119", "1_0.119"))), "'1_0.119' is not a number"),
        (text_of().replace("3\n", "3 atoms\n", 1), "'3 atoms' is no number of atoms"),
        (text_of().replace("3\n", "99999999999\n", 1), "is no number of atoms"),
        (text_of(HEAD.replace(":pos:", ":frac_pos:")), "has no positions.*frac_pos"),
        (text_of(HEAD.replace("pos:R:3", "pos:R:2:w:R:1")), "pos has 2 columns"),
        (text_of(HEAD.replace("pos:R:3", "pos:X:3")), "pos:X:3 of Properties is unclear"),
        (text_of(HEAD.replace("forces:R:3", "pos:R:3")), "comes twice"),
        (text_of(HEAD + " energy=-11"), "record 0: .*energy is given twice"),
        (text_of(HEAD.replace("-10.5", "T")), "record 0: energy is 'T', no number"),
    ],
)
def test_what_is_no_frame_is_refused_by_its_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(
        DataError, match=rf"a\.xyz, record 0: .*{message.removeprefix('record 0: ')}"
    ):
        read(tmp_path, text)
