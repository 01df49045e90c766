"""What a file is by its first bytes, where its name or its server says otherwise."""

from __future__ import annotations

from pathlib import Path

_HEAD = 1024
_MAGIC = {"gzip": b"\x1f\x8b", "bzip2": b"BZh", "zip": b"PK"}
_LFS = b"version https://git-lfs.github.com/spec/"
_PAGE = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title")


def head_of(path: Path) -> bytes:
    """The first bytes of a file."""
    with open(path, "rb") as handle:
        return handle.read(_HEAD)


def stands_for_another(head: bytes) -> str | None:
    """What a server sends in place of a file, in words; None where it may be the file itself.

    Args:
        head: the first bytes of the file.
    """
    if not head:
        return "an empty file"
    if head.startswith(_LFS):
        return "a Git LFS pointer, not the file it points to; take the file's own address"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<?xml") and (b"<html" in text or b"<error>" in text):
        return "an error page (XML)"
    if text.startswith(_PAGE) or (text.startswith(b"<!--") and b"<html" in text):
        return "an HTML page (a login, a warning or an error?)"
    return None


def not_compressed(path: Path, kind: str) -> str | None:
    """Why a file is not what its name says, ``gzip``, ``bzip2`` or ``zip``; None if it may be."""
    head = head_of(path)
    if head.startswith(_MAGIC[kind]):
        return None
    what = stands_for_another(head) or f"it starts with {head[:16]!r}"
    return f"is not {kind}, though its name says so: {what}"
