"""Re-hash every file behind a number and compare with all that was recorded of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from georecon.audit.findings import Context, Finding
from georecon.files import sha256_file
from georecon.records.chain import KINDS
from georecon.records.read import Claim

LEFT_OUT = ("raw", "array", "model", "outputs")
"""Kinds of files that a bundle leaves out; their recorded hashes stay."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """Size and hash of a file as it is now."""

    bytes: int
    sha256: str


def hash_files(root: Path, names: Iterable[str]) -> dict[str, Hashed | None]:
    """Hash each file once, several at a time; None for one that is not there."""

    def one(name: str) -> Hashed | None:
        path = root / name
        return Hashed(path.stat().st_size, sha256_file(path)) if path.is_file() else None

    unique = list(dict.fromkeys(names))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return dict(zip(unique, pool.map(one, unique), strict=True))


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
