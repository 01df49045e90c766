"""Raw files against their dataset cards, and the list of what was fetched against the records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from georecon import paths
from georecon.audit.files import Hashed
from georecon.audit.findings import Context, Finding
from georecon.data.cards import File
from georecon.data.raw.lock import KINDS, LOCK, Fetched, RawLock, digests
from georecon.errors import ConfigError, DataError
from georecon.keys import as_json
from georecon.records.read import Claim, Record


def check_raw_files(context: Context, hashed: Mapping[str, Hashed | None]) -> Iterator[Finding]:
    """Every fetched file has the hash of its card, and came from where the lock file says.

    Args:
        context: what to check.
        hashed: files as they are now.
    """
    lock = f"{paths.RAW}/{LOCK}"
    known: Mapping[str, Fetched] | None = None
    if not context.bundle:
        try:
            known = RawLock(context.root / lock).records()
        except DataError as error:
            yield Finding(kind="file unreadable", path=lock, text=str(error))
    for record in context.runs("fetch"):
        claim, dataset = record.outputs.get("raw"), str(record.settings.get("dataset"))
        if claim is None or claim.path.rpartition("/")[0] != f"{paths.RAW}/{dataset}":
            text = "says that it fetched a file, and names none of its dataset"
            yield Finding(kind="record of another run", path=record.path, text=text)
            continue
        try:
            file = context.experiments.data.raw_file(dataset, claim.path.rpartition("/")[2])
        except (ConfigError, KeyError):
            continue  # a file of another configuration; the records that use it say so
        yield from _against_card(context, claim, file, hashed.get(claim.path))
        if known is not None:
            yield from _against_lock(context, record, claim, file, known)


def _against_card(
    context: Context, claim: Claim, file: File, now: Hashed | None
) -> Iterator[Finding]:
    wanted = {kind: str(getattr(file, kind)) for kind in KINDS if getattr(file, kind)}
    if not wanted:
        if not file.computed:
            context.cannot(f"{claim.path}: its card gives no hash; it is what was fetched first")
        return
    found = {"sha256": now.sha256 if now else claim.sha256}
    others = [kind for kind in wanted if kind != "sha256"]
    if now is not None:
        found |= digests(context.root / claim.path, *others)
    elif "sha256" not in wanted:
        context.cannot(f"{claim.path}: not here, and its card gives no sha256")
    for kind, value in wanted.items():
        if kind in found and found[kind] != value:
            text = f"{kind} is {found[kind]}, its dataset card says {value}"
            yield Finding(kind="other raw file", path=claim.path, text=text)


def _against_lock(
    context: Context,
    record: Record,
    claim: Claim,
    file: File,
    known: Mapping[str, Fetched],
) -> Iterator[Finding]:
    path, key = f"{paths.RAW}/{LOCK}", claim.path.removeprefix(f"{paths.RAW}/")
    entry = known.get(key)
    if entry is None:
        text = f"has no entry for {key}, which {record.path} fetched"
        yield Finding(kind="other source", path=path, text=text, touches=(claim.path,))
        return
    found: Mapping[str, object] = as_json(entry)
    said = record.fetched or {}
    for name in ("url", "bytes", "sha256"):
        if said.get(name) != found[name]:
            text = (
                f"{key}: {name} is {found[name]!r:.80}, {record.path} says {said.get(name)!r:.80}"
            )
            yield Finding(kind="other source", path=path, text=text, touches=(claim.path,))
    if entry.sha256 != claim.sha256:
        text = (
            f"{key}: sha256 is {entry.sha256:.16}…, the file that was read has {claim.sha256:.16}…"
        )
        yield Finding(kind="other source", path=path, text=text, touches=(claim.path,))
    if not _is_source(entry.url, file, context.experiments.config.mirror):
        text = f"{key}: came from {entry.url!r:.80}, no source of its dataset card"
        yield Finding(kind="other source", path=path, text=text, touches=(claim.path,))


def _is_source(url: str, file: File, mirror: str | None) -> bool:
    """Whether a card, or a folder or mirror of the user's own, gives an address.

    Where the card has a hash, an older card may have had another address for the same bytes.
    """
    hashed = any(getattr(file, kind) for kind in KINDS)
    own = url.startswith("file:") or (mirror is not None and url.startswith(mirror))
    return hashed or own or url in file.urls or url == f"package:{file.path}"
