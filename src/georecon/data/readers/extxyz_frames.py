"""The text of extended XYZ files: frames with their comment line and columns, unconverted.

A frame is a line with the number of atoms, a comment of ``key=value`` pairs, and one line for each
atom, whose columns ``Properties`` names (by default ``species`` and ``pos``, as in plain XYZ). The
file is opened here, so no library interprets its name.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from georecon.data.elements import atomic_number
from georecon.data.raw.archives import is_archive, open_member
from georecon.data.readers.text import number
from georecon.errors import DataError

_QUOTED = r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'" + r"|\{[^{}]*\}|\[[^\[\]]*\]"
_PAIR = re.compile(rf"\s*({_QUOTED}|[^\s=]+)(?:=({_QUOTED}|\S*))?")
_DEFAULT = "species:S:1:pos:R:3"
_SPECIES = ("Z", "numbers", "atomic_numbers", "species", "symbols", "symbol", "element")
_POSITIONS = ("pos", "positions")
_CELLS = ("lattice", "cell", "unit_cell", "box")
_TRUE, _FALSE = ("t", "true", "1", ".true."), ("f", "false", "0", ".false.")
_LONGEST = 10_000_000  # atoms of one frame; more is no number of atoms


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it is written.

    Attributes:
        info: values of the comment line by key; quotes and brackets around them are removed.
        columns: place of each property in ``words``.
        words: of each atom's line.
    """

    info: dict[str, str]
    columns: dict[str, slice]
    words: list[list[str]]

    def get(self, name: str) -> str | None:
        """A value of the comment line, whatever the case of its key."""
        return next((value for key, value in self.info.items() if key.lower() == name), None)

    def vectors(self, name: str) -> NDArray[np.float64]:
        """Three numbers of each atom, (n, 3).

        Raises:
            ValueError: another number of columns, or no number.
        """
        place = self.columns[name]
        if place.stop - place.start != 3:
            width = place.stop - place.start
            raise ValueError(f"{name} has {width} columns, expected 3 numbers for each atom")
        return np.array([[number(word) for word in words[place]] for words in self.words])

    def positions(self) -> NDArray[np.float64]:
        """Positions as they are in the file, (n, 3).

        Raises:
            ValueError: there are none, or they are those of a periodic frame.
        """
        self._refuse_periodic()
        return self.vectors(self._column(_POSITIONS, "positions"))

    def numbers(self) -> list[int]:
        """Atomic number of each atom.

        Raises:
            ValueError: an unknown element.
        """
        place = self.columns[self._column(_SPECIES, "species")].start
        return [atomic_number(words[place]) for words in self.words]

    def _column(self, names: Sequence[str], what: str) -> str:
        found = next((name for name in names if name in self.columns), None)
        if found is None:
            raise ValueError(
                f"has no {what}, expected a column {' or '.join(names)}; it has: "
                f"{', '.join(self.columns)}"
            )
        return found

    def _refuse_periodic(self) -> None:
        """Positions in a box may be wrapped through its walls: they are no molecule's."""
        advice = 'unwrap the molecules and write pbc="F F F"'
        pbc = self.get("pbc")
        if pbc is not None:
            flags = [word.lower() for word in re.split(r"[\s,]+", pbc.strip("[]{}() ")) if word]
            if any(flag not in (*_TRUE, *_FALSE) for flag in flags) or not flags:
                raise ValueError(f'pbc="{pbc}" is unclear, expected T or F for each axis')
            if any(flag in _TRUE for flag in flags):
                raise ValueError(f'pbc="{pbc}": a periodic frame, not a molecule; {advice}')
            return
        for name in _CELLS:
            cell = self.get(name)
            if cell is not None and any(_is_size(word) for word in re.split(r"[\s,\[\]]+", cell)):
                reason = f"{name}={cell!r:.60} without pbc is a periodic frame, not a molecule"
                raise ValueError(f"{reason}; {advice}")


def _is_size(word: str) -> bool:
    try:
        return number(word) != 0
    except ValueError:
        return False


def read_frames(file: Path) -> Iterator[Frame]:
    """Every frame of a file, plain or in ``.gz``, ``.bz2``, ``.zip`` or a tar with one such file.

    Raises:
        DataError: unreadable, or not a whole frame; names the file and the frame's row, from 0.
    """
    row = 0
    try:
        with _opened(file) as lines:
            while (frame := _read_frame(lines)) is not None:
                yield frame
                row += 1
    except OSError as error:
        raise DataError(file, None, f"cannot be read ({error})") from error
    except ValueError as error:
        raise DataError(file, row, f"not a whole extended XYZ frame: {error}") from error


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    if is_archive(file.name):
        single = file.suffix.lower() in (".gz", ".bz2") and ".tar" not in file.name.lower()
        with open_member(file, suffix="" if single else "xyz") as stream:
            yield _text(stream)
    else:
        with open(file, "rb") as handle:
            yield _text(handle)


def _text(stream: BinaryIO) -> TextIO:
    # what a comment is encoded in does not matter: keys and numbers are ASCII
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")


def _read_frame(lines: TextIO) -> Frame | None:
    """The next frame; None at the end of the file."""
    head = next((line for line in lines if line.strip()), None)
    if head is None:
        return None
    text = head.strip()
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= _LONGEST):
        hint = ": cell vectors, a periodic frame" if text.upper().startswith("VEC") else ""
        hint = hint or (": compressed, expected a name that says so" if "\0" in head else "")
        raise ValueError(f"{text[:40]!a} is no number of atoms{hint}")
    count = int(text)
    info = parse_comment(lines.readline())
    given = next((key for key in info if key.lower() == "properties"), None)
    columns, width = _columns(info.pop(given) if given else _DEFAULT)
    words = []
    for line in lines:
        words.append(line.split())
        if len(words) == count:
            break
    for place, one in enumerate(words):
        if len(one) != width if given else len(one) < width:
            reason = f"{len(one)} fields, expected {width}"
            raise ValueError(f"atom {place + 1} of {count} has {reason}: {' '.join(one)[:60]!r}")
    if len(words) < count:
        raise ValueError(f"{len(words)} atom lines, expected {count}")
    return Frame(info, columns, words)


def parse_comment(line: str) -> dict[str, str]:
    """Keys and values of a comment line; a key alone has the value ``T``.

    Raises:
        ValueError: a key with two values that differ.
    """
    info: dict[str, str] = {}
    for match in _PAIR.finditer(line.strip()):
        key, value = _bare(match[1]), "T" if match[2] is None else _bare(match[2])
        if match[2] is not None and info.get(key, value) != value:
            raise ValueError(f"{key} is given twice: {info[key]!r:.40} and {value!r:.40}")
        info[key] = value
    return info


def _bare(text: str) -> str:
    if len(text) > 1 and (text[0], text[-1]) in (('"', '"'), ("'", "'"), ("{", "}"), ("[", "]")):
        return re.sub(r"\\(.)", r"\1", text[1:-1]).strip()
    return text


def _columns(properties: str) -> tuple[dict[str, slice], int]:
    """Place of each property, and columns of a line, from ``name:type:columns:…``."""
    fields = properties.split(":")
    columns: dict[str, slice] = {}
    width = 0
    if len(fields) % 3:
        raise ValueError(f"Properties={properties!r:.80}, expected name:type:columns of each")
    for name, kind, count in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
        known = kind in ("S", "R", "I", "L") and count.isdecimal() and int(count) > 0
        if not known or name in columns:
            reason = f"{name}:{kind}:{count} of Properties is unclear or comes twice"
            raise ValueError(reason)
        columns[name] = slice(width, width + int(count))
        width += int(count)
    return columns, width
