"""SDF records made in code: one good, twelve malformed (style.md §5, F13), and what RDKit reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

WATER = """water 3
  by hand           3D

  3  2  0  0  0  0  0  0  0  0999 V2000
   -0.0344    0.9775    0.0076 O   0  0
    0.0648    0.0206    0.0015 H   0  0
    0.8718    1.3008    0.0007 H   0  0
  1  2  1  0
  1  3  1  0
M  END
$$$$
"""
WATER_Z = [8, 1, 1]
WATER_POS = [[-0.0344, 0.9775, 0.0076], [0.0648, 0.0206, 0.0015], [0.8718, 1.3008, 0.0007]]


class Fault(NamedTuple):
    """A record that stands between two waters.

    Attributes:
        record: its bytes, ``$$$$`` included unless that is the fault.
        z: what it holds if it is to be read, else None.
        reason: pattern of the reason if it is to be rejected.
        rows: rows it takes up.
    """

    record: bytes
    z: list[int] | None = None
    reason: str = ""
    rows: int = 1


def _changed(old: str, new: str) -> bytes:
    assert old in WATER
    return WATER.replace(old, new, 1).encode("latin-1")


def _one_atom() -> bytes:
    lines = WATER.splitlines(keepends=True)
    return "".join([*lines[:3], "  1  0" + lines[3][6:], lines[4], *lines[-2:]]).encode()


FAULTS: dict[str, Fault] = {
    "truncated record": Fault(_changed("  1  3  1  0\nM  END\n", ""), reason="too few for 3 atoms"),
    "truncated atoms": Fault(
        _changed(WATER[WATER.index("    0.8718") : WATER.index("$$$$")], ""),
        reason="6 lines, too few for 3 atoms, 2 bonds",
    ),
    "bad counts line": Fault(_changed("  3  2  0", "  x  2  0"), reason="no atom and bond number"),
    "bad valence": Fault(_changed("  1  3  1  0", "  1  3  3  0"), z=WATER_Z),
    "nan coordinate": Fault(_changed("    0.0648", "       nan"), reason="NaN or infinity"),
    "inf coordinate": Fault(_changed("    0.0648", "       inf"), reason="NaN or infinity"),
    "coincident atoms": Fault(
        _changed("    0.8718    1.3008    0.0007", "    0.0648    0.0206    0.0015"),
        reason="nearest_neighbour = 0 is outside the plausible",
    ),
    "unknown element": Fault(_changed(" O ", " Xx"), reason="RDKit cannot read it: element"),
    "no atoms": Fault(_changed("  3  2  0", "  0  0  0"), reason="0 atoms"),
    "one atom": Fault(_one_atom(), z=[8]),
    "isotopes": Fault(
        _changed("0.0015 H   0  0", "0.0015 D   0  0").replace(b"O   0", b"O   2"), z=WATER_Z
    ),
    "crlf": Fault(WATER.replace("\n", "\r\n").encode(), z=WATER_Z),
    "missing end": Fault(_changed("$$$$\n", "") + WATER.encode(), reason="is missing", rows=2),
    "not utf-8, in the title": Fault(_changed("by hand", "à main"), z=WATER_Z),
    "not utf-8, in an atom": Fault(_changed(" O ", " \xd6 "), reason="RDKit cannot read it"),
}


def read_by_rdkit(record: bytes) -> tuple[list[int], Any] | None:
    """Atomic numbers and positions [Å] as RDKit reads a record, or None."""
    from rdkit import Chem, rdBase

    quiet = rdBase.BlockLogs()
    text = record.decode("latin-1").split("$$$$")[0]
    molecule = Chem.MolFromMolBlock(text, sanitize=False, removeHs=False)
    del quiet
    if molecule is None or not molecule.GetNumAtoms():
        return None
    z = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    return z, molecule.GetConformer().GetPositions()


def put(path: Path, text: str | bytes) -> Path:
    """Write a file."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def same_bits(one: Any, other: Any) -> bool:
    """Equal in every bit, so that -0.0 differs from 0.0."""
    return np.asarray(one, float).tobytes() == np.asarray(other, float).tobytes()
