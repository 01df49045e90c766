"""Blocks of V2000 records decoded by NumPy straight from their bytes.

The plain layout is what RDKit, Open Babel and OEChem write: a counts line that ends in ``V2000``,
atom lines with coordinates in Fortran's F10.4 and an element symbol, bond lines, ``M  ...`` lines.
Every record that departs from it where it is read here goes to RDKit, one by one
(:mod:`georecon.data.readers.sdf_record`). Bonds, charges and properties are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from georecon.data.elements import ATOMIC_NUMBER
from georecon.data.molecules import Float, Int
from georecon.data.readers.sdf_record import molecules_within, read_record

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_PAD = 64  # bytes after the last line, so that a window at any line start stays inside
_COUNTS = np.dtype(
    {
        "names": ["atoms", "bonds", "version"],
        "formats": [("u1", 3), ("u1", 3), "S5"],
        "offsets": [0, 3, 34],
        "itemsize": 39,
    }
)
# F10.4 as one blank, two pairs of characters with sign and integer part, a point, two pairs.
_COORDINATE = np.dtype(
    {
        "names": ["blank", "high", "low", "point", "first", "second"],
        "formats": ["u1", "<u2", "<u2", "u1", "<u2", "<u2"],
        "offsets": [0, 1, 3, 5, 6, 8],
        "itemsize": 10,
    }
)
_ATOM = np.dtype(
    {
        "names": ["xyz", "blank", "symbol", "third", "isotope"],
        "formats": [(_COORDINATE, 3), "u1", "<u2", "u1", "<u2"],
        "offsets": [0, 30, 31, 33, 34],
        "itemsize": 36,
    }
)
_NO_ISOTOPE = int.from_bytes(b" 0", "little")
# Flags beside the value of a pair of characters.
_BAD, _NEGATIVE, _OPEN = 1 << 20, 1 << 21, 1 << 22
_VALUE = (1 << 7) - 1


def _pair_tables() -> tuple[NDArray[np.int32], ...]:
    """Value and flags of every pair of characters in the high, low and decimal places.

    ``_OPEN``: for the high pair, something stands there; for the low one, nothing may stand before.
    """
    high, low, decimals = (np.full(1 << 16, _BAD, dtype=np.int32) for _ in range(3))

    def pair(text: str) -> int:
        return int.from_bytes(text.encode(), "little")

    high[pair("  ")] = 0
    high[pair(" -")] = _NEGATIVE | _OPEN
    for ones in range(10):
        for table in (high, low):
            table[pair(f" {ones}")] = ones | _OPEN
            table[pair(f"-{ones}")] = ones | _OPEN | _NEGATIVE
        for tens in range(10):
            value, place = 10 * tens + ones, pair(f"{tens}{ones}")
            high[place], low[place], decimals[place] = value | _OPEN, value, value
    return high, low, decimals


def _symbol_table() -> NDArray[np.uint8]:
    table = np.zeros(1 << 16, dtype=np.uint8)
    for symbol, number in ATOMIC_NUMBER.items():
        table[int.from_bytes(symbol.ljust(2).encode(), "little")] = number
    return table


_HIGH, _LOW, _DECIMALS = _pair_tables()
_SYMBOL = _symbol_table()


@dataclass(frozen=True, slots=True)
class Block:
    """What the records of a block hold.

    Attributes:
        data: the bytes; may be used anew after this block.
        rows: rows that the records take up: one each, except where a ``$$$$`` is missing.
        row: row within the block of each molecule read, increasing, (M,).
        z: atomic numbers, (N,).
        pos: positions [Å], the very numbers that ``float`` gives for the text, (N, 3).
        offsets: first atom of each molecule and the number of atoms, (M+1,).
        title_span: first byte of each title line and of the next line, (M, 2).
        rejected: row within the block, title and reason of each record left out.
    """

    data: memoryview
    rows: int
    row: Int
    z: NDArray[np.uint8]
    pos: Float
    offsets: Int
    title_span: Int
    rejected: list[tuple[int, str, str]]

    def title(self, molecule: int) -> str:
        """Title line of a molecule, without blanks around it."""
        start, end = self.title_span[molecule]
        return bytes(self.data[start:end]).decode("latin-1").strip()


class _Found(NamedTuple):
    record: Int  # (M,)
    n_atoms: Int  # (M,)
    z: NDArray[np.uint8]  # (N,)
    pos: Float  # (N, 3)


class _Lines(NamedTuple):
    buffer: Bytes  # padded
    start: Int  # (L,)
    end: Int  # place of the newline, (L,)

    def windows(self, lines: Int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The first bytes of each given line, as a record of ``dtype``."""
        void = np.dtype(f"V{dtype.itemsize}")
        count = len(self.buffer) - dtype.itemsize + 1
        everywhere: NDArray[Any] = np.ndarray((count,), void, self.buffer, strides=(1,))
        return everywhere[self.start[lines]].view(dtype)

    def length(self, lines: Int) -> Int:
        return self.end[lines] - self.start[lines]


def parse_block(data: bytes | memoryview) -> Block:
    """Read whole records: ``data`` ends with the newline of a ``$$$$`` line.

    Every record is either read or rejected; one without ``$$$$`` between it and the next takes up
    the rows of both, so that later rows stay what they are.
    """
    data = memoryview(data)
    lines = _split(data)
    first, last = _record_lines(lines)
    n_atoms, plain = _plain_records(lines, first, last)
    offsets = _offsets(n_atoms)
    z, pos, good = _atoms(lines, _ranges(first + 4, n_atoms))
    plain[np.searchsorted(offsets, np.flatnonzero(~good), side="right") - 1] = False
    plain &= ~_flat(pos, offsets)  # a drawing? its header and bonds tell
    found = _Found(np.arange(len(first)), n_atoms, z, pos)
    rows = np.ones(len(first), dtype=np.int64)
    rejected: list[tuple[int, str, str]] = []
    if not plain.all():
        unusual = {
            int(record): bytes(data[lines.start[first[record]] : lines.start[last[record]]])
            for record in np.flatnonzero(~plain)
        }
        found = _merge(_keep(found, plain), _read_unusual(unusual, rows, rejected))
    row = np.cumsum(rows) - rows
    start = lines.start[first[found.record]]
    return Block(
        data=data,
        rows=int(rows.sum()),
        row=row[found.record],
        z=found.z,
        pos=found.pos,
        offsets=_offsets(found.n_atoms),
        title_span=np.stack([start, lines.end[first[found.record]]], axis=1),
        rejected=rejected,
    )


def _split(data: memoryview) -> _Lines:
    buffer = np.full(len(data) + _PAD, ord("\n"), dtype=np.uint8)
    buffer[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    end = np.flatnonzero(buffer[: len(data)] == ord("\n"))
    start = np.concatenate([[0], end[:-1] + 1])
    return _Lines(buffer, start, end)


def _record_lines(lines: _Lines) -> tuple[Int, Int]:
    """Title line and ``$$$$`` line of each record, (R,) each."""
    candidates = np.flatnonzero(lines.buffer[lines.start] == ord("$"))
    last = candidates[lines.windows(candidates, np.dtype("S4")) == b"$$$$"]
    return np.concatenate([[0], last[:-1] + 1]), last


def _plain_records(lines: _Lines, first: Int, last: Int) -> tuple[Int, Mask]:
    """Atoms of each record (0 unless it is plain so far), and whether it is, (R,) each."""
    counts_line = np.minimum(first + 3, last)
    head = lines.windows(counts_line, _COUNTS)
    (n_atoms, atoms_ok), (n_bonds, bonds_ok) = _number(head["atoms"]), _number(head["bonds"])
    plain = atoms_ok & bonds_ok & (n_atoms > 0) & (head["version"] == b"V2000")
    plain &= lines.length(counts_line) >= _COUNTS.itemsize
    # One counts line and one M  END between two $$$$: else something is missing or in excess.
    versions = np.flatnonzero(lines.buffer[lines.start + 34] == ord("V"))
    versions = versions[lines.windows(versions, _COUNTS)["version"] == b"V2000"]
    plain &= _tally(versions, last) == 1
    m_line = lines.buffer[lines.start] == ord("M")
    ends = np.flatnonzero(m_line)
    ends = ends[lines.windows(ends, np.dtype("S6")) == b"M  END"]
    plain &= _tally(ends, last) == 1
    # Only M lines from the last bond to M  END.
    end = np.zeros(len(last), dtype=np.int64)
    end[np.searchsorted(last, ends)] = ends
    tail = first + 4 + n_atoms + n_bonds
    plain &= tail <= end
    before = np.concatenate([[0], np.cumsum(m_line)])  # M lines before each line
    tail = np.minimum(tail, end)
    plain &= before[end] - before[tail] == end - tail
    return np.where(plain, n_atoms, 0), plain


def _tally(lines: Int, last: Int) -> Int:
    """How many of the given lines lie in each record, (R,)."""
    return np.bincount(np.searchsorted(last, lines), minlength=len(last))[: len(last)]


def _number(digits: Bytes) -> tuple[Int, Mask]:
    """Right-aligned numbers of three characters (R, 3), and whether they are numbers, (R,)."""
    is_digit = (digits >= ord("0")) & (digits <= ord("9"))
    blank = digits == ord(" ")
    value = np.where(is_digit, digits - ord("0"), 0) @ np.array([100, 10, 1])
    ok = is_digit[:, 2] & (is_digit[:, 1] | (blank[:, 0] & blank[:, 1])) & (is_digit | blank)[:, 0]
    return value, ok


def _atoms(lines: _Lines, atom_lines: Int) -> tuple[NDArray[np.uint8], Float, Mask]:
    """Atomic numbers (N,), positions (N, 3) [Å] and whether both are good, (N,).

    A coordinate is a whole number of ten-thousandths divided by 10⁴: both are exact in float64 and
    division rounds to nearest, as ``float`` does with the same text.
    """
    atom = lines.windows(atom_lines, _ATOM)
    xyz = atom["xyz"]  # (N, 3)
    high, low = _HIGH[xyz["high"]], _LOW[xyz["low"]]
    first, second = _DECIMALS[xyz["first"]], _DECIMALS[xyz["second"]]
    wrong = ((high | low | first | second) & _BAD) | (high & low & _OPEN)
    wrong |= (xyz["blank"] != ord(" ")) | (xyz["point"] != ord("."))
    units = ((high & _VALUE) * 100 + (low & _VALUE)) * 10_000 + first * 100 + second
    pos = units / 1e4
    np.negative(pos, out=pos, where=((high | low) & _NEGATIVE) != 0)
    z = _SYMBOL[atom["symbol"]]
    good = ~wrong.any(axis=1) & (z > 0) & (atom["isotope"] == _NO_ISOTOPE)
    good &= (atom["blank"] == ord(" ")) & (atom["third"] == ord(" "))
    good &= lines.length(atom_lines) >= _ATOM.itemsize
    return z, pos, good


def _flat(pos: Float, offsets: Int) -> Mask:
    """Records of two atoms or more whose z are all 0, (R,)."""
    before = np.concatenate([[0], np.cumsum(pos[:, 2] != 0)])
    return (before[offsets[1:]] == before[offsets[:-1]]) & (np.diff(offsets) > 1)


def _read_unusual(
    records: dict[int, bytes], rows: Int, rejected: list[tuple[int, str, str]]
) -> _Found:
    """Read records one by one; sets the ``rows`` they take up and lists those left out."""
    found: list[tuple[int, int]] = []
    z: list[NDArray[np.uint8]] = [np.zeros(0, dtype=np.uint8)]
    pos: list[Float] = [np.zeros((0, 3))]
    shift = 0  # rows in excess of records so far
    for record, raw in records.items():
        title = raw.split(b"\n", 1)[0].decode("latin-1").strip()
        inside = molecules_within(raw)
        if inside > 1:
            reason = f"{inside} molecules before one $$$$: a $$$$ line is missing"
            rejected += [(record + shift + k, title, reason) for k in range(inside)]
            rows[record] = inside
            shift += inside - 1
            continue
        try:
            numbers, positions = read_record(raw)
        except ValueError as error:
            rejected.append((record + shift, title, str(error)))
            continue
        found.append((record, len(numbers)))
        z.append(numbers)
        pos.append(positions)
    table = np.array(found, dtype=np.int64).reshape(-1, 2)
    return _Found(table[:, 0], table[:, 1], np.concatenate(z), np.concatenate(pos))


def _keep(found: _Found, mask: Mask) -> _Found:
    atoms = np.repeat(mask, found.n_atoms)
    return _Found(found.record[mask], found.n_atoms[mask], found.z[atoms], found.pos[atoms])


def _merge(one: _Found, other: _Found) -> _Found:
    """Plain and unusual records' molecules in one block, in the order of their records."""
    record = np.concatenate([one.record, other.record])
    n_atoms = np.concatenate([one.n_atoms, other.n_atoms])
    order = np.argsort(record)
    atoms = _ranges((np.cumsum(n_atoms) - n_atoms)[order], n_atoms[order])
    z, pos = np.concatenate([one.z, other.z])[atoms], np.concatenate([one.pos, other.pos])[atoms]
    return _Found(record[order], n_atoms[order], z, pos)


def _offsets(counts: Int) -> Int:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _ranges(first: Int, count: Int) -> Int:
    """``first[i], first[i] + 1, …`` of ``count[i]`` numbers each, one after the other."""
    offsets = _offsets(count)
    return np.repeat(first - offsets[:-1], count) + np.arange(offsets[-1])
