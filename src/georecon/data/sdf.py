"""Geometries from SDF files (V2000): atomic numbers and positions, hydrogens kept.

Streams ``.sdf``, ``.sdf.gz``, ``.sdf.tar.gz`` and ``.zip`` without unpacking to disk. Bonds,
charges and properties are not read: pre-training needs positions and elements only.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from georecon.data.elements import ATOMIC_NUMBER
from georecon.data.molecules import Molecules, Rejected
from georecon.errors import DataError

_CHUNK = 4096


@contextmanager
def _open_text(file: Path) -> Iterator[io.TextIOBase]:
    """Open a plain, gzipped or tarred SDF as a stream of text lines."""
    name = file.name.lower()
    if name.endswith((".tar.gz", ".tgz", ".tar")):
        with tarfile.open(file, "r:*") as archive:
            for member in archive:
                if member.isdir():
                    continue
                handle = archive.extractfile(member) if member.isreg() else None
                if handle is None or not member.name.lower().endswith(".sdf"):
                    raise DataError(file, member.name, "expected one regular .sdf file inside")
                yield io.TextIOWrapper(handle, encoding="latin-1")
                return
        raise DataError(file, None, "archive holds no .sdf file")
    elif name.endswith(".zip"):
        with zipfile.ZipFile(file) as bundle:
            names = [name for name in bundle.namelist() if not name.startswith("__MACOSX")]
            inside = [name for name in names if name.lower().endswith(".sdf")]
            if len(inside) != 1:
                raise DataError(file, None, f"expected one .sdf file inside, found {inside}")
            with bundle.open(inside[0]) as member_handle:
                yield io.TextIOWrapper(member_handle, encoding="latin-1")
    elif name.endswith(".gz"):
        with gzip.open(file, "rt", encoding="latin-1") as text:
            yield text
    else:
        with open(file, encoding="latin-1") as text:
            yield text


def _records(file: Path) -> Iterator[list[str]]:
    """Lines of each record up to ``$$$$``; refuses a last record that has no end."""
    lines: list[str] = []
    with _open_text(file) as text:
        count = 0
        for line in text:
            if line.startswith("$$$$"):
                yield lines
                lines = []
                count += 1
            else:
                lines.append(line)
        if any(line.strip() for line in lines):
            raise DataError(file, count, "record cut short: the file ends before $$$$")


def parse_record(lines: list[str]) -> tuple[list[int], list[list[float]]]:
    """Atomic numbers (n,) and positions (n, 3) [Å] of one V2000 record.

    Raises:
        ValueError: not a V2000 record, or a field of it is unusable; says which.
    """
    if len(lines) < 4:
        raise ValueError(f"{len(lines)} lines, expected at least a title, two lines and counts")
    counts = lines[3]
    if "V3000" in counts:
        raise ValueError("V3000 record, expected V2000")
    try:
        n_atoms, n_bonds = int(counts[0:3]), int(counts[3:6])
    except ValueError as error:
        raise ValueError(f"counts line {counts.rstrip()!r} has no atom and bond number") from error
    if len(lines) < 4 + n_atoms + n_bonds:
        raise ValueError(f"{len(lines)} lines, expected {n_atoms} atoms and {n_bonds} bonds")
    z, pos = [], []
    for line in lines[4 : 4 + n_atoms]:
        symbol = line[31:34].strip()
        number = ATOMIC_NUMBER.get(symbol)
        if number is None:
            raise ValueError(f"unknown element {symbol!r}, expected a symbol of Z 1..100")
        try:
            pos.append([float(line[0:10]), float(line[10:20]), float(line[20:30])])
        except ValueError as error:
            raise ValueError(f"atom line {line.rstrip()!r} has no three coordinates") from error
        z.append(number)
    if not z:
        raise ValueError("no atoms, expected at least one")
    return z, pos


def iter_sdf(
    path: str | Path,
    *,
    title_id: str | None = None,
    on_reject: Callable[[Rejected], None] | None = None,
    chunk: int = _CHUNK,
) -> Iterator[Molecules]:
    """Read an SDF file in chunks.

    Args:
        path: ``.sdf``, ``.sdf.gz`` or ``.sdf.tar.gz`` (with a single .sdf inside).
        title_id: pattern whose first group in the title line is the molecule id; by default the
            id is the row number, from 0.
        on_reject: called with each unusable record, which is then left out (its row number stays
            used up); by default such a record is an error.
        chunk: molecules per chunk.

    Yields:
        Chunks without labels, in file order.

    Raises:
        DataError: unreadable or truncated file, or an unusable record; names file and row.
    """
    file = Path(path)
    pattern = re.compile(title_id) if title_id else None
    ids: list[int] = []
    z: list[list[int]] = []
    pos: list[list[list[float]]] = []
    row = -1
    try:
        for row, lines in enumerate(_records(file)):
            try:
                numbers, positions = parse_record(lines)
                ids.append(_record_id(lines[0], row, pattern))
            except ValueError as error:
                if on_reject is None:
                    raise DataError(file, row, str(error)) from error
                on_reject(Rejected(str(row), str(error)))
                continue
            z.append(numbers)
            pos.append(positions)
            if len(ids) == chunk:
                yield Molecules.from_list(ids, z, pos)
                ids, z, pos = [], [], []
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(file, row + 1, f"not a whole SDF file ({error})") from error
    if row < 0:
        raise DataError(file, None, "holds no records, expected at least one")
    if ids:
        yield Molecules.from_list(ids, z, pos)


def _record_id(title: str, row: int, pattern: re.Pattern[str] | None) -> int:
    if pattern is None:
        return row
    match = pattern.search(title)
    if match is None:
        raise ValueError(f"title {title.strip()!r} does not match {pattern.pattern!r}")
    return int(match[1])
