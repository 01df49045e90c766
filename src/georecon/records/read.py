"""A job's record read back: of the form that this package writes, or refused.

Nobody is believed here: a record may come from somebody else (:mod:`georecon.records.untrusted`).
What it says is checked by :mod:`georecon.audit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from georecon.errors import DataError
from georecon.records.record import GitState, record_digest
from georecon.records.untrusted import relative_path

T = TypeVar("T")


def known(value: Any, key: str, kind: type[T], file: str) -> T | None:
    """Value of a key of a JSON object; None where it is absent or null.

    Args:
        value: the object, as read from JSON.
        key: its key.
        kind: type that it must have; ``float`` takes whole numbers too, ``int`` no booleans.
        file: where it stands.

    Raises:
        DataError: of another type.
    """
    found = value.get(key) if isinstance(value, dict) else None
    if found is None:
        return None
    kinds = (int, float) if kind is float else (kind,)
    if not isinstance(found, kinds) or (isinstance(found, bool) and kind is not bool):
        raise DataError(file, key, f"is {found!r:.60}, expected {kind.__name__}")
    return found  # type: ignore[return-value]  # a whole number passes for a float


def needed(value: Any, key: str, kind: type[T], file: str) -> T:
    """The same of a key that must be there.

    Raises:
        DataError: absent, null or of another type.
    """
    found = known(value, key, kind, file)
    if found is None:
        raise DataError(file, key, f"is None, expected {kind.__name__}")
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What one file says about another: its hash and, in all but tables, its size."""

    path: str
    sha256: str
    bytes: int | None
    recorded_in: str


def read_claims(entries: Any, file: str, *, sized: bool = True) -> dict[str, Claim]:
    """File entries of a record (``{name: {path, bytes, sha256}}``) by name.

    Args:
        entries: as read from JSON.
        file: where they stand.
        sized: whether they say the size, as all but those of a table do.

    Raises:
        DataError: an entry has another form or names a path out of the folder.
    """
    if not isinstance(entries, dict):
        raise DataError(file, None, "lists its files in another form than this code writes")
    return {
        name: Claim(
            path=relative_path(needed(entry, "path", str, file), file),
            sha256=needed(entry, "sha256", str, file),
            bytes=needed(entry, "bytes", int, file) if sized else None,
            recorded_in=file,
        )
        for name, entry in entries.items()
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Length of a training run, the step whose weights it kept, and the processes that shared it.

    None for other jobs.
    """

    steps: int | None
    best_step: int | None
    best_score: float | None
    processes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """The bundle that a run was taken from (:mod:`georecon.records.start`): file name and hash."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a job computed on."""

    device: str | None
    name: str | None
    threads: int | None
    kernel: str | None
    instruction_set: str | None

    def arithmetic(self) -> str:
        """What the order of its sums depends on; nothing where that was not recorded."""
        known = (self.kernel and self.device, self.kernel, self.instruction_set)
        return " ".join(filter(None, known))


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """run.json of one job; what an older or shorter record does not say is None or empty.

    Attributes:
        path: the record's own file, relative to the working folder.
        format_version: of the record, ``georecon.records.record.RECORD_VERSION`` today.
        stage: name of the job's rule.
        settings: all that the job's numbers depend on.
        settings_sha256: digest of them that the record holds.
        seed: of the run.
        code: commit, and what differed from it.
        lock_sha256: hash of the environment's lock file.
        inputs: files read, by name.
        outputs: files written, by name.
        log: the job's log.
        compute: processor or GPU.
        versions: of packages.
        started: when, as ISO 8601 text; ``ended`` likewise.
        seconds: wall time [s].
        slurm: Slurm's number of the job.
        training: of a training run.
        final: measures at a training run's best step.
        fetched: of a raw file, what the lock file was to remember of it.
        imported: bundle that the run was taken from; None for one that was made here.
        sha256: digest of all else that the record holds.
        digest: what that digest is of the record as it was read.
    """

    path: str
    format_version: object
    stage: str
    settings: dict[str, Any]
    settings_sha256: str | None
    seed: int | None
    code: GitState
    lock_sha256: str | None
    inputs: Mapping[str, Claim]
    outputs: Mapping[str, Claim]
    log: Claim | None
    compute: Machine
    versions: Mapping[str, object]
    started: str
    ended: str
    seconds: float | None
    slurm: str | None
    training: Training
    final: Mapping[str, object] | None
    fetched: Mapping[str, object] | None
    imported: Imported | None
    sha256: str | None
    digest: str

    @classmethod
    def from_json(cls, content: dict[str, Any], path: str) -> Record:
        """The record that a file holds.

        Args:
            content: from ``read_strict_json``.
            path: of the file.

        Raises:
            DataError: a fact has another type than this package writes, or a path leaves the
                folder.
        """
        job, log = needed(content, "job", dict, path), None
        if job.get("log") is not None:
            log = read_claims({"log": job["log"]}, path)["log"]
        return cls(
            path=path,
            format_version=content.get("format_version"),
            stage=needed(content, "stage", str, path),
            settings=needed(content, "settings", dict, path),
            settings_sha256=known(content, "settings_sha256", str, path),
            seed=known(content, "seed", int, path),
            code=_code(known(content, "code", dict, path), path),
            lock_sha256=known(known(content, "environment", dict, path), "sha256", str, path),
            inputs=read_claims(content.get("inputs"), path),
            outputs=read_claims(content.get("outputs"), path),
            log=log,
            compute=_machine(known(content, "compute", dict, path), path),
            versions=known(content, "versions", dict, path) or {},
            started=known(content, "started", str, path) or "",
            ended=known(content, "ended", str, path) or "",
            seconds=known(content, "seconds", float, path),
            slurm=known(job, "slurm", str, path),
            training=_training(known(content, "training", dict, path), path),
            final=known(content, "final", dict, path),
            fetched=known(content, "fetched", dict, path),
            imported=_imported(known(content, "imported", dict, path), path),
            sha256=known(content, "sha256", str, path),
            digest=record_digest(content),
        )

    def written(self) -> dict[str, Claim]:
        """Outputs and log by name."""
        return {**self.outputs, **({"log": self.log} if self.log is not None else {})}


def _code(entry: Any, file: str) -> GitState:
    return GitState(
        commit=known(entry, "commit", str, file),
        dirty=known(entry, "dirty", bool, file),
        changed=tuple(map(str, known(entry, "changed", list, file) or ())),
        reason=known(entry, "reason", str, file),
    )


def _machine(entry: Any, file: str) -> Machine:
    return Machine(
        device=known(entry, "device", str, file),
        name=known(entry, "name", str, file),
        threads=known(entry, "threads", int, file),
        kernel=known(entry, "kernel", str, file),
        instruction_set=known(entry, "instruction_set", str, file),
    )


def _imported(entry: Any, file: str) -> Imported | None:
    if entry is None:
        return None
    return Imported(
        name=needed(entry, "name", str, file), sha256=needed(entry, "sha256", str, file)
    )


def _training(entry: Any, file: str) -> Training:
    return Training(
        steps=known(entry, "steps", int, file),
        best_step=known(entry, "best_step", int, file),
        best_score=known(entry, "best_score", float, file),
        processes=known(entry, "processes", int, file),
    )
