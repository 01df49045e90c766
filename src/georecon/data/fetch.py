"""Fetch raw files: the only network code of the project.

A file is described by a card entry, one of

- ``{name, urls: [...], bytes, sha256 | md5}``: downloaded, checked, renamed into place;
- ``{name, package, path, bytes, sha256}``: copied from an installed Python package;
- ``{name, local, bytes, sha256}``: the user's own file, given by its path.

A mirror folder (searched by file name, at any depth) is tried before the network.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from georecon.errors import FetchError
from georecon.files import atomic_path

_ATTEMPTS = 3
_TIMEOUT = 60.0
_BLOCK = 1 << 20


def fetch(
    card_file: Mapping[str, Any],
    dest: str | Path,
    *,
    mirror: str | Path | None = None,
    offline: bool = False,
) -> Path:
    """Bring one raw file to ``dest``, whole and checked, or leave nothing there.

    Args:
        card_file: entry of a dataset card, see the module's text.
        dest: final path of the file. A file already there is kept if it passes the checks and
            fetched again otherwise.
        mirror: folder with copies of raw files, tried first.
        offline: never use the network.

    Returns:
        ``dest``.

    Raises:
        FetchError: no source has the file, or every copy has the wrong size or hash; says which
            file was wanted, what was tried, and how to supply it by hand.
    """
    dest = Path(dest)
    problems: list[str] = []
    if dest.is_file():
        wrong = _mismatch(dest, card_file)
        if wrong is None:
            return dest
        problems.append(f"{dest}: {wrong}")
    for source in _local_sources(card_file, mirror, problems):
        if _copy(source, dest, card_file, problems):
            return dest
    for url in card_file.get("urls") or []:
        if offline:
            problems.append(f"{url}: not tried, offline")
        elif _download(url, dest, card_file, problems):
            return dest
    raise FetchError(_advice(card_file, dest, problems))


def _advice(card_file: Mapping[str, Any], dest: Path, problems: list[str]) -> str:
    expected = [f"{card_file['bytes']} bytes"] if card_file.get("bytes") else []
    expected += [f"{kind} {card_file[kind]}" for kind in ("sha256", "md5") if card_file.get(kind)]
    tried = "".join(f"\n  - {problem}" for problem in problems) or "\n  - no source is known"
    return (
        f"could not fetch {card_file['name']} ({', '.join(expected) or 'no checksum known'})."
        f"\ntried:{tried}"
        f"\nTo supply it by hand: put it at {dest}, or put it in a folder and set `mirror:` to "
        "that folder."
    )


def _local_sources(
    card_file: Mapping[str, Any], mirror: str | Path | None, problems: list[str]
) -> list[Path]:
    """Copies on this machine, in the order they are tried."""
    sources = []
    if mirror is not None:
        found = sorted(Path(mirror).rglob(card_file["name"]))
        sources += [path for path in found if path.is_file()]
        if not sources:
            problems.append(f"mirror {mirror}: holds no {card_file['name']}")
    if card_file.get("local"):
        sources.append(Path(card_file["local"]).expanduser())
    if card_file.get("package"):
        spec = importlib.util.find_spec(card_file["package"])
        if spec is None or not spec.submodule_search_locations:
            problems.append(f"Python package {card_file['package']}: not installed")
        else:
            root = Path(next(iter(spec.submodule_search_locations))).parent
            sources.append(root / card_file["path"])
    return sources


def _mismatch(path: Path, card_file: Mapping[str, Any]) -> str | None:
    """What is wrong with a file's size or hash, or None when it is as the card says."""
    size = path.stat().st_size
    if card_file.get("bytes") and size != card_file["bytes"]:
        return f"holds {size} bytes, expected {card_file['bytes']}"
    for kind in ("sha256", "md5"):
        if card_file.get(kind):
            with open(path, "rb") as handle:
                digest = hashlib.file_digest(handle, kind).hexdigest()
            if digest != card_file[kind]:
                return f"{kind} is {digest}, expected {card_file[kind]}"
    return None


def _copy(source: Path, dest: Path, card_file: Mapping[str, Any], problems: list[str]) -> bool:
    try:
        with atomic_path(dest) as temporary:
            shutil.copyfile(source, temporary)
            _require(temporary, card_file)
    except (OSError, _WrongBytesError) as error:
        problems.append(f"{source}: {error}")
        return False
    return True


class _WrongBytesError(Exception):
    """A copy arrived whole but is not the file the card describes."""


def _require(path: Path, card_file: Mapping[str, Any]) -> None:
    wrong = _mismatch(path, card_file)
    if wrong is not None:
        raise _WrongBytesError(wrong)


def _download(url: str, dest: Path, card_file: Mapping[str, Any], problems: list[str]) -> bool:
    """Download to ``<dest>.part``, check, rename; wrong bytes are not asked for again."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    part = dest.with_name(f"{dest.name}.part")
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _receive(url, part)
            _require(part, card_file)
            os.replace(part, dest)
            return True
        except _WrongBytesError as error:
            problems.append(f"{url}: {error}")
            return False
        except (OSError, urllib.error.URLError, ValueError) as error:
            problems.append(f"{url}: attempt {attempt} of {_ATTEMPTS}: {error}")
            if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500:
                return False
            if attempt < _ATTEMPTS:
                time.sleep(2.0 ** (attempt - 1))
        finally:
            part.unlink(missing_ok=True)
    return False


def _receive(url: str, part: Path) -> None:
    if not url.startswith(("https://", "http://")):
        raise ValueError("only http and https addresses are allowed")
    request = urllib.request.Request(url, headers={"User-Agent": "georecon"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as reply, open(part, "wb") as handle:
        shutil.copyfileobj(reply, handle, _BLOCK)
        announced = reply.headers.get("Content-Length")
        if announced is not None and handle.tell() != int(announced):
            raise OSError(f"connection ended after {handle.tell()} of {announced} bytes")
        handle.flush()
        os.fsync(handle.fileno())
