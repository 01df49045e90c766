"""Re-hash every file behind a number and compare with all that was recorded of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from georecon.audit.findings import Context, Finding
from georecon.errors import DataError
from georecon.files import sha256_file, write_json
from georecon.records.chain import KINDS
from georecon.records.read import Claim
from georecon.records.untrusted import read_strict_json

LEFT_OUT = ("raw", "array", "model", "outputs")
"""Kinds of files that a bundle leaves out; their recorded hashes stay."""
KNOWN = "hashes.json"
"""In the audit's folder: what earlier audits hashed."""
_SAVE_SECONDS, _SAY_SECONDS = 20.0, 10.0
_AHEAD = 64  # files handed to the threads before the first of them is done


@dataclass(frozen=True, slots=True)
class Hashed:
    """Size and hash of a file as it is now; ``kept``: as an earlier audit found it."""

    bytes: int
    sha256: str
    kept: bool = False


class KnownHashes:
    """Hashes of files by what the system says of them: nobody reads an unchanged file twice.

    A file counts as unchanged while its size, the times of its last change (of content, and of
    anything else, which no program sets) and its inode are the same. The list is a file like any
    other, so whoever can edit results can edit it: an audit with ``full`` reads everything.

    Args:
        path: the list; None knows nothing and keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.entries = path, dict[str, list[object]]()
        self._saved, self._new = time.monotonic(), False
        if path is not None:
            with suppress(DataError):
                found = read_strict_json(path, limit=1 << 30)
                self.entries = {k: v for k, v in found.items() if isinstance(v, list)}

    def get(self, name: str, stat: os.stat_result) -> Hashed | None:
        """The hash of a file that has not changed since it was hashed."""
        entry = self.entries.get(name)
        if entry is None or entry[:-1] != _stamp(stat) or not isinstance(entry[-1], str):
            return None
        return Hashed(stat.st_size, entry[-1], kept=True)

    def put(self, name: str, stat: os.stat_result, sha256: str) -> None:
        """Keep a hash; now and then on disk, so that an audit that is stopped can go on."""
        self.entries[name] = [*_stamp(stat), sha256]
        self._new = True
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the list."""
        self._saved = time.monotonic()
        if self._new and self.path is not None:
            with suppress(OSError):  # nobody may write here: the next audit reads all again
                write_json(self.path, self.entries)
        self._new = False


def _stamp(stat: os.stat_result) -> list[object]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def hash_files(
    root: Path,
    names: Iterable[str],
    known: KnownHashes | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Hashed | None]:
    """Hash each file once, several at a time; None for one that is not there.

    Args:
        root: working folder.
        names: files in it.
        known: hashes of earlier audits.
        say: takes a line of progress now and then.
    """
    known = known or KnownHashes(None)
    progress = _Progress(say)
    found: dict[str, Hashed | None] = {}
    waiting: list[tuple[str, os.stat_result, Future[str]]] = []

    def take() -> None:
        name, stat, future = waiting.pop(0)
        found[name] = Hashed(stat.st_size, future.result())
        known.put(name, stat, future.result())
        progress.add(stat.st_size)

    try:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for name in dict.fromkeys(names):
                path = root / name
                if not path.is_file():
                    found[name] = None
                    continue
                stat = path.stat()
                if (same := known.get(name, stat)) is not None:
                    found[name] = same
                    continue
                waiting.append((name, stat, pool.submit(sha256_file, path)))
                if len(waiting) >= _AHEAD:
                    take()
            while waiting:
                take()
    finally:  # whoever stops an audit keeps what it has read
        known.save()
    return found


class _Progress:
    """Says how much has been hashed, every ten seconds."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        self.say, self.bytes, self.files = say, 0, 0
        self.started = self.said = time.monotonic()

    def add(self, size: int) -> None:
        """Count a file."""
        self.bytes, self.files = self.bytes + size, self.files + 1
        now = time.monotonic()
        if self.say is not None and now - self.said > _SAY_SECONDS:
            rate = self.bytes / 1e6 / (now - self.started)
            self.say(f"{self.files} files, {self.bytes / 1e9:.1f} GB hashed, {rate:.0f} MB/s")
            self.said = now


def claims_by_path(context: Context) -> dict[str, list[Claim]]:
    """All that records, manifests and tables in scope say about each file."""
    found: dict[str, list[Claim]] = {}
    tables = {link.recorded_in for link in context.graph.cells()}
    stores = {path for path, link in context.scope.items() if link.kind == "store"}
    for claim in context.graph.claims:
        if claim.recorded_in in context.scope or claim.recorded_in in tables | stores:
            found.setdefault(claim.path, []).append(claim)
    return found


def check_files(context: Context, hashed: dict[str, Hashed | None]) -> Iterator[Finding]:
    """Every file is there and has the hash and size that every record says."""
    home = {claim.sha256: claim.path for claim in context.graph.claims}
    for path, claims in claims_by_path(context).items():
        link, now = context.graph.links.get(path), hashed[path]
        kind = link.kind if link is not None else "file"
        writer = link.recorded_in if link is not None else claims[0].recorded_in
        if now is None:
            if not (context.bundle and kind in LEFT_OUT):
                text = f"the {_what(kind)} is gone; {writer} says that it was written"
                yield Finding(kind="file missing", path=path, text=text)
            continue
        wrong = [claim for claim in claims if not _agrees(claim, now)]
        own = [claim for claim in wrong if claim.recorded_in == writer]
        if own:
            elsewhere = home.get(now.sha256)
            moved = f"; these are the bytes of {elsewhere}" if elsewhere else ""
            text = f"the {_what(kind)} is not the one that was written: {_against(own[0], now)}"
            yield Finding(kind="file changed", path=path, text=text + moved)
            continue
        for claim in wrong:
            text = f"{claim.recorded_in} used another {_what(kind)}: {_against(claim, now)}"
            touches = (claim.recorded_in,)
            yield Finding(kind="other file used", path=path, text=text, touches=touches)


def _agrees(claim: Claim, now: Hashed) -> bool:
    return claim.sha256 == now.sha256 and claim.bytes in (None, now.bytes)


def _against(claim: Claim, now: Hashed) -> str:
    size = "" if claim.bytes in (None, now.bytes) else f" and {now.bytes} bytes"
    was = "" if not size else f" and {claim.bytes} bytes"
    return f"sha256 {now.sha256[:16]}…{size}, {claim.recorded_in} says {claim.sha256[:16]}…{was}"


def _what(kind: str) -> str:
    return kind if kind != "file" else KINDS[kind]
