"""Extended XYZ (3BPA, MD22, a set of one's own): molecules with labels and forces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from georecon.data.checks import Ranges, check
from georecon.data.elements import SYMBOLS
from georecon.data.molecules import IsolatedAtom, Molecules, Rejected
from georecon.data.readers.extxyz_frames import Frame, read_frames
from georecon.data.readers.md17 import ENERGIES_ONLY, raw_hints
from georecon.data.readers.text import number
from georecon.errors import DataError
from georecon.units import convert

_KEYS = {
    "energy": ("energy", "Energy", "REF_energy", "E"),
    "forces": ("forces", "force", "Forces", "REF_forces"),
}
ISOLATED_ATOM = "isolated atom, no molecule; for the card's atomrefs"
"""Start of the reason for which a frame of a single atom is left out."""


@dataclass(slots=True)
class _Found:
    """What the frames of a file hold, in the file's units."""

    ids: list[int] = field(default_factory=list)
    z: list[list[int]] = field(default_factory=list)
    pos: list[NDArray[np.float64]] = field(default_factory=list)
    forces: list[NDArray[np.float64]] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    atoms: list[IsolatedAtom] = field(default_factory=list)


def read_extxyz(
    path: str | Path,
    *,
    ranges: Ranges,
    units: Mapping[str, str],
    raw_units: Mapping[str, str] | None = None,
    keys: Mapping[str, str] | None = None,
    labels: Sequence[str] = ("energy",),
    forces: bool = True,
    on_reject: Callable[[Rejected], None] | None = None,
) -> Molecules:
    """Read every frame; id = frame row, from 0.

    Frames with ``config_type=IsolatedAtom`` are no molecules: they are left out, and their energies
    told to ``on_reject`` in store units.

    Args:
        path: extended XYZ file.
        ranges: plausible ``energy_per_atom``, ``force_rms``, ``nearest_neighbour`` in store units.
        units: units of each label, of ``forces`` and of ``pos`` in the store.
        raw_units: units in the file where they differ from the store's.
        keys: names in the file of ``forces`` or a label, where they are not the customary ones.
        labels: labels to read; none for geometries alone.
        forces: whether to read forces.
        on_reject: called with each frame left out.

    Returns:
        Frames with the labels and, if asked for, forces.

    Raises:
        DataError: unreadable or truncated file, a periodic frame, a frame without a label or
            forces or with two that differ, not finite, or implausible units; names the file, the
            frame and the keys it has.
    """
    file = Path(path)
    names = {name: (keys[name],) if keys and name in keys else _KEYS.get(name, (name,))
             for name in (*labels, "forces")}  # fmt: skip
    raw = {**units, **(raw_units or {})}
    found = _Found(values={name: [] for name in labels})
    for row, frame in enumerate(read_frames(file)):
        try:
            _add(found, row, frame, names, forces, raw, units)
        except ValueError as error:
            raise DataError(file, row, str(error)) from error
    if not found.ids:
        some = f"holds {len(found.atoms)} isolated atoms only" if found.atoms else "holds no frames"
        raise DataError(file, None, f"{some}, expected at least one molecule")
    molecules = Molecules.from_list(
        found.ids,
        found.z,
        [convert(one, raw["pos"], units["pos"]) for one in found.pos],
        {name: convert(one, raw[name], units[name]) for name, one in found.values.items()},
        [convert(one, raw["forces"], units["forces"]) for one in found.forces] if forces else None,
    )
    for atom in found.atoms:
        if on_reject is not None:
            on_reject(atom)
    return check(molecules, ranges, file, raw_hints(raw))


def _add(
    found: _Found,
    row: int,
    frame: Frame,
    names: Mapping[str, Sequence[str]],
    forces: bool,
    raw: Mapping[str, str],
    units: Mapping[str, str],
) -> None:
    """Put one frame to the others.

    Raises:
        ValueError: it cannot be used; says why.
    """
    z, pos = frame.numbers(), frame.positions()
    if len(z) == 1 and _is_isolated(frame):
        labels = {name: _label(frame, name, names[name], needed=False) for name in found.values}
        known = {
            name: float(convert(value, raw[name], units[name]))
            for name, value in labels.items()
            if value is not None
        }
        found.atoms.append(_isolated_atom(row, SYMBOLS[z[0] - 1], known, units))
        return
    for name, values in found.values.items():
        value = _label(frame, name, names[name])
        assert value is not None
        values.append(value)
    if forces:
        found.forces.append(_forces(frame, names["forces"]))
    found.ids.append(row)
    found.z.append(z)
    found.pos.append(pos)


def _isolated_atom(
    row: int, symbol: str, labels: Mapping[str, float], units: Mapping[str, str]
) -> IsolatedAtom:
    """A frame that is left out; its reason has the energies as a card's atomrefs take them."""
    texts = [f"{name}: {{{symbol}: {value!r}}} {units[name]}" for name, value in labels.items()]
    reason = f"{ISOLATED_ATOM}: {', '.join(texts) or 'none'}"
    return IsolatedAtom(str(row), reason, symbol, labels)


def _is_isolated(frame: Frame) -> bool:
    kind = frame.get("config_type") or ""
    return kind.lower().replace("_", "").replace(" ", "").rstrip("s") in ("isolatedatom", "isoatom")


def _label(frame: Frame, label: str, names: Sequence[str], needed: bool = True) -> float | None:
    """A label of the comment line; None if it is not there and not needed."""
    values = {}
    for name in names:
        if name in frame.info:
            try:
                values[name] = number(frame.info[name])
            except ValueError:
                raise ValueError(f"{name} is {frame.info[name]!r:.60}, no number") from None
    if not values and needed:
        raise ValueError(f"has no {_absent(names, frame)}")
    if len(set(values.values())) > 1:
        words = " and ".join(f"{name} = {value!r}" for name, value in values.items())
        raise ValueError(f"has {words}, which differ; say which in `keys: {{{label}: …}}`")
    return next(iter(values.values()), None)


def _forces(frame: Frame, names: Sequence[str]) -> NDArray[np.float64]:
    there = [name for name in names if name in frame.columns]
    if not there:
        raise ValueError(f"has no {_absent(names, frame)}; {ENERGIES_ONLY}")
    first = frame.vectors(there[0])
    for other in there[1:]:
        if not np.array_equal(frame.vectors(other), first, equal_nan=True):
            reason = f"has {there[0]} and {other}, which differ; say which in `keys: {{forces: …}}`"
            raise ValueError(reason)
    return first


def _absent(names: Sequence[str], frame: Frame) -> str:
    return (
        f"{names[0]}, expected one of {', '.join(names)} or a name given in `keys:`; "
        f"it has: {', '.join(sorted({**frame.info, **frame.columns}))}"
    )
