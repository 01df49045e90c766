"""QM9 from its official raw files: figshare's XYZ archive and MoleculeNet's SDF with CSV.

Same ids, labels and units as ``georecon.data.readers.qm9_package``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georecon.data.checks import Ranges
from georecon.data.elements import atomic_number
from georecon.data.molecules import Molecules, Rejected
from georecon.data.raw.archives import is_archive, members, open_member
from georecon.data.readers.qm9_package import ELEMENTS, LABELS, finish, first_not_number
from georecon.data.readers.sdf import iter_sdf
from georecon.data.readers.text import number, numbers
from georecon.errors import DataError

# Columns of gdb9.sdf.csv, in the order of LABELS.
_GDB9_NAME = {"u": "u298", "h": "h298", "g": "g298"}
_GDB9_COLUMNS = [_GDB9_NAME.get(name, name) for name in LABELS]
# Fields of the second line of a dsgdb9nsd file after "gdb N A B C".
_XYZ_FIELDS = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u", "h", "g", "cv")
UNCHARACTERIZED = "listed in uncharacterized.txt: failed QM9's consistency check"
_XYZ_NAME = re.compile(r"dsgdb9nsd_(\d{6})\.xyz")


def read_uncharacterized(file: str | Path) -> NDArray[np.int64]:
    """Gdb indices of the molecules that failed QM9's consistency check, from figshare's list."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(file, None, f"not a readable list ({error})") from error
    first = [line.split()[0] for line in lines if line.split()]
    ids = np.array([int(word) for word in first if word.isdigit()], dtype=np.int64)
    if not len(ids) or len(np.unique(ids)) != len(ids):
        raise DataError(file, None, "expected rows that start with unique molecule indices")
    return ids


def read_qm9_xyz(
    tar_path: str | Path,
    uncharacterized: NDArray[np.int64],
    *,
    ranges: Ranges,
    expected_molecules: int | None = None,
) -> Iterator[Molecules | Rejected]:
    """Read figshare's ``dsgdb9nsd.xyz.tar.bz2`` as a stream; nothing is unpacked to disk.

    Args:
        tar_path: the archive: regular files ``dsgdb9nsd_NNNNNN.xyz`` only.
        uncharacterized: gdb indices to leave out, see ``read_uncharacterized``.
        ranges: plausible values in store units, from the dataset card.
        expected_molecules: refuse any other count.

    Yields:
        All molecules at once, then each one left out; together as many as the archive has.

    Raises:
        DataError: the archive is cut short, holds anything but such files, or a record cannot be
            used; names the archive and the member.
    """
    file = Path(tar_path)
    skip = set(uncharacterized.tolist())
    ids, z, pos, labels = [], [], [], []
    left_out = []
    for name, text in _texts(file):
        index, numbers, positions, values = parse_xyz(text, file, name)
        if index in skip:
            left_out.append(Rejected(name, UNCHARACTERIZED))
            continue
        ids.append(index)
        z.append(numbers)
        pos.append(positions)
        labels.append(values)
    table = np.array(labels, dtype=np.float64).reshape(-1, len(_XYZ_FIELDS))
    by_name: dict[str, Any] = {name: table[:, i] for i, name in enumerate(_XYZ_FIELDS)}
    molecules = Molecules.from_list(ids, z, pos, by_name)
    yield finish(molecules, ranges, file, expected_molecules)
    yield from left_out


def _texts(file: Path) -> Iterator[tuple[str, str]]:
    for name, stream in members(file, litter=False):
        try:
            yield name, stream.read().decode("ascii")
        except UnicodeDecodeError as error:
            raise DataError(file, name, f"not plain text ({error})") from error


def parse_xyz(text: str, file: Path, name: str) -> tuple[int, list[int], Any, list[float]]:
    """One ``dsgdb9nsd`` record: gdb index, Z (n,), positions (n, 3) [Å] and 12 raw labels."""
    match = _XYZ_NAME.fullmatch(Path(name).name)
    if match is None:
        raise DataError(file, name, "unexpected name, expected dsgdb9nsd_NNNNNN.xyz")
    lines = text.splitlines()
    try:
        count = int(lines[0])
        head = lines[1].split()
        atoms = [line.split() for line in lines[2 : 2 + count]]
        if len(lines) < count + 5:
            raise ValueError(f"{len(lines)} lines, expected {count + 5}")
        if len(head) != 17 or len(atoms) != count or any(len(atom) != 5 for atom in atoms):
            raise ValueError(f"expected 17 properties and {count} atom lines of 5 fields")
        if head[0] != "gdb" or int(head[1]) != int(match[1]):
            raise ValueError(f"index {head[1]} differs from the one in its name")
        return (
            int(head[1]),
            [_element(atom[0]) for atom in atoms],
            [[number(atom[1]), number(atom[2]), number(atom[3])] for atom in atoms],
            [number(value) for value in head[5:]],
        )
    except (ValueError, IndexError) as error:
        raise DataError(file, name, f"not a QM9 record: {error}") from error


def _element(word: str) -> int:
    z = ELEMENTS.get(word)
    if z is None:
        try:
            z = atomic_number(word)
        except ValueError:
            z = 0
        if z not in ELEMENTS.values():
            raise ValueError(f"unknown element {word!r}, expected {' '.join(ELEMENTS)}")
    return z


def _read_gdb9_csv(csv: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Gdb indices (M,) and raw labels (M, 12) of ``gdb9.sdf.csv``, or of the zip that holds it."""
    import pandas as pd

    columns = ["mol_id", *_GDB9_COLUMNS]
    try:
        with open_member(csv, suffix=".csv") as handle:
            table = pd.read_csv(handle, usecols=columns)
        ids = table["mol_id"].str.removeprefix("gdb_").to_numpy(dtype=np.int64)
        return ids, np.stack([numbers(table[name]) for name in _GDB9_COLUMNS], axis=1)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        record = None if is_archive(csv.name) else first_not_number(csv, "mol_id", _GDB9_COLUMNS)
        raise DataError(csv, record, f"not a gdb9.sdf.csv table ({error})") from error


def read_gdb9(
    sdf: str | Path,
    csv: str | Path,
    uncharacterized: NDArray[np.int64],
    *,
    ranges: Ranges,
    expected_molecules: int | None = None,
) -> Iterator[Molecules | Rejected]:
    """Read MoleculeNet's ``gdb9.sdf`` (plain or .gz) with ``gdb9.sdf.csv``.

    Both may also be the path of ``qm9.zip``, which holds the two.

    Args:
        sdf: geometries, titles ``gdb_N``; four decimals only.
        csv: labels, column ``mol_id`` = ``gdb_N``.
        uncharacterized: gdb indices to leave out.
        ranges: plausible values in store units, from the dataset card.
        expected_molecules: refuse any other count.

    Yields:
        All molecules at once, then each one left out; together as many as the files have.

    Raises:
        DataError: a file cannot be used, or the two do not list the same molecules.
    """
    csv = Path(csv)
    ids, values = _read_gdb9_csv(csv)
    raw = Molecules.concatenate(iter_sdf(sdf, title_id=r"gdb_(\d+)"))
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids[order], raw.ids), max(len(ids) - 1, 0))
    if len(ids) != len(raw) or not np.array_equal(ids[order][place], raw.ids):
        odd = np.setxor1d(ids, raw.ids)
        record = int(odd[0]) if len(odd) else None
        raise DataError(csv, record, f"{len(ids)} rows do not match {len(raw)} records of {sdf}")
    values = values[order][place]
    labelled = Molecules(
        ids=raw.ids,
        z=raw.z,
        pos=raw.pos,
        offsets=raw.offsets,
        labels={name: values[:, i] for i, name in enumerate(LABELS)},
    )
    skipped = np.isin(raw.ids, uncharacterized)
    yield finish(labelled.keep(~skipped), ranges, csv, expected_molecules)
    yield from (Rejected(f"gdb_{index}", UNCHARACTERIZED) for index in raw.ids[skipped])
