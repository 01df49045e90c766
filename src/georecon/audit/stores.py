"""Stores made again from raw files, and the labels of computed sets computed again."""

from __future__ import annotations

import copy
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from georecon import paths, units
from georecon.audit.findings import STUMBLES, Context, Finding
from georecon.data.manifest import Manifest
from georecon.data.raw.xtb import Surface
from georecon.keys import Json
from georecon.records.read import Record
from georecon.stages.preprocess import preprocess

_FRAMES = 5  # of each computed file, spread over it
_ACCURACY = 0.1  # of recorded frames (georecon.data.raw.xtb)
LABELS = 1e-5
"""Largest difference of a computed energy [Ha] or force [Ha/a0], whatever the machine: frames
start from other wave functions here, converged to the same accuracy."""


def folder_of(root: Path, manifest: str) -> Path:
    """Folder of a store whose arrays are all there.

    Args:
        root: working folder.
        manifest: of the store.

    Raises:
        FileNotFoundError: an array is not: a bundle has none.
        DataError: no manifest.
    """
    folder = (root / manifest).parent
    for name in Manifest.read(folder).files:
        if not (folder / name).is_file():
            raise FileNotFoundError(errno.ENOENT, "not there", str(folder / name))
    return folder


def check_stores(context: Context) -> Iterator[Finding]:
    """Every store is what its raw files give; in a bundle its arrays are put in their place."""
    done, total = 0, 0
    for record in context.runs("preprocess"):
        total += 1
        try:
            text = _check_store(context, record)
        except FileNotFoundError as error:
            place = str(error.filename).replace(f"{context.root}/", "")
            context.cannot(f"store of {record.path}: {place} is not here")
            continue
        except STUMBLES as error:
            text = f"cannot be made again: {str(error).replace(f'{context.root}/', '')[:300]}"
        done += 1
        if text is not None:
            path = record.outputs["store"].path
            yield Finding(kind="store differs", path=path, text=text)
    context.checked.append(f"{done} of {total} stores made again from raw files")
    yield from _check_computed(context)


def _check_store(context: Context, record: Record) -> str | None:
    root, manifest = context.root, record.outputs["store"].path
    folder = (root / manifest).parent
    raw = {claim.path.rpartition("/")[0] for claim in record.inputs.values()}
    missing = [c.path for c in record.inputs.values() if not (root / c.path).is_file()]
    if missing:
        raise FileNotFoundError(errno.ENOENT, "not there", str(root / missing[0]))
    (raw_folder,) = raw
    stored, target = Manifest.read(folder), record.settings.get("target")
    card = _in_order(record.settings["card"], target, stored.source.roles)
    audits = root / context.experiments.runs.folder(paths.AUDIT)  # on the disk of the results
    audits.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="again-", dir=audits) as place:
        again = preprocess(card, root / raw_folder, Path(place) / "store", target)
        if again.as_json() != stored.as_json():
            names = [
                name
                for name in sorted({*again.files, *stored.files})
                if again.files.get(name) != stored.files.get(name)
            ]
            what = f"arrays {', '.join(names)}" if names else "its manifest"
            return f"is not what its raw files give: {what} differ"
        if context.bundle:
            for name in again.files:
                shutil.move(Path(place) / "store" / name, folder / name)
    return None


def _in_order(card: Any, target: Any, roles: tuple[str, ...]) -> Json:
    """A recorded card with a target's test parts in the order of the store's files.

    Ids follow that order, and a record has the keys of every mapping in alphabetical order.
    """
    place = {role: k for k, role in enumerate(roles)}
    found: Json = copy.deepcopy(card)
    sources: Any = found["sources"]
    for source in sources.values():
        parts = source.get("parts", {}).get(target)
        if parts is not None:
            ordered = sorted(parts["test"].items(), key=lambda pair: place.get(pair[1], len(place)))
            parts["test"] = dict(ordered)
    return found


def _check_computed(context: Context) -> Iterator[Finding]:
    """Energies and forces of some frames of each simulated molecule, by the method named."""
    for record in context.runs("xtb"):
        claim = record.outputs.get("raw")
        if claim is None or not (context.root / claim.path).is_file():
            context.cannot(f"labels of {record.path}: its file is not here")
            continue
        try:
            text = _check_frames(context.root / claim.path)
        except ImportError:
            context.cannot(f"labels of {claim.path}: tblite is not installed")
            continue
        except STUMBLES as error:
            text = f"cannot be computed again: {error!r:.200}"
        if text is not None:
            yield Finding(kind="labels differ", path=claim.path, text=text)
        context.checked.append(f"{_FRAMES} frames of {claim.path} computed again")


def _check_frames(path: Path) -> str | None:
    with np.load(path, allow_pickle=False) as archive:
        z, pos = archive["z"].astype(np.int64), archive["R"]
        energies, forces = archive["E"].ravel(), archive["F"]
    chosen = np.unique(np.linspace(0, len(pos) - 1, _FRAMES).astype(int))
    surface = Surface(z, pos[0] / units.BOHR_TO_ANGSTROM)
    scale = units.HARTREE_TO_KCAL_MOL
    for frame in chosen:
        energy, force = surface(pos[frame] / units.BOHR_TO_ANGSTROM, _ACCURACY)
        wanted = forces[frame] * units.BOHR_TO_ANGSTROM / scale
        off = abs(energy - energies[frame] / scale), float(np.abs(force - wanted).max())
        if max(off) > LABELS:
            return (
                f"frame {frame}: energy and forces are {off[0]:.2g} and {off[1]:.2g} Ha, Ha/a0 off"
            )
    return None
