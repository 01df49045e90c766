"""Element symbols as files write them; covalent radii for telling bonded atoms from others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb "
    "Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm "
    "Bk Cf Es Fm"
)
SYMBOLS = tuple(_SYMBOLS.split())

ATOMIC_NUMBER: dict[str, int] = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}
ISOTOPES = {"D": 1, "T": 1}
"""Symbols of their own for isotopes; an isotope is the same element to the model."""


def atomic_number(word: str) -> int:
    """Atomic number of a species as text files give it: a symbol, ``D``, ``T``, or the number.

    Raises:
        ValueError: no element of Z 1 to 100.
    """
    symbol = word.strip().capitalize()
    number = ATOMIC_NUMBER.get(symbol) or ISOTOPES.get(symbol)
    if number is None and word.isascii() and word.isdecimal() and 1 <= int(word) <= len(SYMBOLS):
        number = int(word)
    if number is None:
        raise ValueError(f"unknown element {word!r}, expected a symbol or a number 1..100")
    return number


# Single-bond covalent radii [Å]: B. Cordero et al., Dalton Trans. 2832 (2008), Z 1..96; the last
# four elements repeat curium's. Index 0 is unused.
_RADII = """
    0 .31 .28 1.28 .96 .84 .76 .71 .66 .57 .58 1.66 1.41 1.21 1.11 1.07 1.05 1.02 1.06 2.03 1.76
    1.70 1.60 1.53 1.39 1.39 1.32 1.26 1.24 1.32 1.22 1.22 1.20 1.19 1.20 1.20 1.16 2.20 1.95 1.90
    1.75 1.64 1.54 1.47 1.46 1.42 1.39 1.45 1.44 1.42 1.39 1.39 1.38 1.39 1.40 2.44 2.15 2.07 2.04
    2.03 2.01 1.99 1.98 1.98 1.96 1.94 1.92 1.92 1.89 1.90 1.87 1.87 1.75 1.70 1.62 1.51 1.44 1.41
    1.36 1.36 1.32 1.45 1.46 1.48 1.40 1.50 1.50 2.60 2.21 2.15 2.06 2.00 1.96 1.90 1.87 1.80 1.69
    1.69 1.69 1.69 1.69
"""
COVALENT_RADIUS: NDArray[np.float32] = np.array(_RADII.split(), dtype=np.float32)
BOND_FACTOR = 1.3


def bond_lengths_squared(z: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Largest squared distance [Å²] at which a pair counts as bonded, (…, n) → (…, n, n)."""
    radius = COVALENT_RADIUS[z]
    limit = np.float32(BOND_FACTOR) * (radius[..., :, None] + radius[..., None, :])
    return np.asarray(limit * limit, dtype=np.float32)
