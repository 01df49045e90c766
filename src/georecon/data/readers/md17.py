"""MD17, rMD17 and MD22 archives (``.npz``): frames of one molecule with energies and forces.

Two key sets are known: R, E, F, z (MD17, MD22, sGDML and this project's xmd17) and coords,
energies, forces, nuclear_charges (rMD17). Id = row in the full trajectory where the file says so
(``original_index``, ``old_indices``), else row in the file.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from georecon.data.checks import Ranges, check
from georecon.data.elements import atomic_number
from georecon.data.molecules import MAX_Z, Molecules
from georecon.errors import ConfigError, DataError
from georecon.units import convert, unit_name

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
_CELLS = ("lattice", "cell", "unit_cell", "box")
_UNIT_OF = {"r_unit": "pos", "e_unit": "energy"}
"""Arrays in which sGDML's files may name their units."""
LEVELS = (
    *("GFN2-xTB", "PBE+vdW-TS", "PBE/def2-SVP", "PBE+MBD", "wB97X/6-31G(d)"),
    *("CCSD(T)", "Psi4: CCSD(T), cc-pVTZ"),
)
"""Levels of theory whose names are known: a file of one is refused as a file of another."""
_RELABELLED = ("old_energies", "PBE/def2-SVP")
"""An array that rMD17's files alone have, and their level of theory."""
FORCE_UNITS = {"energy": "kcal/mol", "forces": "kcal/mol/Å", "pos": "Å"}


Arrays = dict[str, NDArray[Any]]
ENERGIES_ONLY = "a test file with energies only says so in the card: `no_forces: <why>`"


@contextmanager
def _opened(file: str | Path) -> Iterator[np.lib.npyio.NpzFile]:
    """An ``.npz`` archive, whatever its name; what goes wrong with it names the file."""
    try:
        with open(file, "rb") as handle:
            archive = np.load(handle, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array, expected an .npz archive")
            yield archive
    except (OSError, EOFError, ValueError, AttributeError) as error:
        raise DataError(file, None, f"not a usable .npz archive ({error})") from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(file, None, f"damaged or truncated .npz archive ({error})") from error


class Origin(NamedTuple):
    """Level of theory of a set, and temperature of a file's dynamics [K]; empty where unknown."""

    theory: str = ""
    kelvin: float | None = None


def npz_names(file: str | Path) -> list[str]:
    """Names of the arrays in an ``.npz`` archive; none of them is read.

    Raises:
        DataError: missing or not an archive.
    """
    with _opened(file) as archive:
        return list(archive.files)


def load_npz(file: str | Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz`` archive, all or some; anything pickled is refused, unread.

    Raises:
        DataError: missing, truncated, not an archive, or holding Python objects; names the array.
    """
    found = {}
    with _opened(file) as archive:
        for name in archive.files if names is None else names:
            try:
                found[name] = archive[name]
            except (OSError, EOFError, ValueError) as error:
                objects = "Object arrays" in str(error)
                advice = "holds Python objects, which are not loaded; save it as plain numbers"
                raise ValueError(f"array {name} {advice if objects else error}") from error
    return found


def read_md17(
    path: str | Path,
    *,
    ranges: Ranges,
    units: Mapping[str, str] = FORCE_UNITS,
    raw_units: Mapping[str, str] | None = None,
    keys: Mapping[str, str] | None = None,
    labels: Sequence[str] = ("energy",),
    forces: bool = True,
    origin: Origin | None = None,
) -> Molecules:
    """Read every frame of an MD17-like archive.

    Args:
        path: the ``.npz`` file.
        ranges: plausible ``energy_per_atom``, ``force_rms`` and ``nearest_neighbour`` in store
            units, from the dataset card.
        units: units of each label, of ``forces`` and of ``pos`` in the store.
        raw_units: units in the file where they differ from the store's.
        keys: names in the file of ``pos``, ``z``, ``forces``, ``index`` or a label, where they
            are not those of the two known layouts. Arrays that are not asked for are not read.
        labels: labels to read; none for geometries alone.
        forces: whether to read forces.
        origin: what the card says of it; a file that says otherwise is refused.

    Returns:
        Frames with the labels and, if asked for, forces; all share the same atoms.

    Raises:
        DataError: unusable file, a key is absent, wrong shapes, not finite, or implausible units;
            names the file and the frame's id.
    """
    file = Path(path)
    raw = {**units, **(raw_units or {})}
    names = npz_names(file)
    layout = _layout(names, keys, labels, forces, file)
    wanted = ["pos", "z", *labels, *(["forces"] if forces else []), "index"]
    data = load_npz(file, [layout[name] for name in wanted if layout[name] in names])
    data[layout["z"]] = _elements(data[layout["z"]], layout["z"], file)
    _check_arrays(data, layout, labels, forces, file)
    _refuse_periodic(file, names)
    _check_units(file, names, raw)
    _check_origin(file, names, origin or Origin(), keys)
    z, pos = data[layout["z"]], data[layout["pos"]]
    frames, atoms = len(pos), z.size
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
    names: Sequence[str],
    keys: Mapping[str, str] | None,
    labels: Sequence[str],
    forces: bool,
    file: Path,
) -> dict[str, str]:
    """Name in the file of everything that is to be read, and of ``index``."""
    known = next((one for one in _LAYOUTS if one["pos"] in names), _LAYOUTS[0])
    layout = {**known, **{name: name for name in labels if name not in known}, **(keys or {})}
    wanted = ["pos", "z", *labels, *(["forces"] if forces else [])]
    missing = [layout[name] for name in wanted if layout[name] not in names]
    if missing:
        energies = missing == [layout["forces"]] and forces
        raise DataError(
            file, None, f"has no {', '.join(missing)}; it has: {', '.join(sorted(names))}. "
            "Expected " + " or ".join(", ".join(one.values()) for one in _LAYOUTS)
            + ", or names given in `keys:`" + (f"; {ENERGIES_ONLY}" if energies else ""),
        )  # fmt: skip
    return layout


def _elements(z: NDArray[Any], name: str, file: Path) -> NDArray[np.int64]:
    """Atomic numbers from whole numbers of any type, or from symbols."""
    reason = f"unknown element in {name} = {z}, expected Z 1..100"
    try:
        if z.dtype.kind in "US":
            words = [
                str(one, "ascii") if z.dtype.kind == "S" else str(one) for one in z.reshape(-1)
            ]
            return np.array([atomic_number(word) for word in words], np.int64).reshape(z.shape)
        if z.dtype.kind not in "iuf":
            raise ValueError(f"{name} holds {z.dtype}, expected whole numbers or symbols")
        if not np.isfinite(z).all() or (z != np.floor(z)).any():
            raise ValueError(f"{name} = {z} holds no whole numbers, expected Z 1..100")
        if z.size and (z.min() < 1 or z.max() > MAX_Z):
            raise ValueError(reason)
    except ValueError as error:
        raise DataError(
            file, 0, f"{name}: {error}" if name not in str(error) else str(error)
        ) from error
    return z.astype(np.int64)


def _check_arrays(
    data: Mapping[str, NDArray[Any]],
    layout: Mapping[str, str],
    labels: Sequence[str],
    forces: bool,
    file: Path,
) -> None:
    for name, array in data.items():
        if array.dtype.kind not in "iuf":
            raise DataError(file, None, f"array {name} holds {array.dtype}, expected numbers")
    z, pos = data[layout["z"]], data[layout["pos"]]
    frames, atoms = len(pos) if pos.ndim else 0, z.size
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


def _refuse_periodic(file: Path, names: Sequence[str]) -> None:
    """Positions in a box may be wrapped through its walls: they are no molecule's."""
    advice = "a periodic set, not molecules; unwrap it and remove this array"
    flags = _some(file, names, ("pbc",))
    for name, array in flags.items():
        if np.any(array.astype(np.bool_)):
            raise DataError(file, None, f"{name} = {array.reshape(-1)[:3]}: {advice}")
    for name, array in _some(file, names, () if flags else _CELLS).items():
        if np.any(array != 0):
            raise DataError(file, None, f"array {name} is a box: {advice}")


def _check_units(file: Path, names: Sequence[str], raw: Mapping[str, str]) -> None:
    """Refuse a file that names another unit than the card does."""
    for name, quantity in _UNIT_OF.items():
        if name not in names or quantity not in raw:
            continue
        try:
            value = load_npz(file, [name])[name].reshape(-1)[0]
            said = unit_name(value.decode() if isinstance(value, bytes) else str(value))
        except (DataError, ConfigError, IndexError, UnicodeDecodeError):
            continue  # no unit that is known here
        if said != raw[quantity]:
            reason = f"{name} says {said}, the card {raw[quantity]}: sources.…raw_units.{quantity}"
            raise DataError(file, None, reason)


def _check_origin(
    file: Path,
    names: Sequence[str],
    origin: Origin,
    keys: Mapping[str, str] | None,
) -> None:
    """Refuse a file that names another level of theory or temperature than the card does."""
    theory, kelvin = origin
    said = _RELABELLED[1] if _RELABELLED[0] in names and not keys else ""
    if "theory" in names:
        with suppress(DataError, IndexError, UnicodeDecodeError):
            value = load_npz(file, ["theory"])["theory"].reshape(-1)[0]
            said = value.decode() if isinstance(value, bytes) else str(value)
    if theory and said in LEVELS and said != theory:
        reason = f"its level of theory is {said}, the card's {theory}: never mix the two"
        raise DataError(file, None, reason)
    if theory == _RELABELLED[1] and said not in LEVELS and not keys:
        reason = (
            f"names no level of theory and has no {_RELABELLED[0]}, as rMD17's files do; the "
            f"card's level is {theory}: is it MD17's? never mix the two"
        )
        raise DataError(file, None, reason)
    stated = _some(file, names, ("temperature_k",))
    for name, array in stated.items():
        if kelvin is not None and array.size and not np.allclose(array, kelvin):
            reason = f"{name} is {array.reshape(-1)[0]:g} K, the card's {kelvin:g} K"
            raise DataError(file, None, f"{reason}: is it the file of another temperature?")


def _some(file: Path, names: Sequence[str], wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Arrays of numbers under some names, in any case; others are passed over."""
    found = {}
    for name in names:
        if name.lower() in wanted:
            with suppress(DataError):  # Python objects, as of None: not loaded
                array = load_npz(file, [name])[name]
                if array.dtype.kind in "biuf":
                    found[name] = array
    return found


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
