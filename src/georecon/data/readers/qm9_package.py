"""QM9 from the Python package ``qm9pack``, and what every layout of QM9 shares.

Ids are gdb indices, 1 to 133,885, less the 3,054 of ``uncharacterized.txt`` (qm9pack leaves them
out already). Labels: mu [D], alpha [a0^3], homo lumo gap zpve u0 u h g [eV], r2 [a0^2],
cv [cal/mol/K]. The official raw files are read by ``georecon.data.readers.qm9_official``.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georecon.data.checks import Ranges, check
from georecon.data.molecules import Molecules
from georecon.data.readers.text import number
from georecon.errors import DataError
from georecon.units import convert

LABELS = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u", "h", "g", "cv")
RAW_HARTREE = ("homo", "lumo", "gap", "zpve", "u0", "u", "h", "g")
ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}

# Column of each label in the CSV of qm9pack, in the order of LABELS.
_PACK_COLUMNS = (
    "Dipole_debye",
    "Polarizability_bohr3",
    "HOMO_au",
    "LUMO_au",
    "HOMO_LUMO_gap_au",
    "R2_bohr2",
    "ZPVE_au",
    "InternalEnergy_0K_au",
    "InternalEnergy_298K_au",
    "Enthalphy_298K_au",
    "GibbsFreeEnergy_298K_au",
    "Heatcapacity_Cv_cal_mol_K",
)
PACK_FILES = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")


def find_qm9pack() -> Path:
    """Data folder of the installed package ``qm9pack``, which is not imported.

    (Its import fails without setuptools, which newer Pythons do not bring.)

    Raises:
        DataError: the package is not installed.
    """
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("qm9pack", None, "package not installed; `make setup` installs it")
    return Path(spec.submodule_search_locations[0]) / "data"


def finish(raw: Molecules, ranges: Ranges, file: Path, expected_molecules: int | None) -> Molecules:
    """Convert raw Hartree labels to eV, check plausibility and the number of molecules."""
    labels = {
        name: convert(raw.labels[name], "Ha", "eV") if name in RAW_HARTREE else raw.labels[name]
        for name in LABELS
    }
    molecules = Molecules(
        ids=raw.ids, z=raw.z, pos=raw.pos, offsets=raw.offsets, labels=labels, forces=None
    )
    check(molecules, ranges, file, {name: "Ha" for name in RAW_HARTREE})
    _check_sums(molecules, file)
    if expected_molecules is not None and len(molecules) != expected_molecules:
        raise DataError(
            file, None, f"holds {len(molecules)} molecules, expected {expected_molecules}"
        )
    return molecules


# What labels of one molecule have to do with each other [eV]: the gap to the printed digits,
# H - U = RT at 298.15 K, and thermal terms between what a rigid and a floppy molecule can have.
_SUMS: tuple[tuple[str, dict[str, int], float, float], ...] = (
    ("gap - lumo + homo", {"gap": 1, "lumo": -1, "homo": 1}, -0.0045, 0.0045),
    ("h - u", {"h": 1, "u": -1}, 0.0255, 0.0259),
    ("u - u0", {"u": 1, "u0": -1}, 0.02, 1.0),
    ("h - g", {"h": 1, "g": -1}, 0.3, 4.0),
)


def _check_sums(molecules: Molecules, file: Path) -> None:
    """Refuse a molecule whose labels do not fit each other, as when one is in another unit."""
    for text, signs, low, high in _SUMS:
        total = np.zeros(len(molecules))
        for name, sign in signs.items():
            total += sign * molecules.labels[name]
        bad = np.flatnonzero((total < low) | (total > high))
        if len(bad):
            raise DataError(
                file,
                int(molecules.ids[bad[0]]),
                f"{text} = {total[bad[0]]:.6g} eV, expected {low:g} to {high:g} ({len(bad)} of "
                f"{len(molecules)} molecules here); one of them is wrong or in another unit",
            )


def read_qm9pack(
    folder: str | Path, *, ranges: Ranges, expected_molecules: int | None = None
) -> Molecules:
    """Read ``qm9_part{1,2,3}.csv`` of qm9pack 1.0.3.

    Args:
        folder: folder with the three files, e.g. ``find_qm9pack()``.
        ranges: plausible values in store units, from the dataset card.
        expected_molecules: refuse any other count.

    Raises:
        DataError: a file is missing, cut short or in other units; names file and gdb index.
    """
    folder = Path(folder)
    parts = [_read_pack_file(folder / name) for name in PACK_FILES]
    return finish(Molecules.concatenate(parts), ranges, folder, expected_molecules)


def _read_pack_file(file: Path) -> Molecules:
    import pandas as pd

    columns = ["Index", "N_atoms", "Elements", "XYZ_Ang", *_PACK_COLUMNS]
    dtypes = {"Index": np.int64, "N_atoms": np.int64, "Elements": object, "XYZ_Ang": object}
    dtypes |= dict.fromkeys(_PACK_COLUMNS, np.float64)
    try:
        table = pd.read_csv(file, usecols=columns, dtype=dtypes)
    except (OSError, ValueError) as error:
        reason = f"not a qm9pack 1.0.3 table with columns {columns} ({error})"
        record = first_not_number(file, "Index", ["N_atoms", *_PACK_COLUMNS])
        raise DataError(file, record, reason) from error
    ids, n_atoms = table["Index"].to_numpy(), table["N_atoms"].to_numpy()
    elements, texts = list(table["Elements"]), list(table["XYZ_Ang"])
    for row in (0, len(table) - 1) if len(table) else ():
        if not isinstance(elements[row], str) or not isinstance(texts[row], str):
            raise DataError(file, int(ids[row]), "record cut short, expected 16 columns")
    return Molecules(
        ids=ids,
        z=_parse_elements(elements, n_atoms, ids, file),
        pos=_parse_positions(texts, n_atoms, ids, file),
        offsets=np.concatenate([[0], np.cumsum(n_atoms)]).astype(np.int64),
        labels={
            name: table[column].to_numpy(dtype=np.float64)
            for name, column in zip(LABELS, _PACK_COLUMNS, strict=True)
        },
    )


def first_not_number(source: Any, id_column: str, columns: Sequence[str]) -> str | None:
    """Id of the first CSV row where a column holds no number; None if the table is unreadable."""
    import pandas as pd

    try:
        table = pd.read_csv(source, usecols=[id_column, *columns], dtype=str)
    except (OSError, ValueError):
        return None
    bad = table[list(columns)].apply(pd.to_numeric, errors="coerce").isna().any(axis=1)
    return str(table[id_column][bad.idxmax()]) if bad.any() else None


_NOT_ELEMENT = str.maketrans("", "", "[]', \"")
_NOT_NUMBER = str.maketrans("", "", '[] "')


def _parse_elements(
    texts: list[str], n_atoms: NDArray[np.int64], ids: NDArray[np.int64], file: Path
) -> NDArray[np.uint8]:
    """Atomic numbers, (N,), from texts such as ``['C','H','H','H','H']``."""
    letters = np.frombuffer("".join(texts).translate(_NOT_ELEMENT).encode(), dtype=np.uint8)
    table = np.zeros(256, dtype=np.uint8)
    for symbol, atomic_number in ELEMENTS.items():
        table[ord(symbol)] = atomic_number
    z = table[letters]
    if len(z) == n_atoms.sum() and z.all():
        return z
    for text, count, index in zip(texts, n_atoms, ids, strict=True):
        symbols = text.translate(str.maketrans("", "", "[]' \"")).split(",")
        unknown = [symbol for symbol in symbols if symbol not in ELEMENTS]
        if unknown:
            reason = f"unknown element {unknown[0]!r}, expected one of {' '.join(ELEMENTS)}"
            raise DataError(file, int(index), reason)
        if len(symbols) != count:
            raise DataError(file, int(index), f"{len(symbols)} elements, expected {count}")
    raise DataError(file, None, "element lists cannot be parsed")


def _parse_positions(
    texts: list[str], n_atoms: NDArray[np.int64], ids: NDArray[np.int64], file: Path
) -> NDArray[np.float32]:
    """Positions [Å], (N, 3), from texts such as ``[[0.,0.,1.],[…]]``; all at once, for speed."""
    commas = np.fromiter((text.count(",") for text in texts), dtype=np.int64, count=len(texts))
    bad = np.flatnonzero(commas + 1 != 3 * n_atoms)
    if len(bad):
        reason = f"{commas[bad[0]] + 1} coordinates, expected 3 x {n_atoms[bad[0]]}"
        raise DataError(file, int(ids[bad[0]]), reason)
    joined = ",".join(texts).translate(_NOT_NUMBER)
    if "*^" in joined or "D" in joined or "d" in joined:  # exponents of other programs
        joined = joined.replace("*^", "e").replace("D", "e").replace("d", "e")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # NumPy before 2.4 only warns
            flat = np.fromstring(joined, sep=",")
    except (ValueError, DeprecationWarning) as error:
        for text, index in zip(texts, ids, strict=True):
            for word in text.translate(_NOT_NUMBER).split(","):
                try:
                    number(word)
                except ValueError:
                    reason = f"coordinate {word!r} is not a number"
                    raise DataError(file, int(index), reason) from error
        raise DataError(file, None, f"coordinates cannot be parsed ({error})") from error
    return flat.reshape(-1, 3).astype(np.float32)
