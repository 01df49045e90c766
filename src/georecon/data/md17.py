"""MD17, rMD17 and MD22 archives (``.npz``): frames of one molecule with energies and forces.

Two key sets are known: R, E, F, z (MD17, MD22, sGDML and this project's xmd17) and coords,
energies, forces, nuclear_charges (rMD17). Id = row in the full trajectory where the file says so
(``original_index``, ``old_indices``), else row in the file.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
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
) -> Molecules:
    """Read every frame of an MD17-like archive.

    Args:
        path: the ``.npz`` file.
        ranges: plausible ``energy_per_atom``, ``force_rms`` and ``nearest_neighbour`` in store
            units, from the dataset card.
        units: units of ``energy``, ``forces`` and ``pos`` in the store.
        raw_units: units in the file where they differ from the store's.

    Returns:
        Frames with label ``energy`` and forces; all share the same atoms.

    Raises:
        DataError: unusable file, wrong shapes, not finite, or implausible units; names the file
            and the frame's id.
    """
    file = Path(path)
    data = load_npz(file)
    layout = next((one for one in _LAYOUTS if one["pos"] in data), None)
    if layout is None:
        wanted = " or ".join(", ".join(one.values()) for one in _LAYOUTS)
        raise DataError(file, None, f"has keys {sorted(data)}, expected {wanted}")
    missing = [layout[k] for k in ("energy", "forces", "z") if layout[k] not in data]
    if missing:
        raise DataError(file, None, f"has no {', '.join(missing)}, expected {layout}")
    z, pos, energy, forces = (data[layout[k]] for k in ("z", "pos", "energy", "forces"))
    frames, atoms = len(pos), z.size
    if pos.shape != (frames, atoms, 3) or forces.shape != pos.shape or energy.size != frames:
        raise DataError(
            file,
            None,
            f"shapes {layout['pos']} {pos.shape}, {layout['forces']} {forces.shape}, "
            f"{layout['energy']} {energy.shape} do not fit {atoms} atoms; expected (n, N, 3) twice "
            "and n energies",
        )
    if not frames or not atoms:
        raise DataError(file, None, "holds no frames, expected at least one")
    if not (np.issubdtype(z.dtype, np.integer) and z.min() >= 1 and z.max() <= 100):
        raise DataError(file, 0, f"unknown element in {layout['z']} = {z}, expected Z 1..100")
    raw = {**units, **(raw_units or {})}
    molecules = Molecules(
        ids=_frame_ids(data.get(layout["index"]), frames, file),
        z=np.tile(z.reshape(-1).astype(np.uint8), frames),
        pos=convert(pos.reshape(-1, 3), raw["pos"], units["pos"]).astype(np.float32),
        offsets=np.arange(frames + 1, dtype=np.int64) * atoms,
        labels={"energy": convert(energy.reshape(-1), raw["energy"], units["energy"])},
        forces=convert(forces.reshape(-1, 3), raw["forces"], units["forces"]),
    )
    return check(molecules, ranges, file, raw_hints(raw))


def raw_hints(raw: Mapping[str, str]) -> dict[str, str]:
    """Raw unit of each quantity that a card's ranges name, for error messages."""
    return {
        "energy_per_atom": raw["energy"],
        "force_rms": raw["forces"],
        "nearest_neighbour": raw["pos"],
    }


def _frame_ids(index: NDArray[Any] | None, frames: int, file: Path) -> NDArray[np.int64]:
    if index is None:
        return np.arange(frames, dtype=np.int64)
    ids = index.reshape(-1).astype(np.int64)
    if len(ids) != frames or len(np.unique(ids)) != frames:
        raise DataError(file, None, f"frame index has {len(np.unique(ids))} of {frames} values")
    return ids
