"""SDF: equality with RDKit, containers, ids, refusals."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.data.molecules import Molecules, Rejected
from georecon.data.sdf import iter_sdf
from georecon.errors import DataError

WATER = """gdb_3
  by hand

  3  2  0  0  0  0  0  0  0  0999 V2000
   -0.0344    0.9775    0.0076 O   0  0
    0.0648    0.0206    0.0015 H   0  0
    0.8718    1.3008    0.0007 H   0  0
  1  2  1  0
  1  3  1  0
M  END
$$$$
"""


def read(path: Path, **options: Any) -> Molecules:
    return Molecules.concatenate(iter_sdf(path, **options))


def put(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "pretrain/conformers/conformer_benchmark_neutral_subset.sdf.gz",
        "qm9/raw/gdb9_subset12000.sdf.gz",
    ],
)
def test_equal_to_rdkit(mirror: Path, name: str) -> None:
    chem = pytest.importorskip("rdkit.Chem")
    got = read(mirror / name)
    with gzip.open(mirror / name) as handle:
        supplier = chem.ForwardSDMolSupplier(handle, sanitize=False, removeHs=False)
        for row, mol in zip(range(2500), supplier, strict=False):
            atoms = slice(got.offsets[row], got.offsets[row + 1])
            assert got.z[atoms].tolist() == [atom.GetAtomicNum() for atom in mol.GetAtoms()]
            expected = mol.GetConformer().GetPositions().astype(np.float32)
            assert np.array_equal(got.pos[atoms], expected)


def test_counts_of_the_conformers(mirror: Path) -> None:
    got = read(mirror / "pretrain/conformers/conformer_benchmark_neutral_subset.sdf.gz")
    assert (len(got), len(got.z)) == (5528, 226_232)
    assert np.array_equal(got.ids, np.arange(5528))


def test_every_container_gives_the_same(tmp_path: Path) -> None:
    text = WATER * 3
    plain = read(put(tmp_path / "a.sdf", text))
    assert len(plain) == 3
    with gzip.open(tmp_path / "a.sdf.gz", "wt") as handle:
        handle.write(text)
    with tarfile.open(tmp_path / "a.sdf.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("folder/a.sdf")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text.encode()))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("a.sdf", text)
        bundle.writestr("__MACOSX/._a.sdf", "x")
    for name in ("a.sdf.gz", "a.sdf.tar.gz", "a.zip"):
        other = read(tmp_path / name, chunk=2)
        assert np.array_equal(other.pos, plain.pos), name
        assert np.array_equal(other.ids, [0, 1, 2]), name


def test_ids_from_titles(tmp_path: Path) -> None:
    file = put(tmp_path / "a.sdf", WATER + WATER.replace("gdb_3", "gdb_17"))
    assert read(file, title_id=r"gdb_(\d+)").ids.tolist() == [3, 17]
    with pytest.raises(DataError, match=r"a\.sdf, record 0: title 'gdb_3' does not match"):
        read(file, title_id=r"mol(\d+)")


BROKEN = [
    (WATER.replace(" O ", " Xx"), "unknown element 'Xx'"),
    (WATER.replace("    0.0648", "       abc"), "has no three coordinates"),
    (WATER.replace("  3  2  0", "  4  2  0"), "unknown element|three coordinates|lines, expected"),
    (WATER.replace("  3  2  0", "  x  2  0"), "no atom and bond number"),
    (WATER.replace("  3  2  0", "  0  0  0"), "no atoms"),
    (WATER.replace("V2000", "V3000"), "V3000 record, expected V2000"),
    ("x\n$$$$\n", "1 lines, expected"),
]


@pytest.mark.parametrize(("record", "message"), BROKEN)
def test_broken_record_is_named_or_left_out(tmp_path: Path, record: str, message: str) -> None:
    file = put(tmp_path / "a.sdf", WATER + record + WATER)
    with pytest.raises(DataError, match=rf"a\.sdf, record 1: .*({message})"):
        read(file)
    rejected: list[Rejected] = []
    got = read(file, on_reject=rejected.append)
    assert got.ids.tolist() == [0, 2]
    assert [one.record for one in rejected] == ["1"]


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.sdf, record 1: record cut short"):
        read(put(tmp_path / "a.sdf", (WATER * 2)[:-20]))
    with pytest.raises(DataError, match="holds no records"):
        read(put(tmp_path / "b.sdf", ""))
    data = gzip.compress((WATER * 5000).encode())
    (tmp_path / "c.sdf.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"c\.sdf\.gz, record \d+: not a whole SDF file"):
        read(tmp_path / "c.sdf.gz")
    with pytest.raises(DataError, match=r"gone\.sdf"):
        read(tmp_path / "gone.sdf")


def test_archives_with_other_members_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.sdf.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("a.sdf")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match=r"record a\.sdf: expected one regular"):
        read(tmp_path / "a.sdf.tar.gz")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("a.txt", "x")
    with pytest.raises(DataError, match=r"expected one \.sdf file inside"):
        read(tmp_path / "a.zip")
