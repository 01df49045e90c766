"""One file over http or https: attempts, resuming, redirects, progress.

Bytes gather in ``<name>.part``; the rules for it are in :mod:`georecon.data.raw.fetch`.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from georecon import __version__
from georecon.data.raw.lock import Wanted
from georecon.duration import readable_time
from georecon.files import read_json, write_json

_BLOCK = 1 << 20
_REDIRECTS = 5
ADDRESS = ("https://", "http://")
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
NETWORK_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


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


class AgainError(Exception):
    """This attempt failed; the next one may not."""


class RefusedError(Exception):
    """This address will not do, however often it is asked."""


class WrongFileError(RefusedError):
    """Other bytes than the card or the lock file says; none of them is kept."""


@dataclass(slots=True)
class Transfer:
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
            AgainError, OSError, requests or urllib3 errors: worth another attempt.
            RefusedError: not worth one.
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
            if not url.startswith(ADDRESS):
                raise RefusedError(f"{url}: only https and http addresses are allowed")
            try:
                reply = session.get(
                    url, headers=headers, stream=True, timeout=seconds, allow_redirects=False
                )
            except ValueError as error:  # requests looks at where a reply leads, too
                raise RefusedError(f"{url} or where it leads is no address: {error}") from None
            if not reply.is_redirect:
                return reply
            reply.close()
            target = _redirected(url, reply.headers["location"])
            if url.startswith("https://") and not target.startswith("https://"):
                raise RefusedError(f"redirected from {url} to {target}, no longer https")
            url = target
        raise RefusedError(f"redirected more than {_REDIRECTS} times, last to {url}")

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
            raise AgainError(f"cannot be resumed: {given!r} given, {expected!r} expected")
        problem = f"HTTP error {reply.status_code} {reply.reason}"
        raise (AgainError if reply.status_code in _TRY_AGAIN else RefusedError)(problem)

    def _total(self, reply: requests.Response, start: int) -> int | None:
        """Size of the whole file as announced, checked against what is wanted."""
        announced = reply.headers.get("Content-Length", "")
        total = start + int(announced) if re.fullmatch(r"\d+", announced) else None
        if total is not None and self.wanted.size and total != self.wanted.size:
            expected = f"{self.wanted.words()}{self.wanted.hint}"
            raise WrongFileError(f"announces {total} bytes, expected {expected}")
        chunked = "chunked" in reply.headers.get("Transfer-Encoding", "").lower()
        if total is None and not self.wanted.size and not chunked:
            raise RefusedError("announces no length, so a cut would go unnoticed")
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
                    raise WrongFileError(f"sends {meter.count} bytes or more, expected {expected}")
        except urllib3.exceptions.HTTPError as error:
            raise self._cut(str(error), meter) from error
        finally:
            out.flush()
            os.fsync(out.fileno())
        if expected and meter.count < expected:
            raise self._cut("connection ended", meter)

    def _cut(self, trouble: str, meter: _Meter) -> AgainError:
        count = f"after {meter.count} of {meter.total or 'an unknown number of'} bytes"
        return AgainError(f"{trouble}, {count} (wanted: {self.wanted.words()})")


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
            AgainError: less than ``patience.slowest`` for ``patience.timeout`` seconds.
        """
        self.count += size
        now, patience = time.monotonic(), self.patience
        if now - self.window >= patience.timeout:
            rate = (self.count - self.window_count) / (now - self.window)
            if rate < patience.slowest:
                raise AgainError(f"stalled at {self.count} bytes, {rate:.0f} bytes per second")
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


def _redirected(url: str, location: str) -> str:
    """Address that a reply's Location means.

    Raises:
        RefusedError: it is malformed.
    """
    try:
        target = urljoin(url, location)
        host = urlsplit(target).hostname
        _ = urlsplit(target).port
    except ValueError as error:
        raise RefusedError(
            f"redirected to a malformed address {location!r:.100}: {error}"
        ) from None
    if target.startswith(ADDRESS) and not host:
        raise RefusedError(f"redirected to an address without a host: {location!r:.100}")
    return target


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
        raise RefusedError(f"needs {needed} bytes in {folder}, where {free} are free")
