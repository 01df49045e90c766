"""Raw files to store: choose the reader that a dataset card names, check, write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georecon.data.cards import (
    FILE_STRIDE,
    READER_ROLES,
    Card,
    File,
    Source,
    card_source,
    quantities,
    source_files,
)
from georecon.data.checks import refuse_outliers
from georecon.data.heat import Heat
from georecon.data.manifest import Manifest
from georecon.data.manifest import Source as StoreSource
from georecon.data.molecules import Molecules, Rejected
from georecon.data.raw.lock import Checked
from georecon.data.raw.unpack import unpacked
from georecon.data.readers.extxyz import ISOLATED_ATOM, read_extxyz
from georecon.data.readers.md17 import Origin, read_md17
from georecon.data.readers.qm9_official import (
    UNCHARACTERIZED,
    read_gdb9,
    read_qm9_xyz,
    read_uncharacterized,
)
from georecon.data.readers.qm9_package import read_qm9pack
from georecon.data.readers.sdf import iter_sdf
from georecon.data.store import Store, StoreWriter
from georecon.errors import DataError
from georecon.keys import Json, as_json, from_json

Parsed = Iterator[Molecules | Rejected]


@dataclass(frozen=True, slots=True)
class _Job:
    """What a reader needs: the card, its source entry, raw files by role, expected molecules."""

    card: Card
    source: Source
    paths: dict[str, Path]
    expected: int | None
    processes: int

    def only_path(self) -> Path:
        (path,) = self.paths.values()
        return path

    def wants_forces(self) -> bool:
        """Whether its one file is to have forces."""
        (role,) = self.paths
        return "forces" in quantities(self.card) and self.source.files[role].no_forces is None

    def uncharacterized(self) -> NDArray[np.int64]:
        """Gdb indices to leave out; none without a list."""
        file = self.paths.get("uncharacterized")
        return np.zeros(0, dtype=np.int64) if file is None else read_uncharacterized(file)


def _qm9pack(job: _Job) -> Parsed:
    folder = next(iter(job.paths.values())).parent
    yield read_qm9pack(folder, ranges=(job.card.ranges or {}), expected_molecules=job.expected)


def _qm9_xyz(job: _Job) -> Parsed:
    yield from read_qm9_xyz(
        job.paths["archive"],
        job.uncharacterized(),
        ranges=(job.card.ranges or {}),
        expected_molecules=job.expected,
    )


def _gdb9(job: _Job) -> Parsed:
    yield from read_gdb9(
        job.paths.get("sdf") or job.paths["archive"],
        job.paths.get("csv") or job.paths["archive"],
        job.uncharacterized(),
        ranges=(job.card.ranges or {}),
        expected_molecules=job.expected,
    )


def _frames(job: _Job) -> Parsed:
    path, card = job.only_path(), job.card
    wanted = quantities(card)
    options: dict[str, Any] = {
        "ranges": card.ranges or {},
        "units": card.units,
        "raw_units": job.source.raw_units,
        "keys": job.source.keys,
        "labels": [name for name in wanted if name not in ("pos", "forces")],
        "forces": job.wants_forces(),
    }
    if path.suffix.lower() == ".npz":
        (role,) = job.paths
        origin = Origin(card.theory, job.source.files[role].temperature_K)
        yield read_md17(path, **options, origin=origin)
        return
    isolated: list[Rejected] = []
    yield read_extxyz(path, on_reject=isolated.append, **options)
    yield from isolated


def _sdf(job: _Job) -> Parsed:
    """Unusable or implausible records are left out and listed, up to the source's limit."""
    path = job.only_path()
    limit = job.source.max_rejected
    rejected: list[Rejected] = []
    chunks = iter_sdf(
        path,
        title_id=job.source.title_id,
        ranges=(job.card.ranges or {}),
        on_reject=rejected.append,
        processes=job.processes,
    )
    for chunk in chunks:
        if len(rejected) > limit:
            break
        yield chunk
    if len(rejected) > limit:
        first = rejected[0]
        reason = f"{first.reason} ({len(rejected)} such records or more, allowed {limit})"
        raise DataError(path, first.record, reason)
    yield from rejected


READERS: dict[str, Callable[[_Job], Parsed]] = {
    "qm9pack": _qm9pack,
    "qm9_xyz": _qm9_xyz,
    "gdb9": _gdb9,
    "frames": _frames,
    "sdf": _sdf,
}


def _checked(job: _Job) -> Parsed:
    """A reader's molecules, after a look for labels far from all others, and its count."""
    records = by_list = 0
    for item in READERS[job.source.reader](job):
        if isinstance(item, Rejected):
            records += 1
            by_list += item.reason == UNCHARACTERIZED or item.reason.startswith(ISOLATED_ATOM)
        else:
            records += len(item)
            refuse_outliers(item, job.card.outliers, next(iter(job.paths.values())))
        yield item
    if job.expected is not None and records - by_list != job.expected:
        reason = f"holds {records} records, expected {job.expected}"
        raise DataError(next(iter(job.paths.values())), None, reason)


def _all_files(job: _Job, files: Mapping[str, File]) -> Parsed:
    """Molecules of every file of a store; ids of the second and later files are shifted."""
    expected = job.source.expected_molecules or job.card.expected_molecules
    if job.source.reader in READER_ROLES:
        yield from _checked(replace(job, expected=expected))
        return
    heat = Heat(job.card.units)
    for place, (role, path) in enumerate(job.paths.items()):
        count = files[role].expected_molecules or expected
        for item in _checked(replace(job, paths={role: path}, expected=count)):
            if not isinstance(item, Rejected):
                heat.look(item, files[role].temperature_K, path)
            yield _shifted(item, place * FILE_STRIDE, path)
    heat.check()


def _shifted(item: Molecules | Rejected, shift: int, path: Path) -> Molecules | Rejected:
    if isinstance(item, Rejected) or not shift:
        return item
    if len(item) and (item.ids.min() < 0 or item.ids.max() >= FILE_STRIDE):
        reason = f"id outside 0 to {FILE_STRIDE - 1}, the limit for several files in one store"
        raise DataError(path, int(item.ids[np.argmax(np.abs(item.ids))]), reason)
    return replace(item, ids=item.ids + shift)


def preprocess(
    reading: Json,
    raw_dir: str | Path,
    out_dir: str | Path,
    target: str | None = None,
    *,
    source: str | None = None,
    processes: int = 1,
) -> Manifest:
    """Read raw files as a dataset card says and write the store.

    Args:
        reading: a completed card as JSON (``georecon.data.cards.reading_json``).
        raw_dir: folder that holds the source's raw files under their card names.
        out_dir: folder of the store.
        target: of cards with ``store_per_file`` (mostly a molecule), or ``ALL``.
        source: a name among the card's sources; by default its ``default_source``.
        processes: at most so many, where a reader can use several; the store is the same.

    Returns:
        The manifest of the store.

    Raises:
        ConfigError: no such source or target.
        DataError: a raw file is missing or cannot be used, the count is not the card's, or a
            label is too far from all others; names the file and the record.
    """
    raw_dir = Path(raw_dir)
    card = from_json(Card, reading)
    name, entry = card_source(card, source)
    files = source_files(card, target, source)
    entries = {role: as_json(file) for role, file in files.items()}
    with unpacked(entries, raw_dir) as (paths, checked):
        described = StoreSource(
            source=name,
            target=target,
            roles=tuple(files),
            raw={role: _describe(file, checked[role]) for role, file in files.items()},
        )
        units = dict(card.units)
        with StoreWriter(
            out_dir,
            dataset=card.name,
            source=described,
            units=units,
            forces="forces" in quantities(card),
        ) as writer:
            for item in _all_files(_Job(card, entry, paths, None, processes), files):
                if isinstance(item, Rejected):
                    writer.reject(item)
                else:
                    writer.append(item)
    return Store.open(out_dir).manifest


def _describe(file: File, checked: Checked) -> dict[str, str | int]:
    """What a raw file is; where it came from is in the lock file, and changes no store."""
    places = {"package": file.package, "path": file.path, "member": file.member}
    return {
        "name": str(file.name),
        "bytes": checked.bytes,
        "sha256": checked.sha256,
        **{key: value for key, value in places.items() if value is not None},
    }
