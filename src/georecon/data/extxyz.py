"""Extended XYZ (3BPA, MD22): frames with an energy and, mostly, forces, read through ASE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from georecon.data.checks import Ranges, check
from georecon.data.md17 import raw_hints
from georecon.data.molecules import Molecules
from georecon.errors import DataError
from georecon.units import convert

_ENERGY_KEYS = ("energy", "Energy", "REF_energy", "E")
_FORCE_KEYS = ("forces", "force", "Forces", "REF_forces")


def read_extxyz(
    path: str | Path,
    *,
    ranges: Ranges,
    units: Mapping[str, str],
    raw_units: Mapping[str, str] | None = None,
) -> Molecules:
    """Read every frame; id = frame row, from 0.

    Args:
        path: extended XYZ file.
        ranges: plausible ``energy_per_atom``, ``force_rms``, ``nearest_neighbour`` in store units.
        units: units of ``energy``, ``forces`` and ``pos`` in the store.
        raw_units: units in the file where they differ from the store's.

    Returns:
        Frames with label ``energy``; forces where every frame has them, None where none has.

    Raises:
        DataError: unreadable or truncated file, a frame without energy, forces in some frames
            only, or implausible units; names the file and the frame.
    """
    file = Path(path)
    z, pos, energy, forces = [], [], [], []
    for row, frame in enumerate(_frames(file)):
        z.append(frame.numbers)
        pos.append(frame.positions)
        energy.append(_energy(frame, file, row))
        forces.append(_forces(frame))
        if (forces[row] is None) != (forces[0] is None):
            raise DataError(file, row, "forces in some frames only, expected in all or none")
    if not z:
        raise DataError(file, None, "holds no frames, expected at least one")
    raw = {**units, **(raw_units or {})}
    some = [one for one in forces if one is not None]
    molecules = Molecules.from_list(
        np.arange(len(z)),
        z,
        [convert(one, raw["pos"], units["pos"]) for one in pos],
        {"energy": convert(energy, raw["energy"], units["energy"])},
        [convert(one, raw["forces"], units["forces"]) for one in some] if some else None,
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


def _energy(frame: Any, file: Path, row: int) -> float:
    results = frame.calc.results if frame.calc is not None else {}
    for source in (results, frame.info):
        for key in _ENERGY_KEYS:
            if key in source:
                try:
                    return float(source[key])
                except (TypeError, ValueError) as error:
                    raise DataError(file, row, f"{key} is {source[key]!r}, no number") from error
    raise DataError(file, row, f"has no energy, expected one of {', '.join(_ENERGY_KEYS)}")


def _forces(frame: Any) -> Any:
    results = frame.calc.results if frame.calc is not None else {}
    for source in (results, frame.arrays):
        for key in _FORCE_KEYS:
            if key in source:
                return source[key]
    return None
