"""What a job takes from published results that a run starts from, in place of making it.

``--config start_from=bundle.zip``: :mod:`georecon.audit.start` verifies the bundle and lays what
jobs may take into a folder, which an environment variable names to them. A job takes outputs that
were made with its own settings, code and inputs, compared by content, never by name; whatever does
not fit is made here. The record stays that of whoever made the run, and says in ``imported`` from
which bundle it was taken.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from georecon.errors import DataError
from georecon.files import atomic_path, write_json
from georecon.keys import Json
from georecon.records.difference import difference
from georecon.records.read import Claim, Imported, Record, needed
from georecon.records.record import (
    LOG_VARIABLE,
    RECORD_VERSION,
    FileRecord,
    RunRecord,
    record_digest,
)
from georecon.records.untrusted import printable, read_strict_json

VARIABLE = "GEORECON_START"
"""Environment variable that names the folder of the results that a run starts from."""
INFO = "start.json"
"""In that folder: the bundle's name and sha256."""
STAGES = ("pretrain", "finetune", "smoothness", "nve", "xtb")
"""Stages whose jobs take what fits; all others are quick."""
_WEIGHTS = ("model", "outputs", "raw")


class _UnfitError(Exception):
    """Why a run of the bundle cannot stand for one of this configuration."""


def take(
    record: RunRecord, path: str, outputs: Mapping[str, str], say: Callable[[str], None]
) -> bool:
    """Take a job's outputs, log and record, if the run starts from results that have them.

    Args:
        record: of the job that begins, with its settings and inputs.
        path: where its record goes.
        outputs: files that it is to write, by their names in the record.
        say: takes a line on why it is made here.

    Returns:
        Whether they are there now.

    Raises:
        DataError: the folder of those results is gone.
    """
    place = os.environ.get(VARIABLE)
    if not place:
        return False
    start = Path(place)
    source = read_source(start)
    try:
        document = _fitting(start, record, path, outputs)
        found = Record.from_json(document, path)
        for claim in found.written().values():
            _copy(start, claim)
    except (DataError, _UnfitError) as reason:
        say(printable(f"made here, not taken from {source.name}: {reason}"))
        return False
    imported = asdict(source) | {"record": found.sha256}
    if "imported" in document:
        imported["earlier"] = document["imported"]
    whole = {**document, "imported": imported}
    write_json(path, whole | {"sha256": record_digest(whole)})
    return True


def read_source(start: Path) -> Imported:
    """Which bundle a folder is of.

    Raises:
        DataError: none.
    """
    info = read_strict_json(start / INFO)
    name, sha256 = (needed(info, key, str, INFO) for key in ("name", "sha256"))
    return Imported(name=name, sha256=sha256)


def _fitting(start: Path, record: RunRecord, path: str, outputs: Mapping[str, str]) -> Json:
    """The record of a run that was made as this one would be.

    Raises:
        _UnfitError: there is none.
        DataError: it is not readable.
    """
    if not (start / path).is_file():
        raise _UnfitError("it has no such run")
    document = read_strict_json(start / path, path)
    found = Record.from_json(document, path)
    if (found.stage, found.format_version) != (record.stage, RECORD_VERSION):
        raise _UnfitError("its record is of another stage or format")
    if found.sha256 != found.digest:
        raise _UnfitError("its record was edited")
    if found.settings.get("code") != record.settings.get("code"):
        raise _UnfitError("it was made by other code than is here")
    if (text := difference(found.settings, record.settings)) is not None:
        raise _UnfitError(f"it was made with other settings: {text}")
    theirs = {claim.path: claim.sha256 for claim in found.inputs.values()}
    own = {file.path: file.sha256 for file in record.inputs.values()}
    for name in sorted({*theirs, *own}):
        if theirs.get(name) != own.get(name):
            raise _UnfitError(f"it was made from another {name}")
    if {name: claim.path for name, claim in found.outputs.items()} != dict(outputs):
        raise _UnfitError("it wrote other files")
    if found.log is not None and found.log.path != os.environ.get(LOG_VARIABLE):
        raise _UnfitError("it wrote another log")
    for name, claim in found.written().items():
        if not (start / claim.path).is_file():
            hint = " (a bundle has it if it was written with bundle_weights=true)"
            raise _UnfitError(f"it has no {claim.path}{hint if name in _WEIGHTS else ''}")
    return document


def _copy(start: Path, claim: Claim) -> None:
    """Put a file of the bundle into its place here, whole and as its record says, or not at all."""
    with atomic_path(claim.path) as temporary:
        shutil.copyfile(start / claim.path, temporary)
        now = FileRecord.of(temporary)
        if (now.sha256, now.bytes) != (claim.sha256, claim.bytes):
            raise _UnfitError(f"its {claim.path} is not the file that its record names")
