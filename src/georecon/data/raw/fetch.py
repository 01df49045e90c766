"""Fetch raw files: the only network code of the project.

A file is described by a card entry, one of

- ``{name, urls: [...], bytes, sha256 | md5}``: downloaded, checked, renamed into place;
- ``{name, package, path, bytes, sha256}``: copied from an installed Python package;
- ``{name, local, bytes, sha256}``: the user's own file, given by its path.

Sources in order: a file already there, the mirror (a folder, searched by file name at any depth,
or a base address), the same file of another dataset, package or own path, then the addresses.

A download goes to ``<name>.part``. It is renamed only when size and hash are right and, for an
archive, every member is harmless, so nothing but the whole, checked file is ever seen at the final
path. A cut transfer is resumed with Range and If-Range; ``<name>.part.json`` holds the address and
the validator (strong ETag, or a Last-Modified that is old enough) of the bytes there are. Rule of
the ``.part``: it stays when a call fails only if a later call can resume it safely, that is with
such a validator beside it; without one, and whenever size, hash or members were wrong, it is
removed. No second file's bytes are ever put behind a first one's.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urljoin

import requests
import urllib3
from filelock import FileLock

from georecon import __version__
from georecon.data.raw.archives import inspect, is_archive
from georecon.data.raw.lock import Fetched, RawLock, Wanted, record_of
from georecon.duration import readable_time
from georecon.errors import DataError, FetchError
from georecon.files import read_json, write_json

_BLOCK = 1 << 20
_REDIRECTS = 5
_ADDRESS = ("https://", "http://")
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_log = logging.getLogger(__name__)
_NETWORK_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a download is waited for.

    Args:
        attempts: of each address.
        timeout: seconds without a byte, or at less than ``slowest``, until an attempt fails.
        slowest: bytes per second.
        pause: seconds before the second attempt; doubles with each further one.
        report: seconds between two lines of progress.
    """

    attempts: int = 3
    timeout: float = 60.0
    slowest: int = 1000
    pause: float = 2.0
    report: float = 10.0


class _AgainError(Exception):
    """This attempt failed; the next one may not."""


class _RefusedError(Exception):
    """This address will not do, however often it is asked."""


class _WrongFileError(_RefusedError):
    """Other bytes than the card or the lock file says; none of them is kept."""


def fetch(
    entry: Mapping[str, Any],
    dest: str | Path,
    *,
    mirror: str | Path | None = None,
    offline: bool = False,
    say: Callable[[str], None] = _log.info,
    patience: Patience = Patience(),
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
    if mirror is not None and not str(mirror).startswith(_ADDRESS):
        found = [path for path in sorted(Path(mirror).rglob(entry["name"])) if path.is_file()]
        yield from ((path, path.absolute().as_uri()) for path in found)
        if not found:
            job.problems.append(f"mirror {mirror}: holds no {entry['name']}")
    records = job.lock.records()
    for path in sorted(job.dest.parent.parent.glob(f"*/{entry['name']}")):
        record = records.get(f"{path.parent.name}/{path.name}")
        if path != job.dest and record is not None and _same_file(record, job.wanted, entry):
            yield path, record.url
    if entry.get("local"):
        own = Path(entry["local"]).expanduser()
        yield own, own.absolute().as_uri()
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
    if str(mirror).startswith(_ADDRESS):
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
            "set `mirror:` to that folder."
        )

    def is_there(self) -> bool:
        """Whether the file is there already and is right; one that is not is a problem."""
        if not self.dest.is_file():
            return False
        wrong = self.wanted.wrong(self.dest)
        if wrong is not None:
            self.problems.append(f"{self.dest}: {wrong}")
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
        except (OSError, _WrongFileError) as error:
            self.problems.append(f"{source}: {error}")
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def download(self, url: str) -> bool:
        """Download, with the attempts that patience allows."""
        attempts = self.patience.attempts
        transfer = _Transfer(url, self.dest, self.wanted, self.say, self.patience)
        try:
            for attempt in range(1, attempts + 1):
                try:
                    transfer.attempt()
                    self._settle(transfer.part, url)
                    transfer.forget()
                    return True
                except _RefusedError as error:
                    self.problems.append(f"{url}: {error}")
                    if isinstance(error, _WrongFileError):
                        transfer.forget()
                    return False
                except (*_NETWORK_ERRORS, _AgainError) as error:
                    self.problems.append(f"{url}: attempt {attempt} of {attempts}: {error}")
                    if attempt < attempts:
                        self.say(f"{self.dest.name}: {error}; trying again")
                        time.sleep(self.patience.pause * 2 ** (attempt - 1))
        finally:
            transfer.keep_only_resumable()
        return False

    def _settle(self, file: Path, url: str) -> None:
        """Check a whole file, move it to its place, record where it came from."""
        wrong = self.wanted.wrong(file)
        if wrong is not None:
            raise _WrongFileError(wrong)
        try:
            if is_archive(self.dest.name):
                for _ in inspect(file, name=self.dest.name):
                    pass
        except DataError as error:
            raise _WrongFileError(f"refused as an archive: {error}") from error
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
        record = record_of(file, url, inspected=is_archive(self.dest.name))
        os.replace(file, self.dest)
        self.lock.write(self.wanted.key, record)


@dataclass(slots=True)
class _Transfer:
    """Attempts at one address; bytes gather in ``part``."""

    url: str
    dest: Path
    wanted: Wanted
    say: Callable[[str], None]
    patience: Patience
    part: Path = field(init=False)
    state: Path = field(init=False)

    def __post_init__(self) -> None:
        self.part = self.dest.with_name(f"{self.dest.name}.part")
        self.state = self.dest.with_name(f"{self.dest.name}.part.json")

    def forget(self) -> None:
        """Remove what has been transferred."""
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def keep_only_resumable(self) -> None:
        """Remove a part that no later call could resume safely."""
        if not (self.state.exists() and self.part.exists() and self.part.stat().st_size):
            self.forget()

    def _resumable(self) -> dict[str, Any] | None:
        """Where to go on: ``offset``, ``validator`` and ``total``; None to begin anew."""
        try:
            state = read_json(self.state)
            offset = self.part.stat().st_size
            if state["url"] == self.url and 0 < offset < state["total"]:
                return {**state, "offset": offset}
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def attempt(self) -> None:
        """One request; afterwards ``part`` holds as many bytes as were announced.

        Raises:
            _AgainError, OSError, requests or urllib3 errors: worth another attempt.
            _RefusedError: not worth one.
        """
        state = self._resumable()
        headers = {"Accept-Encoding": "identity", "User-Agent": f"georecon/{__version__}"}
        if state is not None:
            headers |= {"Range": f"bytes={state['offset']}-", "If-Range": state["validator"]}
        with requests.Session() as session, self._get(session, headers) as reply:
            start = self._start(reply, state)
            total = self._total(reply, start)
            _require_space(self.dest.parent, (total or 0) - start)
            if start == 0:
                self.forget()
                validator = _validator(reply.headers)
                if validator and total:
                    found = {"url": self.url, "validator": validator, "total": total}
                    write_json(self.state, found)
            with open(self.part, "ab" if start else "wb") as out:
                self._receive(reply.raw, out, start, total)

    def _get(self, session: requests.Session, headers: Mapping[str, str]) -> requests.Response:
        """Ask, following at most five redirects, none of them from https to http."""
        url, seconds = self.url, self.patience.timeout
        for _ in range(_REDIRECTS + 1):
            if not url.startswith(_ADDRESS):
                raise _RefusedError(f"{url}: only https and http addresses are allowed")
            reply = session.get(
                url, headers=headers, stream=True, timeout=seconds, allow_redirects=False
            )
            if not reply.is_redirect:
                return reply
            reply.close()
            target = urljoin(url, reply.headers["location"])
            if url.startswith("https://") and not target.startswith("https://"):
                raise _RefusedError(f"redirected from {url} to {target}, no longer https")
            url = target
        raise _RefusedError(f"redirected more than {_REDIRECTS} times, last to {url}")

    def _start(self, reply: requests.Response, state: Mapping[str, Any] | None) -> int:
        """Offset of the reply's first byte; refuses any that does not continue what is there."""
        if reply.status_code == requests.codes.ok:
            return 0
        if state is not None and reply.status_code in (206, 416):
            expected = f"bytes {state['offset']}-{state['total'] - 1}/{state['total']}"
            given = reply.headers.get("Content-Range")
            validator = _validator(reply.headers) or state["validator"]
            if given == expected and validator == state["validator"]:
                return int(state["offset"])
            self.forget()
            raise _AgainError(f"cannot be resumed: {given!r} given, {expected!r} expected")
        problem = f"HTTP error {reply.status_code} {reply.reason}"
        raise (_AgainError if reply.status_code in _TRY_AGAIN else _RefusedError)(problem)

    def _total(self, reply: requests.Response, start: int) -> int | None:
        """Size of the whole file as announced, checked against what is wanted."""
        announced = reply.headers.get("Content-Length", "")
        total = start + int(announced) if re.fullmatch(r"\d+", announced) else None
        if total is not None and self.wanted.size and total != self.wanted.size:
            expected = f"{self.wanted.words()}{self.wanted.hint}"
            raise _WrongFileError(f"announces {total} bytes, expected {expected}")
        chunked = "chunked" in reply.headers.get("Transfer-Encoding", "").lower()
        if total is None and not self.wanted.size and not chunked:
            raise _RefusedError("announces no length, so a cut would go unnoticed")
        return total

    def _receive(
        self, raw: urllib3.BaseHTTPResponse, out: IO[bytes], start: int, total: int | None
    ) -> None:
        expected = total or self.wanted.size
        meter = _Meter(self.dest.name, start, expected, self.patience, self.say)
        try:
            while block := raw.read1(_BLOCK, decode_content=False):
                out.write(block)
                meter.add(len(block))
                if expected and meter.count > expected:
                    raise _WrongFileError(f"sends {meter.count} bytes or more, expected {expected}")
        except urllib3.exceptions.HTTPError as error:
            raise self._cut(str(error), meter) from error
        finally:
            out.flush()
            os.fsync(out.fileno())
        if expected and meter.count < expected:
            raise self._cut("connection ended", meter)

    def _cut(self, trouble: str, meter: _Meter) -> _AgainError:
        count = f"after {meter.count} of {meter.total or 'an unknown number of'} bytes"
        return _AgainError(f"{trouble}, {count} (wanted: {self.wanted.words()})")


class _Meter:
    """Counts bytes, tells progress, and notices a transfer that hardly moves."""

    def __init__(
        self,
        name: str,
        start: int,
        total: int | None,
        patience: Patience,
        say: Callable[[str], None],
    ) -> None:
        self.name, self.total, self.patience, self.say = name, total, patience, say
        self.count, self.first = start, start
        self.begun = self.reported = self.window = time.monotonic()
        self.window_count = start

    def add(self, size: int) -> None:
        """Count some bytes.

        Raises:
            _AgainError: less than ``patience.slowest`` for ``patience.timeout`` seconds.
        """
        self.count += size
        now, patience = time.monotonic(), self.patience
        if now - self.window >= patience.timeout:
            rate = (self.count - self.window_count) / (now - self.window)
            if rate < patience.slowest:
                raise _AgainError(f"stalled at {self.count} bytes, {rate:.0f} bytes per second")
            self.window, self.window_count = now, self.count
        if now - self.reported >= patience.report:
            self.reported = now
            self.say(self._line(max(self.count - self.first, 1) / (now - self.begun)))

    def _line(self, rate: float) -> str:
        done, speed = self.count / 1e6, f"{rate / 1e6:.1f} MB/s"
        if not self.total:
            return f"{self.name}: {done:.1f} MB, size unknown, {speed}"
        left = readable_time((self.total - self.count) / rate)
        percent = 100 * self.count // self.total
        return (
            f"{self.name}: {done:.1f} of {self.total / 1e6:.1f} MB, {percent} %, {speed}, "
            f"{left} left"
        )


def _validator(headers: Mapping[str, str]) -> str | None:
    """What If-Range may say: a strong ETag, or a Last-Modified a minute before Date (RFC 9110)."""
    etag = headers.get("ETag", "")
    if etag.startswith('"'):
        return etag
    try:
        changed = parsedate_to_datetime(headers["Last-Modified"])
        if (parsedate_to_datetime(headers["Date"]) - changed).total_seconds() >= 60:
            return headers["Last-Modified"]
    except (KeyError, ValueError, TypeError):
        pass
    return None


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise _RefusedError(f"needs {needed} bytes in {folder}, where {free} are free")
