"""MD17, rMD17 and MD22 archives (``.npz``): frames of one molecule with energies and forces.

Two key sets are known: R, E, F, z (MD17, MD22, sGDML and this project's xmd17) and coords,
energies, forces, nuclear_charges (rMD17). Id = row in the full trajectory where the file says so
(``original_index``, ``old_indices``), else row in the file.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georecon.data.checks import Ranges, check
from georecon.data.molecules import Molecules
from georecon.errors import DataError
from georecon.units import convert

_LAYOUTS: tuple[dict[str, str], ...] = (
    {"pos": "R", "energy": "E", "forces": "F", "z": "z", "index": "original_index"},
    {
        "pos": "coords",
        "energy": "energies",
        "forces": "forces",
        "z": "nuclear_charges",
        "index": "old_indices",
    },
)
FORCE_UNITS = {"energy": "kcal/mol", "forces": "kcal/mol/Å", "pos": "Å"}


def load_npz(file: str | Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` archive; anything pickled is refused.

    Raises:
        DataError: missing, truncated, not an archive, or holding Python objects.
    """
    try:
        with open(file, "rb") as handle:
            archive = np.load(handle, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array, expected an .npz archive")
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, AttributeError) as error:
        raise DataError(file, None, f"not a usable .npz archive ({error})") from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(file, None, f"damaged or truncated .npz archive ({error})") from error


def read_md17(
    path: str | Path,
    *,
    ranges: Ranges,
    units: Mapping[str, str] = FORCE_UNITS,
    raw_units: Mapping[str, str] | None = None,
    keys: Mapping[str, str] | None = None,
    labels: Sequence[str] = ("energy",),
    forces: bool = True,
) -> Molecules:
    """Read every frame of an MD17-like archive.

    Args:
        path: the ``.npz`` file.
        ranges: plausible ``energy_per_atom``, ``force_rms`` and ``nearest_neighbour`` in store
            units, from the dataset card.
        units: units of each label, of ``forces`` and of ``pos`` in the store.
        raw_units: units in the file where they differ from the store's.
        keys: names in the file of ``pos``, ``z``, ``forces``, ``index`` or a label, where they
            are not those of the two known layouts.
        labels: labels to read; none for geometries alone.
        forces: whether to read forces.

    Returns:
        Frames with the labels and, if asked for, forces; all share the same atoms.

    Raises:
        DataError: unusable file, a key is absent, wrong shapes, not finite, or implausible units;
            names the file and the frame's id.
    """
    file = Path(path)
    data = load_npz(file)
    layout = _layout(data, keys, labels, forces, file)
    _check_arrays(data, layout, labels, forces, file)
    z, pos = data[layout["z"]], data[layout["pos"]]
    frames, atoms = len(pos), z.size
    raw = {**units, **(raw_units or {})}
    values = {name: data[layout[name]].reshape(-1) for name in labels}
    molecules = Molecules(
        ids=_frame_ids(data.get(layout["index"]), frames, file),
        z=np.tile(z.reshape(-1).astype(np.uint8), frames),
        pos=convert(pos.reshape(-1, 3), raw["pos"], units["pos"]).astype(np.float32),
        offsets=np.arange(frames + 1, dtype=np.int64) * atoms,
        labels={name: convert(one, raw[name], units[name]) for name, one in values.items()},
        forces=convert(data[layout["forces"]].reshape(-1, 3), raw["forces"], units["forces"])
        if forces
        else None,
    )
    return check(molecules, ranges, file, raw_hints(raw))


def _layout(
    data: Mapping[str, NDArray[Any]],
    keys: Mapping[str, str] | None,
    labels: Sequence[str],
    forces: bool,
    file: Path,
) -> dict[str, str]:
    """Name in the file of everything that is to be read, and of ``index``."""
    known = next((one for one in _LAYOUTS if one["pos"] in data), _LAYOUTS[0])
    layout = {**known, **{name: name for name in labels if name not in known}, **(keys or {})}
    wanted = ["pos", "z", *labels, *(["forces"] if forces else [])]
    missing = [layout[name] for name in wanted if layout[name] not in data]
    if missing:
        raise DataError(
            file, None, f"has no {', '.join(missing)}; it has: {', '.join(sorted(data))}. "
            "Expected " + " or ".join(", ".join(one.values()) for one in _LAYOUTS)
            + ", or names given in `keys:`",
        )  # fmt: skip
    return layout


def _check_arrays(
    data: Mapping[str, NDArray[Any]],
    layout: Mapping[str, str],
    labels: Sequence[str],
    forces: bool,
    file: Path,
) -> None:
    z, pos = data[layout["z"]], data[layout["pos"]]
    frames, atoms = len(pos), z.size
    wrong = [pos.shape != (frames, atoms, 3), forces and data[layout["forces"]].shape != pos.shape]
    wrong += [data[layout[name]].size != frames for name in labels]
    if any(wrong):
        names = ["pos", *(["forces"] if forces else []), *labels]
        shapes = ", ".join(f"{layout[name]} {data[layout[name]].shape}" for name in names)
        raise DataError(
            file,
            None,
            f"shapes {shapes} do not fit {atoms} atoms; expected (n, N, 3) for positions and "
            "forces and n values of each label",
        )
    if not frames or not atoms:
        raise DataError(file, None, "holds no frames, expected at least one")
    if not (np.issubdtype(z.dtype, np.integer) and z.min() >= 1 and z.max() <= 100):
        raise DataError(file, 0, f"unknown element in {layout['z']} = {z}, expected Z 1..100")


def raw_hints(raw: Mapping[str, str]) -> dict[str, str]:
    """Raw unit of each quantity that a card's ranges name, for error messages."""
    names = {
        "energy_per_atom": "energy",
        "force_rms": "forces",
        "nearest_neighbour": "pos",
        "bond_ratio": "pos",
    }
    return {**raw, **{name: raw[unit] for name, unit in names.items() if unit in raw}}


def _frame_ids(index: NDArray[Any] | None, frames: int, file: Path) -> NDArray[np.int64]:
    if index is None:
        return np.arange(frames, dtype=np.int64)
    ids = index.reshape(-1).astype(np.int64)
    if len(ids) != frames or len(np.unique(ids)) != frames:
        raise DataError(file, None, f"frame index has {len(np.unique(ids))} of {frames} values")
    return ids
