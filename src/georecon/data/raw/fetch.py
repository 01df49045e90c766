"""Fetch raw files; with :mod:`georecon.data.raw.transfer` the only network code of the project.

A file is described by a card entry, one of

- ``{name, urls: [...], bytes, sha256 | md5}``: downloaded, checked, renamed into place;
- ``{name, package, path, bytes, sha256}``: copied from an installed Python package;
- ``{name, local, bytes, sha256}``: the user's own file, given by its path.

Sources in order: a file already there, the user's own path, the mirror (a folder, searched by file
name at any depth, or a base address), the same file of another dataset or package, then the
addresses.

A download goes to ``<name>.part``. It is renamed only when size and hash are right and, for an
archive, every member is harmless, so nothing but the whole, checked file is ever seen at the final
path. A cut transfer is resumed with Range and If-Range; ``<name>.part.json`` holds the address and
the validator (strong ETag, or a Last-Modified that is old enough) of the bytes there are. Rule of
the ``.part``: it stays when a call fails only if a later call can resume it safely, that is with
such a validator beside it; without one, and whenever size, hash or members were wrong, it is
removed. No second file's bytes are ever put behind a first one's.

A page, a Git LFS pointer or nothing at all in place of a file is refused even where no hash is
known. Names are taken as they are: nothing in them is a pattern, an option or an address.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock

from georecon.data.raw.archives import inspect, is_archive
from georecon.data.raw.content import head_of, stands_for_another
from georecon.data.raw.lock import Fetched, RawLock, Wanted, own_path, record_of
from georecon.data.raw.mirror import in_mirror
from georecon.data.raw.transfer import (
    ADDRESS,
    NETWORK_ERRORS,
    AgainError,
    Patience,
    RefusedError,
    Transfer,
    WrongFileError,
)
from georecon.errors import DataError, FetchError
from georecon.paths import ENCODER_FILES

_PATIENCE = Patience()
_log = logging.getLogger(__name__)


def fetch(
    entry: Mapping[str, Any],
    dest: str | Path,
    *,
    mirror: str | Path | None = None,
    offline: bool = False,
    say: Callable[[str], None] = _log.info,
    patience: Patience = _PATIENCE,
) -> Path:
    """Bring one raw file to ``dest``, whole and checked, or leave nothing there.

    Args:
        entry: file entry of a dataset card, see the module's text.
        dest: final path, ``<raw folder>/<dataset>/<name>``. A file already there is kept if it
            passes the checks and fetched again otherwise. The lock file of the raw folder is read
            and written, see ``georecon.data.raw.lock``.
        mirror: folder with copies of raw files, or base address of one, tried first.
        offline: never use the network.
        say: called with each line of progress.
        patience: attempts and times.

    Returns:
        ``dest``.

    Raises:
        FetchError: no source has the file, or every copy has the wrong size or hash; says which
            file was wanted, what was tried, and how to supply it by hand.
    """
    dest = Path(dest)
    dest.parent.mkdir(parents=True, exist_ok=True)
    lock = RawLock.of(dest)
    # one at a time for each name: a second dataset's job finds what the first one's brought
    with FileLock(lock.path.with_name(f".{dest.name}.lock")):
        job = _Job(entry, dest, lock, Wanted.of(dest, entry, lock), say, patience)
        if job.is_there() or any(job.copy(*source) for source in _copies(job, mirror)):
            return dest
        for url in _addresses(entry, dest, mirror):
            if offline:
                job.problems.append(f"{url}: not tried, offline")
            elif job.download(url):
                return dest
    raise FetchError(job.advice())


def _copies(job: _Job, mirror: str | Path | None) -> Iterator[tuple[Path, str]]:
    """Copies on this machine in the order they are tried, and what to record as their address."""
    entry = job.entry
    if entry.get("local"):
        own = own_path(entry["local"])
        yield own, own.absolute().as_uri()
    if mirror is not None and not str(mirror).startswith(ADDRESS):
        found = in_mirror(Path(mirror), entry["name"], job.problems)
        yield from ((path, path.absolute().as_uri()) for path in found)
        if not found:
            job.problems.append(f"mirror {mirror}: holds no {entry['name']}")
    records = job.lock.records()
    for folder in sorted(job.dest.parent.parent.glob("*/")):
        path = folder / entry["name"]
        record = records.get(f"{folder.name}/{path.name}")
        if path == job.dest or record is None or not path.is_file():
            continue
        if _same_file(record, job.wanted, entry):
            yield path, record.url
    if entry.get("package"):
        spec = importlib.util.find_spec(entry["package"])
        if spec is None or not spec.submodule_search_locations:
            job.problems.append(f"Python package {entry['package']}: not installed")
        else:
            root = Path(next(iter(spec.submodule_search_locations))).parent
            yield root / entry["path"], f"package:{entry['path']}"


def _same_file(record: Fetched, wanted: Wanted, entry: Mapping[str, Any]) -> bool:
    """Whether another dataset's file of this name is the one wanted: its hash is checked after."""
    if "sha256" in wanted.hashes:
        return record.sha256 == wanted.hashes["sha256"]
    if wanted.hashes:
        return record.bytes == wanted.size
    return record.url in (entry.get("urls") or [])


def _addresses(entry: Mapping[str, Any], dest: Path, mirror: str | Path | None) -> list[str]:
    urls = list(entry.get("urls") or [])
    if str(mirror).startswith(ADDRESS):
        base, name = str(mirror).rstrip("/"), quote(entry["name"])
        urls = [f"{base}/{quote(dest.parent.name)}/{name}", f"{base}/{name}", *urls]
    return urls


@dataclass(slots=True)
class _Job:
    """One file on its way: what is wanted, what was tried."""

    entry: Mapping[str, Any]
    dest: Path
    lock: RawLock
    wanted: Wanted
    say: Callable[[str], None]
    patience: Patience
    problems: list[str] = field(default_factory=list)

    def advice(self) -> str:
        """The error's text when nothing worked."""
        tried = "".join(f"\n  - {one}" for one in self.problems) or "\n  - no source is known"
        return (
            f"could not fetch {self.wanted.key} ({self.wanted.words()}).\ntried:{tried}"
            f"\nTo supply it by hand: put it at {self.dest.absolute()}, or put it in a folder and "
            f"set `mirror:` to that folder.{self._without_it()}"
        )

    def _without_it(self) -> str:
        """An encoder can be done without."""
        if self.dest.parent.name != ENCODER_FILES:
            return ""
        return (
            "\nWithout it: `missing: <why>` in the method's encoder_file leaves its cells empty, "
            "`<method>: null` leaves the row out."
        )

    def is_there(self) -> bool:
        """Whether the file is there already and is right; one that is not is a problem."""
        if not self.dest.is_file():
            return False
        wrong = self.wanted.wrong(self.dest)
        if wrong is not None:
            self.problems.append(f"{self.dest}: {wrong}")
            return False
        other = None if self.wanted.published else stands_for_another(head_of(self.dest))
        if other is not None:
            self.problems.append(f"{self.dest}: holds {other}")
            return False
        if self.wanted.key not in self.lock.records():
            self.lock.write(
                self.wanted.key, record_of(self.dest, "put there by hand", inspected=False)
            )
        return True

    def copy(self, source: Path, url: str) -> bool:
        """Copy from a place on this machine."""
        temporary = self.dest.with_name(f".{self.dest.name}.tmp")
        try:
            shutil.copyfile(source, temporary)
            self._settle(temporary, url)
        except (OSError, WrongFileError) as error:
            self.problems.append(f"{source}: {error}")
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def download(self, url: str) -> bool:
        """Download, with the attempts that patience allows."""
        attempts = self.patience.attempts
        transfer = Transfer(url, self.dest, self.wanted, self.say, self.patience)
        try:
            for attempt in range(1, attempts + 1):
                try:
                    transfer.attempt()
                    self._settle(transfer.part, url)
                    transfer.forget()
                    return True
                except RefusedError as error:
                    self.problems.append(f"{url}: {error}")
                    if isinstance(error, WrongFileError):
                        transfer.forget()
                    return False
                except (*NETWORK_ERRORS, AgainError) as error:
                    self.problems.append(f"{url}: attempt {attempt} of {attempts}: {error}")
                    if attempt < attempts:
                        self.say(f"{self.dest.name}: {error}; trying again")
                        time.sleep(self.patience.pause * 2 ** (attempt - 1))
        finally:
            transfer.keep_only_resumable()
        return False

    def _settle(self, file: Path, url: str) -> None:
        """Check a whole file, move it to its place, record where it came from."""
        wrong, other = self.wanted.wrong(file), stands_for_another(head_of(file))
        if wrong is not None:
            raise WrongFileError(f"{wrong}; it holds {other}" if other else wrong)
        if other is not None and not self.wanted.published:
            raise WrongFileError(f"holds {other}")
        try:
            if is_archive(self.dest.name):
                for _ in inspect(file, name=self.dest.name):
                    pass
        except DataError as error:
            raise WrongFileError(f"refused as an archive: {error}") from error
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
        record = record_of(file, url, inspected=is_archive(self.dest.name))
        os.replace(file, self.dest)
        self.lock.write(self.wanted.key, record)
