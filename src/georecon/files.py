"""Files that are either whole or absent: atomic writing, hashing, JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


_FORGOTTEN = 86400.0  # age at which what another machine's process left counts as left [s]
_OWNER = re.compile(r"\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.(tmp|old)(\.\w+)?")
_NAMELESS = re.compile(r"\.[0-9a-f]{8}\.(tmp|old)(\.\w+)?")  # of earlier versions


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success fsync it and rename it into place.

    The file's mode is that of any new file here, whatever the program that wrote it made of it:
    safetensors, for one, lets nobody else read its files.

    Args:
        path: final path of a single file; its folder is created.

    Yields:
        The temporary path to write to. On any exception it is removed and ``path`` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    temporary = temporary_path(path)
    try:
        yield temporary
        _follow_umask(temporary)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """A new name beside a path, which says whose it is: machine and process."""
    owner = f"{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return path.parent / f".{path.name}.{owner}.tmp"


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of earlier attempts at a file or folder.

    Those of a process that lives are never touched. Whether one of another machine lives cannot be
    known: what it left goes when nothing in it has changed for a day.
    """
    prefix = f".{path.name}"
    for entry in os.scandir(path.parent):
        if not entry.name.startswith(prefix):
            continue
        rest = entry.name[len(prefix) :]
        owner = _OWNER.fullmatch(rest)
        if owner is None and not _NAMELESS.fullmatch(rest):
            continue
        if owner is not None and owner["host"] == _host():
            left = not _lives(int(owner["pid"]))
        else:
            left = time.time() - _last_change(Path(entry.path)) > _FORGOTTEN
        if left and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        elif left:
            Path(entry.path).unlink(missing_ok=True)


def _host() -> str:
    """Where this process has its number, in eight digits: the machine or, in it, the container."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        numbers = ""
    return hashlib.sha256(f"{socket.gethostname()} {numbers}".encode()).hexdigest()[:8]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _last_change(path: Path) -> float:
    """Time of the last change of a file or of anything in a folder; now for one that has gone."""
    try:
        found = [path.stat().st_mtime, *(each.stat().st_mtime for each in path.glob("*"))]
    except FileNotFoundError:
        return time.time()
    return max(found)


def full_disk(error: BaseException) -> str | None:
    """A sentence for an error that says that a disk or quota is full; None for any other."""
    named = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not named and "No space left on device" not in str(error):  # Rust's libraries
        return None
    file = getattr(error, "filename", None)
    where = f" while writing {file}" if file else ""
    return (
        f"the disk or your quota is full{where}; nothing half-written stays at a final path: make "
        "room, then the same command again"
    )


def _follow_umask(path: Path) -> None:
    """Give a file the mode that ``open`` gives a new one: what the umask, or the folder, allows."""
    if stat.S_IMODE(path.stat().st_mode) != 0o600:  # mkstemp's mode; others come from open
        return
    probe = path.with_name(f"{path.name}.mode")
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        path.chmod(stat.S_IMODE(probe.stat().st_mode))
    finally:
        probe.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically: sorted keys, two-space indent, NaN refused (``ValueError``)."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """What :func:`write_json` writes."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes as 64 hex digits, in constant memory."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys, no spaces): a digest of settings."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
