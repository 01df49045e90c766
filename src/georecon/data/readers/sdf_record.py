"""One unusual SDF record, read by RDKit and checked against the text.

RDKit alone is not enough: it takes ``1 2.0648`` in a coordinate field for 1.0 and a blank field for
the next number. A V2000 record is kept only if Python reads the same coordinates from the columns
of the format.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from georecon.data.molecules import MAX_Z, Float

_COUNTS = re.compile(rb"^.{34}V[23]000", re.MULTILINE)


def molecules_within(record: bytes) -> int:
    """How many counts lines stand between two ``$$$$``: several if a ``$$$$`` is missing."""
    return len(_COUNTS.findall(record))


def read_record(record: bytes) -> tuple[NDArray[np.uint8], Float]:
    """Atomic numbers (n,) and positions (n, 3) [Å] of one V2000 or V3000 record.

    Raises:
        ValueError: the record cannot be used; says why.
        ImportError: RDKit is not installed.
    """
    from rdkit import Chem, rdBase

    lines = [line.rstrip("\r") for line in record.decode("latin-1").split("\n")]
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
    if written is not None and not np.array_equal(written, pos):
        raise ValueError("RDKit and Python read different coordinates, expected F10.4 columns")
    return z.astype(np.uint8), pos


def _coordinates(lines: list[str]) -> Float:
    """Coordinates in the columns of the V2000 format, (n, 3) [Å]."""
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
    for line in lines[4 : 4 + n_atoms]:
        try:
            rows.append([float(line[start : start + 10]) for start in (0, 10, 20)])
        except ValueError as error:
            raise ValueError(f"atom line {line!r} has no three coordinates") from error
    pos = np.array(rows)
    if not np.isfinite(pos).all():
        raise ValueError("coordinates contain NaN or infinity, expected finite numbers")
    return pos
