"""Raw files to store: choose the reader that a dataset card names, check, write."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from georecon.data.extxyz import read_extxyz
from georecon.data.md17 import read_md17
from georecon.data.molecules import Molecules, Rejected
from georecon.data.qm9 import read_qm9pack
from georecon.data.qm9_raw import read_gdb9, read_qm9_xyz, read_uncharacterized
from georecon.data.sdf import iter_sdf
from georecon.data.store import Store, StoreWriter
from georecon.errors import ConfigError, DataError
from georecon.files import sha256_file

Card = Mapping[str, Any]


def load_cards(path: str | Path) -> dict[str, dict[str, Any]]:
    """Dataset cards of ``config/datasets.yaml`` by name; each also holds its ``name``."""
    cards = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return {name: {"name": name, **card} for name, card in cards.items()}


def card_source(card: Card, source: str | None = None) -> tuple[str, Card]:
    """Name and entry of a card's source; by default the one that ``default_source`` names.

    Raises:
        ConfigError: the card has no such source; lists those it has.
    """
    name = source or card["default_source"]
    if name not in card["sources"]:
        raise ConfigError(
            f"dataset {card['name']} has no source {name!r}; allowed: {', '.join(card['sources'])}"
        )
    return name, card["sources"][name]


def source_files(
    card: Card, target: str | None = None, source: str | None = None
) -> dict[str, dict[str, Any]]:
    """Raw files of a source by role; only that of ``target`` for cards with ``store_per_file``.

    Raises:
        ConfigError: no such source or target.
    """
    _, entry = card_source(card, source)
    files = dict(entry["files"])
    if not card["store_per_file"]:
        return files
    if target is None or target not in files:
        raise ConfigError(
            f"dataset {card['name']} has one store per raw file, none for {target!r}; "
            f"allowed: {', '.join(files)}"
        )
    return {target: files[target]}


@dataclass(frozen=True, slots=True)
class _Job:
    """What a reader needs: the card, its source entry and the raw files by role."""

    card: Card
    source: Card
    paths: dict[str, Path]
    expected: int | None
    processes: int

    def only_path(self) -> Path:
        (path,) = self.paths.values()
        return path


Parsed = Iterator[Molecules | Rejected]


def _qm9pack(job: _Job) -> Parsed:
    folder = next(iter(job.paths.values())).parent
    yield read_qm9pack(folder, ranges=job.card["ranges"], expected_molecules=job.expected)


def _qm9_xyz(job: _Job) -> Parsed:
    skip = read_uncharacterized(job.paths["uncharacterized"])
    ranges = job.card["ranges"]
    yield read_qm9_xyz(job.paths["archive"], skip, ranges=ranges, expected_molecules=job.expected)


def _gdb9(job: _Job) -> Parsed:
    skip = read_uncharacterized(job.paths["uncharacterized"])
    sdf = job.paths.get("sdf") or job.paths["archive"]
    csv = job.paths.get("csv") or job.paths["archive"]
    ranges = job.card["ranges"]
    yield read_gdb9(sdf, csv, skip, ranges=ranges, expected_molecules=job.expected)


def _frames(job: _Job) -> Parsed:
    path = job.only_path()
    read = read_md17 if path.suffix == ".npz" else read_extxyz
    yield read(
        path,
        ranges=job.card["ranges"],
        units=job.card["units"],
        raw_units=job.source.get("raw_units"),
    )


def _sdf(job: _Job) -> Parsed:
    """Unusable or implausible records are left out and listed, up to the source's limit."""
    path = job.only_path()
    limit = int(job.source.get("max_rejected", 0))
    rejected: list[Rejected] = []
    chunks = iter_sdf(
        path,
        title_id=job.source.get("title_id"),
        ranges=job.card["ranges"],
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


@contextmanager
def _unpacked(files: Mapping[str, Card], raw_dir: Path) -> Iterator[dict[str, Path]]:
    """Path of each role; a file that names a ``member`` is taken out of its tar archive first."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for role, entry in files.items():
            path = raw_dir / entry["name"]
            if not path.is_file():
                raise DataError(path, None, f"raw file of role {role!r} is missing; fetch it first")
            if "member" in entry:
                path = _extract(path, entry["member"], Path(folder))
            paths[role] = path
        yield paths


def _extract(archive: Path, member: str, folder: Path) -> Path:
    """Copy one regular file out of a tar archive; nothing else in it is touched."""
    target = folder / Path(member).name
    try:
        with tarfile.open(archive, "r|*") as tar:
            for item in tar:
                if item.name.removeprefix("./") == member:
                    handle = tar.extractfile(item) if item.isreg() else None
                    if handle is None:
                        raise DataError(archive, member, "is not a regular file")
                    with open(target, "wb") as out:
                        shutil.copyfileobj(handle, out)
                    return target
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(archive, member, f"not a whole tar archive ({error})") from error
    raise DataError(archive, member, "is not in the archive")


def preprocess(
    card: Card,
    raw_dir: str | Path,
    out_dir: str | Path,
    target: str | None = None,
    *,
    source: str | None = None,
    processes: int = 1,
) -> dict[str, Any]:
    """Read raw files as a dataset card says and write the store.

    Args:
        card: one card of ``load_cards``.
        raw_dir: folder that holds the source's raw files under their card names.
        out_dir: folder of the store.
        target: role of the raw file (mostly a molecule), for cards with ``store_per_file``.
        source: a name among the card's sources; by default its ``default_source``.
        processes: at most so many, where a reader can use several; the store is the same.

    Returns:
        The manifest of the store.

    Raises:
        ConfigError: no such source, target or reader.
        DataError: a raw file is missing or cannot be used, or the count is not the card's.
    """
    raw_dir = Path(raw_dir)
    name, entry = card_source(card, source)
    files = source_files(card, target, source)
    if entry["reader"] not in READERS:
        raise ConfigError(f"unknown reader {entry['reader']!r}; allowed: {', '.join(READERS)}")
    expected = entry.get("expected_molecules", card.get("expected_molecules"))
    if target is not None and target in files:
        expected = files[target].get("expected_molecules", expected)
    with _unpacked(files, raw_dir) as paths:
        described = {
            "source": name,
            "target": target,
            "raw": {role: _describe(raw_dir, file) for role, file in files.items()},
        }
        job = _Job(card, entry, paths, expected, processes)
        units = dict(card["units"])
        with StoreWriter(out_dir, dataset=card["name"], source=described, units=units) as writer:
            for item in READERS[entry["reader"]](job):
                if isinstance(item, Rejected):
                    writer.reject(item)
                else:
                    writer.append(item)
            if expected is not None and writer.records != expected:
                reason = f"holds {writer.records} records, expected {expected}"
                raise DataError(next(iter(paths.values())), None, reason)
    return Store.open(out_dir).manifest


def _describe(raw_dir: Path, file: Card) -> dict[str, Any]:
    path = raw_dir / file["name"]
    return {
        "name": file["name"],
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
        "urls": list(file.get("urls") or []),
        **{key: file[key] for key in ("package", "path", "member") if key in file},
    }
