"""Bit equality of the block parser with RDKit and ``float``; malformed records one by one."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from georecon.data.molecules import Molecules, Rejected
from georecon.data.readers.sdf import iter_sdf
from georecon.data.readers.sdf_block import parse_block
from georecon.errors import DataError
from tests.data.readers.sdf_fixtures import (
    FAULTS,
    WATER,
    WATER_POS,
    WATER_Z,
    Fault,
    put,
    read_by_rdkit,
    same_bits,
)

RANGES = {"nearest_neighbour": [0.5, 2.8]}
Read = Callable[[Path], tuple[Molecules, list[Rejected]]]


@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("pretrain/conformers/conformer_benchmark_neutral_subset.sdf.gz", 5528),
        ("qm9/raw/gdb9_subset12000.sdf.gz", 12_000),
    ],
)
def test_every_record_equals_rdkit_in_every_bit(mirror: Path, name: str, records: int) -> None:
    chem = pytest.importorskip("rdkit.Chem")
    block = parse_block(gzip.decompress((mirror / name).read_bytes()))
    with gzip.open(mirror / name) as handle:
        supplier = chem.ForwardSDMolSupplier(handle, sanitize=False, removeHs=False)
        molecules = [(m.GetAtoms(), m.GetConformer().GetPositions()) for m in supplier]
    assert len(molecules) == block.rows == len(block.row) == records
    assert block.rejected == []
    z = [atom.GetAtomicNum() for atoms, _ in molecules for atom in atoms]
    assert np.array_equal(block.z, z)
    pos = np.concatenate([positions for _, positions in molecules])
    assert block.pos.dtype == pos.dtype == np.float64
    assert same_bits(block.pos, pos)
    assert np.array_equal(np.diff(block.offsets), [len(p) for _, p in molecules])


def _atoms(fields: list[str]) -> bytes:
    """Records of up to 300 hydrogens whose coordinates are the given ten-character fields."""
    lines = ["".join(fields[i : i + 3]) + " H   0  0\n" for i in range(0, len(fields), 3)]
    text = ""
    for first in range(0, len(lines), 300):
        part = lines[first : first + 300]
        counts = f"{len(part):3d}  0  0  0  0  0  0  0  0  0999 V2000\n"
        text += "t\n\n\n" + counts + "".join(part) + "M  END\n$$$$\n"
    return text.encode()


def test_numbers_equal_float_in_every_bit() -> None:
    """Every number of ten-thousandths up to 10, and a sample of all others that fit the field."""
    rng = np.random.default_rng(0)
    numbers = np.concatenate(
        [np.arange(-100_000, 100_000), rng.integers(-999_9999, 9999_9999, 99_998)]
    )
    fields = [f"{number / 1e4:10.4f}" for number in numbers]
    fields += ["   -0.0000", "    0.0000", " 9999.9999", " -999.9999"]
    fields = fields[: len(fields) // 3 * 3]
    block = parse_block(_atoms(fields))
    assert block.rejected == []
    assert same_bits(block.pos.ravel(), [float(field) for field in fields])


ODD = ["1 2.0648", "-", "", "1-.0000", " 12,0000", "--1.0000", "1.00000", "+1.0000", ".5000",
       "- 1.0000", "1e-3", "0x1.0000", "1.000", "12345.6789", "-1234.5678",
       "1_0.0000", "١.0000"]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_odd_coordinates_are_read_as_float_and_rdkit_do_or_refused(text: str) -> None:
    record = WATER.encode().replace(b"    0.0648", text.encode("utf-8").rjust(10), 1)
    block = parse_block(record)
    try:
        expected = float(text)
    except ValueError:
        assert len(block.row) == 0
        assert len(block.rejected) == 1
        return
    pytest.importorskip("rdkit.Chem")
    rdkit = read_by_rdkit(record)
    if len(block.row):
        assert rdkit is not None
        assert same_bits(block.pos, rdkit[1])
        assert block.pos[1, 0] == expected
    else:
        assert rdkit is None or rdkit[1][1, 0] != expected or "coordinates" in block.rejected[0][2]


def read(path: Path) -> tuple[Molecules, list[Rejected]]:
    rejected: list[Rejected] = []
    chunks = iter_sdf(path, ranges=RANGES, on_reject=rejected.append)
    return Molecules.concatenate(chunks), rejected


def check_fault(read: Read, path: Path, fault: Fault) -> None:
    """A malformed record between good ones: read right or reported, and nobody else moves."""
    molecules, rejected = read(put(path, WATER.encode() * 2 + fault.record + WATER.encode() * 2))
    records = 4 + fault.rows
    bad = list(range(2, 2 + fault.rows))
    good = [row for row in range(records) if row not in bad or fault.z is not None]
    assert len(molecules) + len(rejected) == records
    assert molecules.ids.tolist() == good
    for place, row in enumerate(good):
        atoms = slice(molecules.offsets[place], molecules.offsets[place + 1])
        z = fault.z if row in bad and fault.z is not None else WATER_Z
        assert molecules.z[atoms].tolist() == z
        assert np.array_equal(molecules.pos[atoms], np.float32(WATER_POS)[: len(z)])
    assert [one.record for one in rejected] == [str(row) for row in bad if fault.z is None]
    for one in rejected:
        assert fault.reason in one.reason
        assert "title 'water 3'" in one.reason


@pytest.mark.parametrize("name", list(FAULTS))
def test_malformed_record_is_read_right_or_reported(tmp_path: Path, name: str) -> None:
    pytest.importorskip("rdkit.Chem")
    check_fault(read, tmp_path / "a.sdf", FAULTS[name])


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.z is None])
def test_malformed_record_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    pytest.importorskip("rdkit.Chem")
    file = put(tmp_path / "a.sdf", WATER.encode() + FAULTS[name].record + WATER.encode())
    with pytest.raises(DataError, match=r"a\.sdf, record 1: .*title 'water 3'"):
        list(iter_sdf(file, ranges=RANGES))


def _drops_and_renumbers(path: Path) -> tuple[Molecules, list[Rejected]]:
    molecules, rejected = read(path)
    ids = np.arange(len(molecules))
    fields = (molecules.z, molecules.pos, molecules.offsets)
    return Molecules(ids=ids, z=fields[0], pos=fields[1], offsets=fields[2], labels={}), rejected


def _drops_silently(path: Path) -> tuple[Molecules, list[Rejected]]:
    return read(path)[0], []


def _drops_hydrogens(path: Path) -> tuple[Molecules, list[Rejected]]:
    molecules, rejected = read(path)
    heavy = molecules.z > 1
    counts = np.add.reduceat(heavy, molecules.offsets[:-1])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    args = {"ids": molecules.ids, "z": molecules.z[heavy], "pos": molecules.pos[heavy]}
    return Molecules(**args, offsets=offsets, labels={}), rejected


def _skips_what_rdkit_refuses(path: Path) -> tuple[Molecules, list[Rejected]]:
    found = [read_by_rdkit(record) for record in path.read_bytes().split(b"$$$$\n")[:-1]]
    kept = [one for one in found if one is not None]
    return Molecules.from_list(range(len(kept)), [z for z, _ in kept], [p for _, p in kept]), []


@pytest.mark.parametrize(
    "twin", [_drops_and_renumbers, _drops_silently, _drops_hydrogens, _skips_what_rdkit_refuses]
)
def test_readers_that_lose_or_renumber_records_fail_the_check(tmp_path: Path, twin: Read) -> None:
    pytest.importorskip("rdkit.Chem")
    with pytest.raises(AssertionError):
        check_fault(twin, tmp_path / "a.sdf", FAULTS["nan coordinate"])


def test_one_changed_byte_never_gives_other_numbers_than_rdkit() -> None:
    """Each byte of a record in turn becomes something else; its neighbours never notice."""
    pytest.importorskip("rdkit.Chem")
    water = WATER.encode()
    body = water[: water.index(b"$$$$")]
    changed = [
        body[:place] + bytes([byte]) + body[place + 1 :] + b"$$$$\n"
        for place in range(len(body))
        for byte in b" 0-.HDVM\x00\xe9"
        if body[place] not in (byte, ord("\n"))
    ]
    block = parse_block(b"".join(record + water for record in changed))
    assert block.rows == 2 * len(changed) == len(block.row) + len(block.rejected)
    assert len(changed) < len(block.row) < block.rows
    found = {int(row): molecule for molecule, row in enumerate(block.row)}
    for number, record in enumerate(changed):
        neighbour = found[2 * number + 1]
        atoms = slice(block.offsets[neighbour], block.offsets[neighbour + 1])
        assert same_bits(block.pos[atoms], WATER_POS)
        if 2 * number not in found:
            continue
        atoms = slice(*block.offsets[found[2 * number] :][:2])
        expected = read_by_rdkit(record)
        if expected is None:  # damage where nothing is read: bonds, charges, properties
            expected = WATER_Z, WATER_POS
        assert block.z[atoms].tolist() == expected[0], record
        assert same_bits(block.pos[atoms], expected[1]), record


def test_unusual_records_go_to_rdkit() -> None:
    """Other symbols, other widths, V3000: the numbers are RDKit's, in the order of the file."""
    chem = pytest.importorskip("rdkit.Chem")
    v3000 = chem.MolToV3KMolBlock(chem.MolFromMolBlock(WATER, sanitize=False, removeHs=False))
    unusual = [
        WATER.replace("O   0", "O   1"),
        WATER.replace(" H ", " T ", 1),
        WATER.replace("    0.0648", " 0.0648012"),
        WATER.replace("M  END", "A    1\nalias\nM  END"),
        v3000 + "$$$$\n",
        WATER.replace("M  END\n", "M  CHG  1   1  -1\nM  END\n> <name>\nwater\n\n"),
    ]
    block = parse_block("".join(WATER + record for record in unusual).encode())
    assert block.rejected == []
    assert block.row.tolist() == list(range(2 * len(unusual)))
    assert block.z.tolist() == WATER_Z * 2 * len(unusual)
    positions = [np.asarray(WATER_POS)] * (2 * len(unusual))
    positions[5] = positions[5].copy()
    positions[5][1, 0] = 0.0648012
    assert same_bits(block.pos, np.concatenate(positions))


@pytest.mark.parametrize("symbol", ["R# ", "*  ", "A  ", "LP ", "Q  "])
def test_what_is_no_element_is_rejected(symbol: str) -> None:
    pytest.importorskip("rdkit.Chem")
    block = parse_block((WATER.replace("O  ", symbol) + WATER).encode())
    assert block.row.tolist() == [1]
    assert len(block.rejected) == 1
