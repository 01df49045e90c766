"""One unusual SDF record, read by RDKit and checked against the text.

RDKit alone is not enough: it takes ``1 2.0648`` in a coordinate field for 1.0 and a blank field for
the next number. A V2000 record is kept only if Python reads the same coordinates from the columns
of the format. Lines are told apart by the record's grammar (title, two lines, counts, atoms, bonds,
properties to ``M  END``, data items), never by what they look like: a title or a data item may hold
anything, a whole molfile too.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georecon.data.molecules import MAX_Z, Float
from georecon.data.readers.text import number

_COUNTS = re.compile(rb"^.{34}V[23]000", re.DOTALL)
# Numbers of Fortran and Mathematica, whole: one damaged byte of F10.4 makes none of them.
_EXPONENT = re.compile(r" *[+-]?\d*\.\d*([DdEe][+-]\d{2,3}|\*\^[+-]?\d+) *")
_HEADER = 4  # lines from a title to its counts line
_DRAWN = (5, 6, 7, 14, 15, 16)
"""B, C, N, Si, P, S: with four neighbours none of them is flat."""


def molecules_within(record: bytes) -> int:
    """Molecules that begin in a record: more than one if a ``$$$$`` is missing between them.

    One begins where the grammar lets it: after ``M  END`` or after the blank line that ends a data
    item, and its counts line is the fourth from there. A molfile within a data item is data.
    """
    lines = record.split(b"\n")
    count = 0
    title: int | None = 0
    while title is not None and _is_counts(lines, title + _HEADER - 1):
        count += 1
        title = _next_title(lines, title)
    return count


def _is_counts(lines: list[bytes], place: int) -> bool:
    return place < len(lines) and _COUNTS.match(lines[place]) is not None


def _next_title(lines: list[bytes], title: int) -> int | None:
    """Title line of the molecule after that of ``title`` within one record, or None."""
    place = title + _HEADER
    while place < len(lines) and not lines[place].startswith(b"M  END"):
        if lines[place].startswith((b"A  ", b"G  ")):
            place += 1  # a line of free text follows
        elif _is_counts(lines, place):
            return place - _HEADER + 1  # cut short: another one has begun
        place += 1
    place += 1
    if _is_counts(lines, place + _HEADER - 1) and not lines[place].startswith(b">"):
        return place
    while place < len(lines):
        if not lines[place].startswith(b">"):
            place += 1
            continue
        while place < len(lines) and lines[place].strip():  # the item's header and its values
            place += 1
        place += 1
        if _is_counts(lines, place + _HEADER - 1) and not lines[place].startswith(b">"):
            return place
    return None


def read_record(record: bytes) -> tuple[NDArray[np.uint8], Float]:
    """Atomic numbers (n,) and positions (n, 3) [Å] of one V2000 or V3000 record.

    Raises:
        ValueError: the record cannot be used; says why.
        ImportError: RDKit is not installed.
    """
    from rdkit import Chem, rdBase

    lines = [line.rstrip("\r") for line in record.decode("latin-1").split("\n")]
    text = "\n".join(lines)
    written = None if "V3000" in "".join(lines[3:4]) else _coordinates(lines)
    block = rdBase.BlockLogs()
    molecule = Chem.MolFromMolBlock("\n".join(lines), sanitize=False, removeHs=False)
    del block
    if molecule is None:
        raise ValueError("RDKit cannot read it: element, bond or property lines are malformed")
    z = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], dtype=np.int64)
    if not len(z):
        raise ValueError("no atoms, expected at least one")
    if z.min() < 1 or z.max() > MAX_Z:
        symbol = molecule.GetAtomWithIdx(int(np.argmax((z < 1) | (z > MAX_Z)))).GetSymbol()
        raise ValueError(f"{symbol!r} is no element, expected one of Z 1..{MAX_Z}")
    pos: Float = molecule.GetConformer().GetPositions()
    if not np.isfinite(pos).all():
        raise ValueError("coordinates contain NaN or infinity, expected finite numbers")
    if written is not None and "\n".join(lines) != text and np.allclose(written, pos, atol=6e-5):
        pos = written
    if written is not None and not np.array_equal(written, pos):
        raise ValueError("RDKit and Python read different coordinates, expected F10.4 columns")
    _refuse_drawing(lines, molecule, pos)
    return z.astype(np.uint8), pos


def _refuse_drawing(lines: list[str], molecule: Any, pos: Float) -> None:
    """Refuse a structural formula: flat, and said to be or not flat in space.

    Planar molecules in three dimensions are none, unless the header calls them 2D.
    """
    if len(pos) < 2 or pos[:, 2].any():
        return
    if lines[1][20:22] == "2D":
        raise ValueError("a 2D drawing (its second line says 2D, all z are 0), expected 3D")
    atoms = list(molecule.GetAtoms())
    molecule.UpdatePropertyCache(strict=False)
    bare = len(atoms) > 3 and all(atom.GetAtomicNum() > 1 for atom in atoms)  # hydrogens left out
    for atom in atoms:
        neighbours = atom.GetTotalDegree() if bare else atom.GetDegree()
        if atom.GetAtomicNum() in _DRAWN and neighbours > 3:
            which = f"{atom.GetSymbol()} (atom {atom.GetIdx() + 1})"
            reason = f"all z are 0, though {which} has {neighbours} neighbours"
            raise ValueError(f"a 2D drawing ({reason}), expected 3D")


def _coordinates(lines: list[str]) -> Float:
    """Coordinates in the columns of the V2000 format, (n, 3) [Å].

    Numbers with exponents (``1.0D-05``) are rounded in ``lines``, so that RDKit can read the rest.
    """
    if len(lines) < 5:
        raise ValueError(f"{len(lines) - 1} lines, expected a title, two lines and counts")
    counts = lines[3]
    try:
        n_atoms, n_bonds = int(counts[0:3]), int(counts[3:6])
    except ValueError as error:
        raise ValueError(f"counts line {counts!r} has no atom and bond number") from error
    if n_atoms < 1:
        raise ValueError(f"{n_atoms} atoms, expected at least one")
    if len(lines) - 1 < 4 + n_atoms + n_bonds:
        raise ValueError(f"{len(lines) - 1} lines, too few for {n_atoms} atoms, {n_bonds} bonds")
    rows = []
    for place in range(4, 4 + n_atoms):
        line = lines[place]
        fields = [line[start : start + 10] for start in (0, 10, 20)]
        try:
            read = [number if _EXPONENT.fullmatch(field) else float for field in fields]
            rows.append([convert(field) for convert, field in zip(read, fields, strict=True)])
        except ValueError as error:
            raise ValueError(f"atom line {line!r} has no three coordinates") from error
        if number in read:  # which RDKit does not take
            lines[place] = "".join(f"{value:10.4f}" for value in rows[-1]) + line[30:]
    pos = np.array(rows)
    if not np.isfinite(pos).all():
        raise ValueError("coordinates contain NaN or infinity, expected finite numbers")
    return pos
