"""Numbers as programs write them into text files, beyond what Python's ``float`` takes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Mathematica's 6.*^-6, Fortran's 1.0D-05, and its 1.0-105 where three digits leave no room for D.
_FORTRAN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[DdQq]([+-]?\d+)|([+-]\d{3}))")


def number(word: str) -> float:
    """A number of a text file.

    The same as ``float`` for what ``float`` takes, but for underscores, which no file means.

    Raises:
        ValueError: no number.
    """
    try:
        if "_" not in word:
            return float(word)
    except ValueError:
        text = word.strip().replace("*^", "e")
        if match := _FORTRAN.fullmatch(text):
            return float(f"{match[1]}e{match[2] or match[3]}")
        if text != word.strip():
            try:
                return float(text)
            except ValueError:
                pass
    raise ValueError(f"{word!r} is not a number")


def numbers(column: Any) -> NDArray[np.float64]:
    """A column of a table, (M,): as it is where all of it is numbers, else word by word.

    Raises:
        ValueError: something is no number.
    """
    if column.dtype.kind in "iuf":
        return np.asarray(column, dtype=np.float64)
    return np.array([number(str(word)) for word in column], dtype=np.float64)
