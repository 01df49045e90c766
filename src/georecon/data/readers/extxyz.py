"""Extended XYZ (3BPA, MD22, a set of one's own): frames with labels and forces, through ASE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georecon.data.checks import Ranges, check
from georecon.data.molecules import Molecules
from georecon.data.readers.md17 import raw_hints
from georecon.errors import DataError
from georecon.units import convert

_KEYS = {
    "energy": ("energy", "Energy", "REF_energy", "E"),
    "forces": ("forces", "force", "Forces", "REF_forces"),
}


def read_extxyz(
    path: str | Path,
    *,
    ranges: Ranges,
    units: Mapping[str, str],
    raw_units: Mapping[str, str] | None = None,
    keys: Mapping[str, str] | None = None,
    labels: Sequence[str] = ("energy",),
    forces: bool = True,
) -> Molecules:
    """Read every frame; id = frame row, from 0.

    Args:
        path: extended XYZ file.
        ranges: plausible ``energy_per_atom``, ``force_rms``, ``nearest_neighbour`` in store units.
        units: units of each label, of ``forces`` and of ``pos`` in the store.
        raw_units: units in the file where they differ from the store's.
        keys: names in the file of ``forces`` or a label, where they are not the customary ones.
        labels: labels to read; none for geometries alone.
        forces: whether to read forces.

    Returns:
        Frames with the labels and, if asked for, forces.

    Raises:
        DataError: unreadable or truncated file, a frame without a label or forces, not finite, or
            implausible units; names the file, the frame and the keys it has.
    """
    file = Path(path)
    names = {name: (keys[name],) if keys and name in keys else _KEYS.get(name, (name,))
             for name in (*labels, "forces")}  # fmt: skip
    z, pos, force = [], [], []
    values: dict[str, list[float]] = {name: [] for name in labels}
    for row, frame in enumerate(_frames(file)):
        z.append(frame.numbers)
        pos.append(frame.positions)
        for name in labels:
            values[name].append(_number(frame, names[name], file, row))
        if forces:
            force.append(_forces(frame, names["forces"], file, row))
    if not z:
        raise DataError(file, None, "holds no frames, expected at least one")
    raw = {**units, **(raw_units or {})}
    molecules = Molecules.from_list(
        np.arange(len(z)),
        z,
        [convert(one, raw["pos"], units["pos"]) for one in pos],
        {name: convert(one, raw[name], units[name]) for name, one in values.items()},
        [convert(one, raw["forces"], units["forces"]) for one in force] if forces else None,
    )
    return check(molecules, ranges, file, raw_hints(raw))


def _frames(file: Path) -> Iterator[Any]:
    from ase.io import iread

    frames = iread(str(file), index=":", format="extxyz")
    row = 0
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            return
        except (OSError, ValueError, KeyError, IndexError, AssertionError) as error:
            reason = f"not a whole extended XYZ frame: {type(error).__name__}: {error}"
            raise DataError(file, row, reason) from error
        yield frame
        row += 1


def _number(frame: Any, names: Sequence[str], file: Path, row: int) -> float:
    """A label of the comment line, under the first of ``names`` that the frame has."""
    results = frame.calc.results if frame.calc is not None else {}
    for source in (results, frame.info):
        for key in names:
            if key in source:
                try:
                    return float(source[key])
                except (TypeError, ValueError) as error:
                    raise DataError(file, row, f"{key} is {source[key]!r}, no number") from error
    raise DataError(file, row, f"has no {_absent(names, {**results, **frame.info})}")


def _forces(frame: Any, names: Sequence[str], file: Path, row: int) -> NDArray[np.float64]:
    results = frame.calc.results if frame.calc is not None else {}
    for source in (results, frame.arrays):
        for key in names:
            if key in source:
                values = np.asarray(source[key])
                if values.shape != (len(frame), 3) or values.dtype.kind not in "fi":
                    reason = f"{key} has shape {values.shape}, expected 3 numbers for each atom"
                    raise DataError(file, row, reason)
                return values.astype(np.float64)
    raise DataError(file, row, f"has no {_absent(names, {**results, **frame.arrays})}")


def _absent(names: Sequence[str], found: Mapping[str, Any]) -> str:
    return (
        f"{names[0]}, expected one of {', '.join(names)} or a name given in `keys:`; "
        f"it has: {', '.join(sorted(found))}"
    )
