"""Molecules from what people have: ASE, PyTorch Geometric, SMILES, and files of any layout.

One bad molecule does not stop the others: it is a :class:`Refusal`, and the rest goes on.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georecon.data.molecules import Molecules, Rejected
from georecon.data.pyg import from_pyg
from georecon.data.readers.extxyz_frames import read_frames
from georecon.data.readers.md17 import load_npz
from georecon.data.readers.sdf import iter_sdf
from georecon.errors import DataError

if TYPE_CHECKING:
    import ase
    from torch_geometric.data import Data

CONFORMER_SEED = 1
SHORTEST = 0.3  # Å; hydrogen's bond, the shortest there is, has 0.74
MOST_HEAVY_ATOMS = 150  # of a SMILES: RDKit's time grows with the cube, to hours for a thousand
SMILES_COLUMN = "smiles"
Progress = Callable[[str], object]
"""Takes a few words on how far it is; called often."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A molecule that cannot be used: its row in the input, from 0, and why."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """Molecules that can be used, ids their rows in the input, and those that cannot."""

    molecules: Molecules
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class _One:
    """A molecule as it was given: atomic numbers (n,) and positions [Å] (n, 3)."""

    z: NDArray[np.int64]
    pos: NDArray[np.float64]


_Parsed = tuple[int, "_One | str"]
"""Row, and the molecule or why there is none."""


def read_inputs(
    items: Any, *, max_z: int, seed: int = CONFORMER_SEED, progress: Progress | None = None
) -> Inputs:
    """Molecules of any kind of input.

    Args:
        items: a path (``.xyz``, ``.extxyz``, ``.sdf``, ``.npz``, also compressed; ``.csv`` with a
            column ``smiles``, or ``.smi``), ``ase.Atoms``, ``torch_geometric`` ``Data`` or
            ``Batch``, a SMILES, a list of those, or ``Molecules``.
        max_z: atomic numbers that the model has are below.
        seed: of the conformer that RDKit makes of a SMILES.
        progress: is told how many molecules were read, after each.

    Raises:
        DataError: a file that cannot be read at all.
        TypeError: none of these.
    """
    good: list[tuple[int, _One]] = []
    refused: list[Refusal] = []
    for row, found in _parsed(items, seed):
        reason = found if isinstance(found, str) else _fault(found, max_z)
        if reason is None and isinstance(found, _One):
            good.append((row, found))
        else:
            refused.append(Refusal(row, str(reason)))
        if progress is not None:
            progress(f"{len(good) + len(refused)} molecules read")
    rows = [row for row, _ in good]
    z, pos = [one.z for _, one in good], [one.pos for _, one in good]
    return Inputs(Molecules.from_list(rows, z, pos), tuple(refused))


def _fault(one: _One, max_z: int) -> str | None:
    """Why a molecule cannot be used."""
    if not len(one.z):
        return "has no atoms"
    if one.pos.shape != (len(one.z), 3):
        return f"positions have shape {one.pos.shape}, expected ({len(one.z)}, 3)"
    if len(odd := one.z[(one.z < 1) | (one.z >= max_z)]):
        return f"unknown element: Z = {odd[0]}, the model has 1 to {max_z - 1}"
    if not np.isfinite(one.pos).all():
        return "positions contain NaN or infinity, expected finite numbers"
    return _overlap(one.pos)


def _overlap(pos: NDArray[np.float64]) -> str | None:
    """Two atoms in one place, looked for along x: only those as near as that in x can be."""
    order = np.argsort(pos[:, 0], kind="stable")
    sorted_ = pos[order]
    for ahead in range(1, len(pos)):
        apart = sorted_[ahead:] - sorted_[:-ahead]
        if not (apart[:, 0] < SHORTEST).any():
            return None
        distance = np.linalg.norm(apart, axis=1)
        if (distance < SHORTEST).any():
            place = int(np.argmin(distance))
            first, second = sorted((int(order[place]), int(order[place + ahead])))
            return (
                f"atoms {first} and {second} lie {distance[place]:.3f} Å apart, expected "
                f"{SHORTEST} or more"
            )
    return None


def _parsed(items: Any, seed: int) -> Iterator[_Parsed]:
    if isinstance(items, Molecules):
        for row, (start, end) in enumerate(zip(items.offsets, items.offsets[1:], strict=False)):
            yield row, _One(items.z[start:end].astype(np.int64), items.pos[start:end].astype(float))
    elif isinstance(items, Path) or (isinstance(items, str) and Path(items).suffix in _FILES):
        yield from _of_file(Path(items), seed)
    elif isinstance(items, str) or not isinstance(items, Sequence | Iterator):
        # a batch of PyTorch Geometric takes itself apart
        whole = items.to_data_list() if hasattr(items, "to_data_list") else [items]
        yield from _of_list(whole, seed)
    else:
        yield from _of_list(items, seed)


def _of_list(items: Iterable[Any], seed: int) -> Iterator[_Parsed]:
    for row, item in enumerate(items):
        try:
            yield row, _of_one(item, seed)
        except DataError as error:
            yield row, error.reason  # its record counts from the item


def _of_one(item: Any, seed: int) -> _One | str:
    if isinstance(item, str):
        return of_smiles(item, seed)
    if hasattr(item, "get_atomic_numbers"):
        return _of_ase(item)
    if hasattr(item, "to_data_list"):
        return "is a batch; in a list give its molecules, batch.to_data_list()"
    if hasattr(item, "edge_index"):  # that of a Data is there, None or not
        return _of_pyg(item)
    raise TypeError(
        f"a molecule is given as {type(item).__name__}; allowed: ase.Atoms, torch_geometric Data, "
        "a SMILES, a path"
    )


def _of_ase(atoms: ase.Atoms) -> _One | str:
    if atoms.pbc.any():
        return "is periodic (pbc); the model takes single molecules"
    return _One(np.asarray(atoms.get_atomic_numbers(), np.int64), np.asarray(atoms.positions))


def _of_pyg(data: Data) -> _One | str:
    missing = [name for name in ("z", "pos") if getattr(data, name, None) is None]
    if missing:
        return f"Data without {' and '.join(missing)}"
    molecules = from_pyg([data])
    return _One(molecules.z.astype(np.int64), molecules.pos.astype(float))


def of_smiles(smiles: str, seed: int) -> _One | str:
    """RDKit's conformer of a SMILES with all hydrogens: ETKDG, then MMFF where it has parameters.

    Returns:
        The molecule, or why there is none.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    from rdkit.rdBase import BlockLogs

    quiet = BlockLogs()  # its reasons come in our sentence
    parsed = Chem.MolFromSmiles(smiles) if smiles.strip() else None
    if parsed is None or not parsed.GetNumAtoms():
        return f"{smiles[:60]!r} is no SMILES that RDKit reads"
    if (heavy := parsed.GetNumHeavyAtoms()) > MOST_HEAVY_ATOMS:
        return (
            f"{smiles[:60]!r} has {heavy} heavy atoms, a conformer is made for "
            f"{MOST_HEAVY_ATOMS} at most; give its geometry"
        )
    molecule = Chem.AddHs(parsed)
    if rdDistGeom.EmbedMolecule(molecule, randomSeed=seed) != 0:
        return f"{smiles[:60]!r}: RDKit finds no conformer"
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=1000)
    del quiet
    z = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], np.int64)
    return _One(z, np.asarray(molecule.GetConformer().GetPositions(), float))


# ---- files --------------------------------------------------------------------------------------


def _of_file(path: Path, seed: int) -> Iterator[_Parsed]:
    name = path.name.lower()
    for ending, reader in _READERS.items():
        if ending in name:
            yield from reader(path, seed)
            return
    raise DataError(path, None, f"no layout for this name; allowed: {', '.join(_READERS)}")


def _of_frames(path: Path, seed: int) -> Iterator[_Parsed]:
    for row, frame in enumerate(read_frames(path)):
        try:
            yield row, _One(np.asarray(frame.numbers(), np.int64), frame.positions())
        except ValueError as error:
            yield row, str(error)


def _of_sdf(path: Path, seed: int) -> Iterator[_Parsed]:
    rejected: list[Rejected] = []
    found: list[_Parsed] = []
    for chunk in iter_sdf(path, on_reject=rejected.append):
        rows = chunk.ids.tolist()
        found += [(rows[place], one) for place, one in _parsed(chunk, seed)]
    found += [(int(record.record), record.reason) for record in rejected]
    yield from sorted(found, key=lambda pair: pair[0])


def _of_npz(path: Path, seed: int) -> Iterator[_Parsed]:
    """MD17's layout, and rMD17's: one molecule's elements, positions of all frames."""
    arrays = load_npz(path)
    names = ("z", "R") if "R" in arrays else ("nuclear_charges", "coords")
    missing = [name for name in names if name not in arrays]
    if missing:
        there = ", ".join(sorted(arrays))
        raise DataError(path, None, f"has no array {missing[0]}; it has: {there}")
    z, frames = (np.asarray(arrays[name]) for name in names)
    for row, frame in enumerate(frames):
        yield row, _One(z.astype(np.int64), np.asarray(frame, float))


def _of_csv(path: Path, seed: int) -> Iterator[_Parsed]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, None, f"cannot be read ({error})") from error
    names = {name.strip().lower(): name for name in (rows[0] if rows else {}) if name}
    if SMILES_COLUMN not in names:
        there = ", ".join(names.values()) or "nothing"
        raise DataError(path, None, f"has no column {SMILES_COLUMN}; it has: {there}")
    yield from _of_list((row[names[SMILES_COLUMN]] or "" for row in rows), seed)


def _of_smi(path: Path, seed: int) -> Iterator[_Parsed]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, None, f"cannot be read ({error})") from error
    yield from _of_list(((line.split() or [""])[0] for line in lines), seed)


_READERS: dict[str, Callable[[Path, int], Iterator[_Parsed]]] = {
    ".sdf": _of_sdf,
    ".xyz": _of_frames,
    ".extxyz": _of_frames,
    ".npz": _of_npz,
    ".csv": _of_csv,
    ".smi": _of_smi,
}
_FILES = (*_READERS, ".gz", ".bz2", ".zip")
