"""Files of a commit, read from git's own objects with nothing between.

``git archive`` and ``git show`` let a repository's settings have a say: replaced objects, filters,
attributes. And no command of git's looks, when it reads a file, whether its bytes are those that
its name is the hash of. Here every object is hashed, from the commit down to each file.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from georecon.errors import DataError

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TREE = re.compile(rb"tree ([0-9a-f]{40,64})\n")
_FOLDER, _FILES = b"40000", (b"100644", b"100755")


def git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints, or None where it fails.

    Args:
        folder: a checkout.
        *arguments: of git.
    """
    try:
        done = subprocess.run(
            _command(folder, *arguments),
            capture_output=True,
            check=False,
            timeout=60,
            env=_environment(),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _command(folder: Path, *arguments: str) -> list[str]:
    return ["git", "-C", str(folder), *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "GIT_NO_REPLACE_OBJECTS": "1"}


def files_of(repository: Path, commit: str, below: Sequence[str]) -> dict[str, bytes] | None:
    """Content of the files of a commit.

    Args:
        repository: a checkout.
        commit: its whole name.
        below: files and folders that are looked at, those that there are.

    Returns:
        By path; None if there is no such commit.

    Raises:
        DataError: an object is missing, or its bytes are not those that its name is the hash of.
    """
    if not _COMMIT.fullmatch(commit):
        return None
    with _objects(repository) as objects:
        head = objects.read(commit, "commit")
        if head is None:
            return None
        found = _TREE.match(head)
        if found is None:
            raise DataError(f"commit {commit}", None, "names no tree")
        return dict(_walk(objects, found[1].decode(), PurePosixPath(), below))


def _walk(
    objects: _Objects, tree: str, place: PurePosixPath, below: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    """Files of a tree that are, lie in, or lead to one of the places asked for."""
    for mode, name, entry in _entries(objects.need(tree, "tree"), len(tree) // 2):
        path = place / name
        inside = any(path.is_relative_to(wanted) for wanted in below)
        if mode == _FOLDER and (inside or any(path in PurePosixPath(w).parents for w in below)):
            yield from _walk(objects, entry, path, below)
        elif mode in _FILES and inside:
            yield path.as_posix(), objects.need(entry, "blob")


def _entries(tree: bytes, size: int) -> Iterator[tuple[bytes, str, str]]:
    """Mode, name and object of each entry of a tree: mode, blank, name, zero, hash."""
    while tree:
        head, _, rest = tree.partition(b"\0")
        mode, _, name = head.partition(b" ")
        text = name.decode("utf-8", "replace")
        if "/" in text or text in ("", ".", ".."):
            raise DataError("git", text, "is no name of a file")
        yield mode, text, rest[:size].hex()
        tree = rest[size:]


class _Objects:
    """Objects of a repository by name, each held against it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def need(self, name: str, kind: str) -> bytes:
        """An object that another one names."""
        found = self.read(name, kind)
        if found is None:
            raise DataError(f"{kind} {name}", None, "is not in the repository")
        return found

    def read(self, name: str, kind: str) -> bytes | None:
        """Content of an object; None if there is none of this name."""
        pipe, answer = self.process.stdin, self.process.stdout
        assert pipe is not None
        assert answer is not None
        pipe.write(name.encode() + b"\n")
        pipe.flush()
        head = answer.readline().decode("utf-8", "replace").split()
        if len(head) != 3:  # "<name> missing", or nothing where git itself stumbled
            return None
        content = answer.read(int(head[2]))
        answer.read(1)
        digest = hashlib.sha1 if len(name) == 40 else hashlib.sha256
        own = digest(f"{head[1]} {len(content)}".encode() + b"\0" + content).hexdigest()
        if (head[1], own) != (kind, name):
            text = f"its bytes are those of {head[1]} {own}: this repository was tampered with"
            raise DataError(f"{kind} {name}", None, text)
        return content


@contextmanager
def _objects(repository: Path) -> Iterator[_Objects]:
    with subprocess.Popen(
        _command(repository, "cat-file", "--batch"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
    ) as process:
        try:
            yield _Objects(process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait()
