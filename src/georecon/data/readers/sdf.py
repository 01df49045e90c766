"""Geometries from SDF files: atomic numbers and positions, hydrogens kept.

Streams ``.sdf``, ``.sdf.gz``, ``.sdf.tar.gz`` and ``.zip`` without unpacking to disk, in constant
memory. Bonds, charges and properties are not read: pre-training needs positions and elements only.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from georecon.data.checks import Ranges
from georecon.data.molecules import Molecules, Rejected
from georecon.data.raw.archives import members
from georecon.data.readers.sdf_workers import Reading, read_parts
from georecon.errors import DataError

BLOCK = 1 << 20  # bytes; larger ones leave the processor's cache and are slower
_PIECE = 1 << 16  # bytes read at a time; larger ones leave the cache
_LONGEST_RECORD = 16 << 20


class _CutShortError(ValueError):
    """The file is damaged or ends within a record."""


def _blocks(file: Path, block_bytes: int) -> Iterator[memoryview]:
    """Blocks of the only .sdf file in an archive, or of a plain file, in one pass.

    Members are checked as they come; nothing else in the archive is read or written.
    """
    found = 0
    for name, stream in members(file, inspected=True, litter=False):
        if not name.lower().endswith(".sdf"):
            continue
        found += 1
        if found == 1:
            yield from _whole_records(stream, block_bytes)
    if found != 1:
        raise DataError(file, None, f"expected one .sdf file inside, found {found}")


def _whole_records(stream: BinaryIO, block_bytes: int) -> Iterator[memoryview]:
    """Cut a stream into blocks that each end with a ``$$$$`` line.

    All are views of one buffer: each must be used before the next is asked for.
    """
    buffer, held = bytearray(), 0
    while True:
        if held + block_bytes > len(buffer):
            buffer = buffer[:held] + bytes(held + 2 * block_bytes)
        count = _fill(memoryview(buffer)[held : held + block_bytes], stream)
        if not count:
            break
        line = buffer.rfind(b"\n", 0, held) + 1  # no record ends before the last line held
        held += count
        end = _last_end(buffer, line, held)
        if end:
            yield memoryview(buffer)[:end]
            buffer[: held - end] = buffer[end:held]
            held -= end
        elif held > _LONGEST_RECORD:
            raise _CutShortError(f"no $$$$ line within {_LONGEST_RECORD} bytes, expected records")
    rest = bytes(buffer[:held])
    if rest.rpartition(b"\n")[2].rstrip() == b"$$$$":
        yield memoryview(rest + b"\n")
    elif rest.strip():
        raise _CutShortError("record cut short: the file ends before $$$$")


def _fill(buffer: memoryview, stream: BinaryIO) -> int:
    """Read until the buffer is full or the stream ends; returns the bytes read."""
    place = 0
    try:
        while count := cast(io.BufferedIOBase, stream).readinto(buffer[place : place + _PIECE]):
            place += count
    except DataError as error:  # the record it stands in is known further up
        raise _CutShortError(error.reason) from error
    return place


def _last_end(data: bytearray, start: int, stop: int) -> int:
    """End of the last ``$$$$`` line that begins at ``start`` or later; 0 if there is none."""
    before = stop
    while (place := data.rfind(b"$$$$", start, before)) >= 0:
        newline = data.find(b"\n", place, stop)
        if newline >= 0 and (place == 0 or data[place - 1] == ord("\n")):
            return newline + 1
        before = place + 3
    return 0


def iter_sdf(
    path: str | Path,
    *,
    title_id: str | None = None,
    ranges: Ranges | None = None,
    on_reject: Callable[[Rejected], None] | None = None,
    processes: int = 1,
    block_bytes: int = BLOCK,
) -> Iterator[Molecules]:
    """Read an SDF file in chunks.

    Args:
        path: ``.sdf``, ``.sdf.gz``, ``.sdf.tar.gz`` or ``.zip`` (with a single .sdf inside).
        title_id: pattern whose first group in the title line is the molecule id; by default the
            id is the row number, from 0.
        ranges: plausible values of the dataset card; a record outside is unusable.
        on_reject: called with each unusable record, which is then left out (its row number stays
            used up); by default such a record is an error.
        processes: at most so many: this one decompresses, the others parse. The result is the same.
        block_bytes: decompressed bytes that a process takes at a time.

    Yields:
        Chunks without labels, in file order.

    Raises:
        DataError: unreadable or truncated file, an unusable record, or a reader process that was
            killed; names file and row.
    """
    file = Path(path)
    reading = Reading(title_id, {name: list(pair) for name, pair in (ranges or {}).items()})
    row = 0
    try:
        for part in read_parts(_blocks(file, block_bytes), reading, processes):
            for place, reason in part.rejected:
                if on_reject is None:
                    raise DataError(file, row + place, reason)
                on_reject(Rejected(str(row + place), reason))
            molecules = part.molecules
            if title_id is None:
                molecules = replace(molecules, ids=molecules.ids + row)
            row += part.rows
            if len(molecules):
                yield molecules
    except (_CutShortError, ChildProcessError) as error:
        raise DataError(file, row, str(error)) from error
    except OSError as error:
        raise DataError(file, None, f"cannot be read ({error})") from error
    if row == 0:
        raise DataError(file, None, "holds no records, expected at least one")
