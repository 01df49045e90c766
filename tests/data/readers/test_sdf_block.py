"""Bit equality of the block parser with RDKit and ``float``; malformed records one by one."""

from __future__ import annotations

import gzip
import io
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


# ---- records by their grammar --------------------------------------------------------------------

BODY = WATER.removesuffix("$$$$\n")
MOLFILE = "\n".join(["ligand", "  by hand", "about it", *BODY.split("\n")[3:]])
ODD_TITLE = f"{'a title of thirty-four characters':<34}V2000 and more"


def _rdkit_all(text: str) -> list[tuple[list[int], np.ndarray]]:
    chem = pytest.importorskip("rdkit.Chem")
    supplier = chem.ForwardSDMolSupplier(io.BytesIO(text.encode()), sanitize=False, removeHs=False)
    return [([a.GetAtomicNum() for a in m.GetAtoms()], m.GetConformer().GetPositions())
            for m in supplier]  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [
        BODY.replace("water 3", ODD_TITLE),
        BODY.replace("  by hand           3D", " " * 34 + "V2000"),
        BODY.replace("3D\n\n", "3D\n" + " " * 34 + "V3000 in a comment\n"),
        BODY.replace("water 3", "M  END"),
        BODY.replace("water 3", "> <title>"),
        BODY + f"> <ligand>\n{MOLFILE}\n\n",
        BODY + f"> <ligand>\n{BODY}\n> <name>\nwater\n\n",
        BODY + f"> <ligand>\n\n{BODY.split(chr(10), 1)[1]}\n",
        BODY + f"> <name>\nwater\n\n> <two>\n{MOLFILE}{MOLFILE}\n",
        BODY + f"> <line>\n{' ' * 34}V2000\nM  END\n\n> <empty>\n\n",
        BODY + "> <V2000>\n" + "x" * 34 + "V3000\n\n",
        BODY.replace("M  END", "A    1\n" + " " * 34 + "V2000\nM  END"),
    ],
)
def test_nothing_in_a_record_is_taken_for_another(record: str) -> None:
    text = WATER + record + "$$$$\n" + WATER
    block = parse_block(text.encode())
    expected = _rdkit_all(text)
    assert block.rows == len(expected) == 3
    assert block.row.tolist() == [0, 1, 2]
    assert block.rejected == []
    assert block.z.tolist() == [z for one, _ in expected for z in one]
    assert same_bits(block.pos, np.concatenate([pos for _, pos in expected]))


@pytest.mark.parametrize(
    "items", ["", "> <name>\nwater\n\n", f"> <a>\n{MOLFILE}\n\n> <b>\n1\n\n", "> <empty>\n\n"]
)
@pytest.mark.parametrize("title", ["water 4", "", ODD_TITLE])
def test_a_missing_end_is_noticed_behind_any_data(items: str, title: str) -> None:
    """The next molecule begins where the grammar lets it, so both rows are used up."""
    pytest.importorskip("rdkit.Chem")
    text = BODY + items + WATER.replace("water 3", title) + WATER
    block = parse_block(text.encode())
    assert block.rows == 3
    assert block.row.tolist() == [2]
    assert [row for row, _, _ in block.rejected] == [0, 1]
    assert "2 molecules before one $$$$" in block.rejected[0][2]


def _flat(text: str, header: str = "3D") -> str:
    """The same record with all z at 0."""
    lines = text.replace("3D", header).split("\n")
    return "\n".join(
        line[:20] + "    0.0000" + line[30:] if len(line) > 31 and line[30] == " " else line
        for line in lines
    )


def _molecule(smiles: str, *, three: bool = True, hydrogens: bool = True) -> str:
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    molecule = chem.MolFromSmiles(smiles)
    molecule = chem.AddHs(molecule) if hydrogens else molecule
    if three:
        AllChem.EmbedMolecule(molecule, randomSeed=1)
    else:
        AllChem.Compute2DCoords(molecule)
    return str(chem.MolToMolBlock(molecule)) + "$$$$\n"


@pytest.mark.parametrize("smiles", ["CCO", "c1ccccc1", "O", "C1CCCCC1", "[NH4+]", "N#N"])
@pytest.mark.parametrize("hydrogens", [True, False])
def test_drawings_are_refused_by_their_record(smiles: str, hydrogens: bool) -> None:
    drawing = _molecule(smiles, three=False, hydrogens=hydrogens)
    block = parse_block((WATER + drawing + WATER).encode())
    if smiles in ("O", "[NH4+]") and not hydrogens:  # one atom is no drawing
        assert block.row.tolist() == [0, 1, 2]
        return
    assert block.row.tolist() == [0, 2]
    assert [row for row, _, _ in block.rejected] == [1]
    assert "a 2D drawing (its second line says 2D" in block.rejected[0][2]
    # where the header does not tell, four neighbours in a plane do
    untold = parse_block(drawing.replace("2D", "  ").encode())
    saturated = smiles == "C1CCCCC1" or (hydrogens and smiles in ("CCO", "[NH4+]"))
    assert len(untold.rejected) == saturated
    if saturated:
        assert "all z are 0, though" in untold.rejected[0][2]


@pytest.mark.parametrize("header", ["3D", "  "])
@pytest.mark.parametrize("smiles", ["c1ccccc1", "O", "C=C", "FC(F)=C(F)F", "[CH3]", "O=C=O"])
def test_planar_molecules_are_no_drawings(smiles: str, header: str) -> None:
    text = _flat(_molecule(smiles), header)
    block = parse_block(text.encode())
    assert block.rejected == []
    ((z, pos),) = _rdkit_all(text)
    assert block.z.tolist() == z
    assert same_bits(block.pos, pos)
    assert not block.pos[:, 2].any()


def test_a_header_that_says_2d_over_three_dimensions_is_read() -> None:
    text = _molecule("CCO").replace("3D", "2D")
    block = parse_block(text.encode())
    assert len(block.row) == 1
    assert same_bits(block.pos, _rdkit_all(text)[0][1])


@pytest.mark.parametrize(
    ("text", "value"),
    [("1.0D-02", 0.01), ("1.5d+00", 1.5), ("6.4*^-2", 0.064), ("0.25E+00", 0.25)],
)
def test_numbers_in_the_forms_of_other_programs(text: str, value: float) -> None:
    pytest.importorskip("rdkit.Chem")
    block = parse_block((WATER.replace("    0.0648", text.rjust(10)) + WATER).encode())
    assert block.rejected == []
    assert block.pos[1, 0] == value
    assert same_bits(block.pos[3:], WATER_POS)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.z is None])
@pytest.mark.parametrize("ranges", [RANGES, {"bond_ratio": [0.55, 1.4]}, {}])
def test_a_file_without_one_usable_record(
    tmp_path: Path, name: str, ranges: dict[str, list[float]]
) -> None:
    pytest.importorskip("rdkit.Chem")
    if name == "coincident atoms" and not ranges:
        return  # nothing then says what is too near
    file = put(tmp_path / "a.sdf", FAULTS[name].record)
    rejected: list[Rejected] = []
    assert list(iter_sdf(file, ranges=ranges, on_reject=rejected.append)) == []
    assert len(rejected) == FAULTS[name].rows
    with pytest.raises(DataError, match=r"a\.sdf, record 0: "):
        list(iter_sdf(file, ranges=ranges))
