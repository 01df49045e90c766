"""What each raw file must be: its dataset card, and the lock file that remembers first fetches.

``resources/raw/lock.json`` holds, for every ``<dataset>/<file>`` ever fetched, where it
came from (``url``), when (``fetched``), its ``bytes`` and ``sha256``, and whether it was looked
through as an archive (``inspected``). Where a card has no public checksum, the one recorded first
is what every later copy must match.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from georecon.errors import DataError
from georecon.files import read_json, write_json

LOCK = "lock.json"
KINDS = ("sha256", "sha384", "md5")
"""Hashes that a card may give."""
_BLOCK = 1 << 20
_UNKNOWN_MB = 2000  # more than any file of unknown size in the cards


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """What the lock file remembers of a raw file.

    Attributes:
        url: where it came from.
        fetched: when, as ISO 8601 text.
        bytes: its size.
        sha256: of its bytes.
        inspected: whether it was looked through as an archive.
    """

    url: str
    fetched: str
    bytes: int
    sha256: str
    inspected: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """A raw file that is as expected; ``inspected`` as of :class:`Fetched`, of the same bytes."""

    bytes: int
    sha256: str
    inspected: bool


@dataclass(frozen=True, slots=True)
class RawLock:
    """The lock file; every change is made under a file lock and written atomically."""

    path: Path

    @classmethod
    def of(cls, file: Path) -> RawLock:
        """The lock file of a raw file's folder: beside the dataset's folder."""
        return cls(file.parent.parent / LOCK)

    def records(self) -> dict[str, Fetched]:
        """All records by key; empty where there is no lock file yet.

        Raises:
            DataError: the file is there but is no such list.
        """
        if not self.path.exists():
            return {}
        try:
            return {key: Fetched(**one) for key, one in read_json(self.path).items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise DataError(self.path, None, f"not a list of fetched files ({error})") from error

    def write(self, key: str, record: Fetched) -> None:
        """Put one record in, in place of an older one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            records = self.records() | {key: record}
            write_json(self.path, {key: asdict(one) for key, one in records.items()})


@dataclass(frozen=True, slots=True)
class Wanted:
    """One raw file as its card and the lock file describe it.

    Args:
        key: ``<dataset>/<file>``.
        size: bytes, None where unknown.
        hashes: expected digests by kind, of ``KINDS``; empty where none is known yet.
        hint: how to accept another file, where the hash is one that was recorded here.
    """

    key: str
    size: int | None
    hashes: Mapping[str, str]
    hint: str = ""

    @classmethod
    def of(cls, path: Path, entry: Mapping[str, Any], lock: RawLock) -> Wanted:
        """What ``path`` must hold: the card's checksum, else the recorded one."""
        key = f"{path.parent.name}/{path.name}"
        size, hint = entry.get("bytes"), ""
        hashes = {kind: entry[kind] for kind in KINDS if entry.get(kind)}
        if not hashes and not entry.get("computed") and (first := lock.records().get(key)):
            hashes, size = {"sha256": first.sha256}, size or first.bytes
            hint = (
                f", as recorded on {first.fetched} from {first.url}; to accept another file "
                f"on purpose, remove {key!r} from {lock.path} and run again"
            )
        return cls(key, size, hashes, hint)

    @property
    def published(self) -> bool:
        """Whether the card gives a hash, rather than the first fetch or nobody."""
        return bool(self.hashes) and not self.hint

    def words(self) -> str:
        """Size and hashes as an error names them."""
        parts = [f"{self.size} bytes"] if self.size else []
        parts += [f"{kind} {value}" for kind, value in self.hashes.items()]
        return ", ".join(parts) or "no checksum known"

    def wrong(self, path: Path) -> str | None:
        """What is wrong with a file's size or hash; None when it is as expected."""
        size = path.stat().st_size
        if self.size and size != self.size:
            return f"holds {size} bytes, expected {self.size}{self.hint}"
        for kind, value in digests(path, *self.hashes).items():
            if value != self.hashes[kind]:
                return f"{kind} is {value}, expected {self.hashes[kind]}{self.hint}"
        return None


def digests(path: Path, *kinds: str) -> dict[str, str]:
    """Hex digests of a file by kind, in one pass and constant memory."""
    found = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    if found:
        with open(path, "rb") as handle:
            while block := handle.read(_BLOCK):
                for digest in found.values():
                    digest.update(block)
    return {kind: digest.hexdigest() for kind, digest in found.items()}


def record_of(path: Path, url: str, *, inspected: bool) -> Fetched:
    """A new record of a file that is as expected."""
    return Fetched(
        url=url,
        fetched=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        bytes=path.stat().st_size,
        sha256=digests(path, "sha256")["sha256"],
        inspected=inspected,
    )


def check_raw(path: str | Path, entry: Mapping[str, Any]) -> Checked:
    """Check a raw file before it is parsed; writes nothing.

    Args:
        path: the file, ``<raw folder>/<dataset>/<name>``.
        entry: its entry in the dataset card.

    Raises:
        DataError: missing, or other bytes than the card or the lock file says; names both hashes.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, None, "raw file is missing; fetch it first")
    lock = RawLock.of(path)
    wanted = Wanted.of(path, entry, lock)
    wrong = wanted.wrong(path)
    if wrong is not None:
        raise DataError(path, None, f"{wrong}; remove the file and run again to fetch it anew")
    sha256 = wanted.hashes.get("sha256") or digests(path, "sha256")["sha256"]
    first = lock.records().get(wanted.key)
    inspected = first is not None and first.sha256 == sha256 and first.inspected
    return Checked(bytes=path.stat().st_size, sha256=sha256, inspected=inspected)


def own_path(text: str) -> Path:
    """A path as given; only ``~/`` at its start means the home folder."""
    if text.startswith("~/"):
        try:
            return Path(text).expanduser()
        except RuntimeError:  # nobody knows the home folder
            pass
    return Path(text)


def fetched(path: str | Path) -> Fetched:
    """What is remembered of a file that was fetched."""
    path = Path(path)
    return RawLock.of(path).records()[f"{path.parent.name}/{path.name}"]


def identity(entry: Mapping[str, Any]) -> dict[str, str | int]:
    """The part of a card's file entry that says which bytes it is, not where they are had.

    A rule whose parameters hold this alone does not run again when an address changes.
    """
    hashes = [kind for kind in KINDS if entry.get(kind)]
    names = ("name", "bytes", *hashes) if hashes else ("name", "bytes", "local")
    return {name: entry[name] for name in names if entry.get(name)}


def download_mb(entry: Mapping[str, Any]) -> int:
    """Disk space that a raw file takes [MB], a generous guess where the card knows no size."""
    return -(-entry["bytes"] // 1_000_000) if entry.get("bytes") else _UNKNOWN_MB


def download_words(entry: Mapping[str, Any], mirror: str | None) -> str:
    """Size and source of a raw file, for a plan: ``1559712928 bytes from http://…``."""
    size = f"{entry['bytes']} bytes" if entry.get("bytes") else "size unknown"
    if entry.get("package"):
        return f"{size} from Python package {entry['package']}"
    places = [f"mirror {mirror}"] if mirror else []
    places += [entry["local"]] if entry.get("local") else []
    places += list(entry.get("urls") or [])[:1]
    return f"{size} from {' or '.join(places) or 'nowhere: put it into a mirror or there by hand'}"
