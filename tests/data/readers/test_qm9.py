"""QM9: known values, counts, agreement of the three layouts, refusals."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.molecules import Molecules, Rejected
from georecon.data.readers import qm9_official
from georecon.data.readers.qm9_official import read_uncharacterized
from georecon.data.readers.qm9_package import (
    LABELS,
    PACK_FILES,
    _parse_positions,
    find_qm9pack,
    read_qm9pack,
)
from georecon.errors import DataError
from georecon.units import HARTREE_TO_EV


def read_qm9_xyz(*given: Any, **options: Any) -> Molecules:
    return one_chunk(qm9_official.read_qm9_xyz(*given, **options))


def read_gdb9(*given: Any, **options: Any) -> Molecules:
    return one_chunk(qm9_official.read_gdb9(*given, **options))


def one_chunk(items: Iterator[Any]) -> Molecules:
    (chunk,) = [item for item in items if isinstance(item, Molecules)]
    return chunk


NONE = np.zeros(0, dtype=np.int64)
METHANE = """5
gdb 1\t157.7118\t157.70997\t157.70699\t0.\t13.21\t-0.3877\t0.1171\t0.5048\t35.3641\t0.044749\t\
-40.47893\t-40.476062\t-40.475117\t-40.498597\t6.469\t
C\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689
H\t 0.002150416\t-0.0060313176\t 0.0019761204\t 0.133921
H\t 1.0117308433\t 1.4637511618\t 2.765748*^-4\t 0.133922
H\t-0.540815069\t 1.4475266138\t-0.8766437152\t 0.133923
H\t-0.5238136345\t 1.4379326443\t 0.9063972942\t 0.133923
1341.307
C\tC\t
InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4
"""


def test_counts(qm9: Molecules) -> None:
    assert len(qm9) == 130_831
    assert len(qm9.z) == 2_359_210
    heavy = np.add.reduceat(qm9.z > 1, qm9.offsets[:-1])
    counts = np.bincount(heavy)[1:].tolist()
    assert counts == [3, 5, 9, 31, 127, 608, 3138, 17879, 109031]


def test_known_values(qm9: Molecules) -> None:
    methane, ammonia, water = (
        {k: float(v[row]) for k, v in qm9.labels.items()} for row in (0, 1, 2)
    )
    assert tuple(qm9.labels) == LABELS
    assert methane["u0"] == pytest.approx(-40.47893 * HARTREE_TO_EV, abs=1e-9)
    assert methane["homo"] == pytest.approx(-0.3877 * HARTREE_TO_EV, abs=1e-12)
    assert (methane["alpha"], methane["r2"], methane["cv"]) == (13.21, 35.3641, 6.469)
    assert ammonia["mu"] == 1.6256
    assert ammonia["u0"] == pytest.approx(-56.525887 * HARTREE_TO_EV, abs=1e-9)
    assert water["mu"] == 1.8511
    assert water["u0"] == pytest.approx(-76.404702 * HARTREE_TO_EV, abs=1e-9)
    assert qm9.z[:5].tolist() == [6, 1, 1, 1, 1]
    np.testing.assert_allclose(qm9.pos[0], [-0.0126981359, 1.0858041578, 0.0080009958], rtol=1e-7)


def test_gap_is_lumo_minus_homo(qm9: Molecules) -> None:
    difference = qm9.labels["lumo"] - qm9.labels["homo"] - qm9.labels["gap"]
    assert np.abs(difference).max() < 2e-4 * HARTREE_TO_EV


def test_missing_ids_are_the_uncharacterized(qm9: Molecules, mirror: Path) -> None:
    listed = read_uncharacterized(mirror / "qm9/raw/uncharacterized.txt")
    assert len(listed) == 3054
    assert np.array_equal(np.setdiff1d(np.arange(1, 133_886), qm9.ids), np.sort(listed))


def test_official_layouts_agree_with_qm9pack(
    qm9: Molecules, mirror: Path, cards: dict[str, Any]
) -> None:
    raw, ranges = mirror / "qm9/raw", cards["qm9"]["ranges"]
    skip = read_uncharacterized(raw / "uncharacterized.txt")
    xyz = read_qm9_xyz(
        raw / "dsgdb9nsd_subset12000.xyz.tar.bz2", skip, ranges=ranges, expected_molecules=12_000
    )
    sdf = read_gdb9(
        raw / "gdb9_subset12000.sdf.gz",
        raw / "gdb9_subset12000.sdf.csv",
        skip,
        ranges=ranges,
        expected_molecules=12_000,
    )
    reference = qm9.keep(np.isin(qm9.ids, xyz.ids))
    for other, tolerance in ((xyz, 1e-6), (sdf, 6e-5)):
        order = np.argsort(other.ids)
        assert np.array_equal(other.ids[order], reference.ids)
        for name in LABELS:
            assert np.array_equal(other.labels[name][order], reference.labels[name]), name
        assert np.all(np.diff(other.ids) > 0)
        assert np.array_equal(other.z, reference.z)
        np.testing.assert_allclose(other.pos, reference.pos, atol=tolerance)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """The first 20 molecules of each file of qm9pack."""
    try:
        source = find_qm9pack()
    except DataError as error:
        pytest.skip(str(error))
    for name in PACK_FILES:
        with open(source / name) as lines:
            (tmp_path / name).write_text("".join(next(lines) for _ in range(21)))
    return tmp_path


EDITS = [
    ("one label in eV", ",-40.47893,", ",-1101.4877,", "record 1: u0 = -29973"),
    ("one label in Ha twice", ",0.5048,", ",0.018551,", "record 1: gap"),
    ("nan", "13.21,", "nan,", "record 1: label alpha is nan"),
    ("text", "13.21,", "abc,", r"part1\.csv, record 1: not a qm9pack"),
    ("element", "['C','H','H','H','H']", "['C','H','H','H','X']", "record 1: unknown element 'X'"),
    ("elements", "['C','H','H','H','H']", "['C','H','H','H']", "record 1: 4 elements, expected 5"),
    ("coordinate", "[2.", "[x.", "record 1: coordinate '1.01x' is not a number"),
    ("coordinates", "[-0.0126981359,", "[", r"record 1: 14 coordinates, expected 3 x 5"),
    ("eV", "-0.3877,", "-10.549,", "record 1: homo = -287.*it was read as Ha: is"),
    ("bohr", "1.0858041578", "9.99", "record 1: nearest_neighbour"),
    ("infinite", "-0.0126981359", "inf", "record 1: positions contain NaN"),
]


@pytest.mark.parametrize(
    ("old", "new", "message"), [e[1:] for e in EDITS], ids=[e[0] for e in EDITS]
)
def test_damaged_qm9pack_is_refused(
    pack: Path, cards: dict[str, Any], old: str, new: str, message: str
) -> None:
    file = pack / PACK_FILES[0]
    text = file.read_text()
    if old == "1.0858041578":  # stretch all of methane's bonds: as if in bohr
        line = text.splitlines(keepends=True)
        start, stop = line[1].index("[["), line[1].index("]]") + 2
        atoms = np.array(eval(line[1][start:stop])) / 0.529177
        line[1] = line[1][:start] + str(atoms.tolist()).replace(" ", "") + line[1][stop:]
        text = "".join(line)
    elif old == "[2.":
        text = text.replace("1.0117308433", "1.01x")
    else:
        assert old in text
        text = text.replace(old, new, 1)
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_qm9pack(pack, ranges=cards["qm9"]["ranges"])


def test_truncated_qm9pack_is_refused(pack: Path, cards: dict[str, Any]) -> None:
    ranges = cards["qm9"]["ranges"]
    assert len(read_qm9pack(pack, ranges=ranges)) == 60
    with pytest.raises(DataError, match="holds 60 molecules, expected 130831"):
        read_qm9pack(pack, ranges=ranges, expected_molecules=130_831)
    file = pack / PACK_FILES[2]
    text = file.read_text()
    last = text.rstrip().rindex("\n")
    for cut in (last + 60, last + 400, len(text) - 30):
        file.write_text(text[:cut])
        with pytest.raises(DataError, match=r"qm9_part3\.csv|record \d+"):
            read_qm9pack(pack, ranges=ranges)
    file.unlink()
    with pytest.raises(DataError, match=r"qm9_part3\.csv"):
        read_qm9pack(pack, ranges=ranges)


def tar_of(path: Path, members: dict[str, str], link: bool = False) -> Path:
    with tarfile.open(path, "w:bz2") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
    return path


NAME = "dsgdb9nsd_000001.xyz"


@pytest.mark.parametrize(
    ("old", "new"),
    [("2.765748*^-4", "2.765748D-04"), ("2.765748*^-4", "0.0002765748"), ("35.3641", "3.53641d+01"),
     ("H\t", "D\t"), ("H\t", "1\t"), ("C\t-", "6\t-"), ("H\t 0", "T\t 0")],
)  # fmt: skip
def test_xyz_record_in_the_forms_of_other_programs(tmp_path: Path, old: str, new: str) -> None:
    assert old in METHANE
    plain = qm9_official.parse_xyz(METHANE, tmp_path, "dsgdb9nsd_000001.xyz")
    assert (
        qm9_official.parse_xyz(METHANE.replace(old, new), tmp_path, "dsgdb9nsd_000001.xyz") == plain
    )
    with pytest.raises(DataError, match=r"unknown element 'Si', expected H C N O F"):
        qm9_official.parse_xyz(METHANE.replace("H\t 0", "Si\t 0"), tmp_path, "dsgdb9nsd_000001.xyz")


def test_tables_in_the_forms_of_other_programs(tmp_path: Path, mirror: Path) -> None:
    csv = (mirror / "qm9/raw/gdb9_subset12000.sdf.csv").read_text()
    sdf = mirror / "qm9/raw/gdb9_subset12000.sdf.gz"
    changed = tmp_path / "a.csv"
    row = csv.splitlines()[1].split(",")
    changed.write_text(csv.replace(row[-1], f"{float(row[-1]):.10E}".replace("E", "D"), 1))
    got = read_gdb9(sdf, changed, NONE, ranges={})
    plain = read_gdb9(sdf, mirror / "qm9/raw/gdb9_subset12000.sdf.csv", NONE, ranges={})
    for name in LABELS:
        assert np.array_equal(got.labels[name], plain.labels[name]), name


@pytest.mark.parametrize(("old", "new"), [("e-0", "*^-0"), ("e-0", "D-0"), ("E-0", "d-0")])
def test_positions_of_qm9pack_in_the_forms_of_other_programs(old: str, new: str) -> None:
    text = f"[[0.5,1{old}5,-2.25{old}3],[1.0,2.0,3.0]]"
    counts, ids = np.array([2]), np.array([7])
    got = _parse_positions([text.replace(old, new)], counts, ids, Path("a.csv"))
    assert np.array_equal(got, np.float32([[0.5, 1e-5, -2.25e-3], [1, 2, 3]]))
    with pytest.raises(DataError, match=r"record 7: coordinate '1\*2' is not a number"):
        _parse_positions([text.replace("2.0", "1*2")], counts, ids, Path("a.csv"))


def test_xyz_record_with_star_exponent(tmp_path: Path, cards: dict[str, Any]) -> None:
    file = tar_of(tmp_path / "a.tar.bz2", {NAME: METHANE})
    got = read_qm9_xyz(file, NONE, ranges=cards["qm9"]["ranges"])
    assert got.pos[2, 2] == np.float32(2.765748e-4)
    none, left_out = list(qm9_official.read_qm9_xyz(file, np.array([1]), ranges={}))
    assert len(none) == 0
    assert left_out == Rejected(NAME, qm9_official.UNCHARACTERIZED)


XYZ_EDITS = [
    ("short", METHANE[:380], "not a QM9 record"),
    ("atoms", METHANE.replace("5\n", "6\n", 1), "10 lines, expected 11"),
    ("fields", METHANE.replace("\t6.469", ""), "expected 17 properties and 5 atom lines"),
    ("element", METHANE.replace("H\t", "Q\t", 1), "unknown element 'Q'"),
    ("index", METHANE.replace("gdb 1", "gdb 2"), "differs from the one in its name"),
    ("nan", METHANE.replace("13.21", "nan"), "label alpha is nan"),
    ("unit", METHANE.replace("-40.47893", "-1101.4877"), "u0 = -29973.*it was read as Ha"),
]


@pytest.mark.parametrize(
    ("text", "message"), [e[1:] for e in XYZ_EDITS], ids=[e[0] for e in XYZ_EDITS]
)
def test_damaged_xyz_is_refused(
    tmp_path: Path, cards: dict[str, Any], text: str, message: str
) -> None:
    file = tar_of(tmp_path / "a.tar.bz2", {NAME: text})
    with pytest.raises(DataError, match=rf"a\.tar\.bz2, record .*{message}"):
        read_qm9_xyz(file, NONE, ranges=cards["qm9"]["ranges"])


def test_odd_members_are_refused(tmp_path: Path) -> None:
    link = tar_of(tmp_path / "a.tar.bz2", {NAME: ""}, link=True)
    with pytest.raises(DataError, match="is not a regular file"):
        read_qm9_xyz(link, NONE, ranges={})
    other = tar_of(tmp_path / "b.tar.bz2", {"readme.txt": "x"})
    with pytest.raises(DataError, match=r"readme\.txt: unexpected name"):
        read_qm9_xyz(other, NONE, ranges={})


def test_truncated_archive_is_refused(tmp_path: Path, mirror: Path) -> None:
    whole = (mirror / "qm9/raw/dsgdb9nsd_subset12000.xyz.tar.bz2").read_bytes()
    file = tmp_path / "cut.tar.bz2"
    file.write_bytes(whole[:300_000])
    with pytest.raises(DataError, match=r"cut\.tar\.bz2.*not a whole tar"):
        read_qm9_xyz(file, NONE, ranges={})


def test_gdb9_csv_must_match_its_sdf(tmp_path: Path, mirror: Path) -> None:
    raw = mirror / "qm9/raw"
    csv = tmp_path / "gdb9.sdf.csv"
    lines = (raw / "gdb9_subset12000.sdf.csv").read_text().splitlines(keepends=True)
    csv.write_text("".join(lines[:3] + lines[4:]))
    with pytest.raises(DataError, match="record 3: 11999 rows do not match 12000 records"):
        read_gdb9(raw / "gdb9_subset12000.sdf.gz", csv, NONE, ranges={})
    csv.write_text("".join(lines[:2]).replace("13.21", "oops"))
    with pytest.raises(DataError, match="record gdb_1: not a gdb9"):
        read_gdb9(raw / "gdb9_subset12000.sdf.gz", csv, NONE, ranges={})
    shutil.copy(raw / "uncharacterized.txt", csv)
    with pytest.raises(DataError, match=r"gdb9\.sdf\.csv: not a gdb9"):
        read_gdb9(raw / "gdb9_subset12000.sdf.gz", csv, NONE, ranges={})
