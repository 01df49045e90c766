"""Reading files that somebody else may have written: refuse, never execute, never escape."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from georecon.errors import DataError

JSON_LIMIT = 16 << 20
"""Largest JSON file that is read [bytes]; a table of a large edition has some hundred kilobytes."""
_DEPTH = 64
_NAME_BYTES = 255  # of a file's or folder's name, on every file system we know
_PRINTABLE = 200
MISFORMED: tuple[type[Exception], ...] = (
    AttributeError, KeyError, TypeError, ValueError, IndexError, ArithmeticError, RecursionError,
)  # fmt: skip
"""What code raises on values of another type or form than it was written for."""
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)


def relative_path(text: object, file: str | Path) -> str:
    """A path inside the working folder, as a record names it, in normal form.

    Raises:
        DataError: not text, absolute, or it leaves the folder; ``file`` is the file that says so.
    """
    if not isinstance(text, str) or not text or len(text) > 1000:
        raise DataError(file, None, f"names {text!r:.60} as a path, expected a relative path")
    path = PurePosixPath(text)
    bad = "\\" in text or any(ord(character) < 32 for character in text) or ":" in path.parts[0]
    if bad or path.is_absolute() or ".." in path.parts or str(path) != text:
        raise DataError(file, None, f"names {text[:_PRINTABLE]!r}, a path out of the folder")
    return text


def check_names(names: Iterable[str], file: str | Path) -> None:
    """Refuse names that some file system could not hold beside each other.

    Args:
        names: relative paths of files, in normal form.
        file: the archive that has them or is to have them.

    Raises:
        DataError: a part of a name is longer than 255 bytes, two names differ in case or in the
            form of their letters only, or one is a file where another needs a folder.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        for part in PurePosixPath(name).parts:
            if len(part.encode("utf-8", "surrogatepass")) > _NAME_BYTES:
                text = f"has a name of more than {_NAME_BYTES} bytes"
                raise DataError(file, f"{part[:60]}…", text)
        folded = _folded(name)
        if folded in seen:
            raise DataError(file, name, f"is also there as {seen[folded]!r}")
        seen[folded] = name
        for parent in PurePosixPath(name).parents:
            folders.setdefault(_folded(str(parent)), name)
    for folded in seen.keys() & folders.keys():
        raise DataError(file, seen[folded], f"is a file, and {folders[folded]!r} lies in it")


def _folded(name: str) -> str:
    """A name as a file system may compare it: without case, letters in one form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def printable(text: str) -> str:
    """Text that cannot steer a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, not a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"holds {text[:40]}, not a finite number")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("holds a key twice")
    return found


def _depth(text: str) -> int:
    """Deepest nesting of brackets outside of strings."""
    depth = deepest = 0
    for match in _BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in "]}":
            depth -= 1
    return deepest


def read_strict_json(
    path: Path, name: str | None = None, *, limit: int = JSON_LIMIT
) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        name: how to call it in errors; by default its path.
        limit: its largest size [bytes].

    Raises:
        DataError: missing, larger than ``limit``, nested deeper than 64, not UTF-8, not an
            object, a key twice, or a number that is not finite.
    """
    file = name or str(path)
    try:
        if (size := path.stat().st_size) > limit:
            raise DataError(file, None, f"holds {size} bytes of JSON, allowed {limit}")
        text = path.read_text(encoding="utf-8")
        if text.count("[") + text.count("{") > _DEPTH and (deep := _depth(text)) > _DEPTH:
            raise DataError(file, None, f"is nested {deep} deep, allowed {_DEPTH}")
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique
        )
    except FileNotFoundError:
        raise DataError(file, None, "is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(file, None, f"not readable as JSON ({str(error)[:_PRINTABLE]})") from None
    if not isinstance(value, dict):
        raise DataError(file, None, f"holds {type(value).__name__}, expected an object")
    return value


def read_safetensors(path: Path, name: str | None = None) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file, whose reader checks header, sizes and overlaps.

    Raises:
        DataError: missing, or not a whole safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = name or str(path)
    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise DataError(file, None, "is missing") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        text = f"not a whole safetensors file ({str(error)[:_PRINTABLE]})"
        raise DataError(file, None, text) from None
