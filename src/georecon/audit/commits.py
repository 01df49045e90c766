"""Commits, lock files and packages that records name, held against the repository of the code.

A record says which commit made it, the digest of the sources that its numbers depend on, the hash
of the lock file, and the versions of packages. The repository says whether there is such a commit,
what digest its tree gives, which lock file lies in it and what that pins.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from georecon.audit.configuration import CONFIG, EXPECTED, check_configuration
from georecon.audit.findings import CODE, Context, Finding
from georecon.audit.git_objects import files_of, git
from georecon.errors import DataError
from georecon.experiments.settings import ET, modules_of_kind
from georecon.files import sha256_file
from georecon.records.code import closure, code_digest, has_code, meaning_digest
from georecon.records.read import Record

_LOCK = "envs/lock.txt"
_PARTS = ("src", "workflow", _LOCK, CONFIG, EXPECTED)
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([\w.!-]+)", re.MULTILINE)
_WITH_ENCODER = ("finetune", "smoothness", "nve")
"""Stages whose code is also that of their kind of encoder (``georecon.experiments.runs``)."""


def digest_modules(record: Record) -> tuple[str, ...] | None:
    """Modules beside its stage's own that a record's digest covers; None for an unsound record."""
    objective = record.settings.get("objective")
    if record.stage == "pretrain":
        named = isinstance(objective, str) and objective.isidentifier()
        return (f"georecon.objectives.{objective}",) if named else None
    if record.stage == "figure":  # its notebook draws; as the rule says
        return ("georecon.reporting.figures.shared",)
    encoder = record.settings.get("encoder")
    if record.stage in _WITH_ENCODER and isinstance(encoder, dict):
        kind = encoder.get("kind", ET)
        return modules_of_kind(kind) if isinstance(kind, str) and kind.isidentifier() else None
    return ()


def digest_here(record: Record) -> str | None:
    """What the code digest of a record would be with the sources here; None where it has none."""
    stage = record.stage
    if not has_code(stage) or not isinstance(record.settings.get("code"), str):
        return None
    modules = digest_modules(record)
    if modules is None:
        return None
    with suppress(FileNotFoundError):  # an objective that is not there made nothing here
        return code_digest(stage, *modules)
    return "no such objective"


@dataclass(slots=True)
class _Tree:
    """Sources, configuration and lock file of a commit, unpacked.

    Attributes:
        folder: where they are.
        compared: first file of a stage's code that is another one here, or None; by its modules.
    """

    folder: Path
    compared: dict[tuple[str, ...], str | None] = field(default_factory=dict)

    def other_file(self, stage: str, modules: tuple[str, ...]) -> str | None:
        """The first file of a stage's code that says something else here than in this tree.

        A digest is over the files of a stage that say the same; what they import follows from what
        they say.
        """
        key = (stage, *modules)
        if key not in self.compared:
            names = (path.relative_to(CODE).as_posix() for path in closure(*key))
            self.compared[key] = next((name for name in names if not self._same(name)), None)
        return self.compared[key]

    def _same(self, name: str) -> bool:
        here, there = CODE / name, self.folder / name
        if not there.is_file():
            return False
        if here.read_bytes() == there.read_bytes():
            return True
        try:
            return meaning_digest(here) == meaning_digest(there)
        except (SyntaxError, UnicodeDecodeError):
            return False

    def lock(self) -> str | None:
        """Hash of the lock file."""
        path = self.folder / _LOCK
        return sha256_file(path) if path.is_file() else None

    def pins(self) -> dict[str, str]:
        """Versions by package, as the lock file names them."""
        path = self.folder / _LOCK
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return {_normal(name): version for name, version in _PIN.findall(text)}


def check_commits(context: Context) -> Iterator[Finding]:
    """Each commit is there, and its tree gives the digests, lock file and packages recorded."""
    by_commit: dict[str, list[Record]] = {}
    for record in context.runs():
        if record.code.commit is not None and record.code.dirty is False:
            by_commit.setdefault(record.code.commit, []).append(record)
    if not by_commit:
        return
    if not _is_checkout(context.code):
        context.cannot("commits: the auditing code is in no git checkout")
        return
    partial = (
        context.bundle or git(context.code, "rev-parse", "--is-shallow-repository") != b"false\n"
    )
    with tempfile.TemporaryDirectory(prefix="georecon-commits-") as place:
        for number, (commit, records) in enumerate(by_commit.items()):
            try:
                tree = _unpack(context.code, commit, Path(place, str(number)))
            except DataError as error:
                yield _no_commit(records, str(error))
                continue
            if tree is not None:
                yield from _against_tree(commit, tree, records)
                yield from check_configuration(context, commit, tree.folder, records)
            elif all(record.imported is not None for record in records):
                context.cannot(
                    f"commit {commit:.12} of runs that were taken from published results: not in "
                    "this checkout"
                )
            elif partial:
                context.cannot(
                    f"commit {commit:.12}: not in this checkout, which has not all of them"
                )
            else:
                text = f"the repository has no commit {commit:.40}, which {records[0].path} names"
                yield _no_commit(records, text)


def _no_commit(records: list[Record], text: str) -> Finding:
    touches = tuple(record.path for record in records)
    return Finding(kind="no such commit", path=records[0].path, text=text, touches=touches)


def _against_tree(commit: str, tree: _Tree, records: list[Record]) -> Iterator[Finding]:
    for record in records:
        here, modules = digest_here(record), digest_modules(record)
        if here is not None and modules is not None and record.settings.get("code") == here:
            other = tree.other_file(record.stage, modules)  # other digests than here: check_code
            if other is not None:
                text = f"its code ({here}) is not that of commit {commit:.12}: {other} is another"
                yield Finding(kind="commit of other code", path=record.path, text=text)
        if record.lock_sha256 != tree.lock():
            text = (
                f"says that the lock file is {record.lock_sha256!s:.16}…, in commit "
                f"{commit:.12} it is {tree.lock()!s:.16}…"
            )
            yield Finding(kind="other lock file", path=record.path, text=text)
    yield from _packages(records, tree.pins())


def _packages(records: list[Record], pins: dict[str, str]) -> Iterator[Finding]:
    """Packages are those of the lock file.

    An environment without it has other packages in all records: said. Two environments under one
    lock file cannot be both of it: a finding that breaks.
    """
    for name in sorted({name for record in records for name in record.versions}):
        pin = pins.get(_normal(name))
        found = {r.path: str(r.versions[name]) for r in records if name in r.versions}
        other = {path: v for path, v in found.items() if pin and v.partition("+")[0] != pin}
        if not other:
            continue
        mixed = len({version.partition("+")[0] for version in found.values()}) > 1
        path, version = next(iter(other.items()))
        text = f"{len(other)} records say {name} {version:.40}, the lock file {pin}"
        text += "; others have that or another one" if mixed else ""
        kind = "mixed packages" if mixed else "other packages"
        yield Finding(kind=kind, path=path, text=text, touches=tuple(other), breaks=mixed)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# ---- git ---------------------------------------------------------------------------------------


def _is_checkout(folder: Path) -> bool:
    top = git(folder, "rev-parse", "--show-toplevel")
    return top is not None and Path(top.decode().strip()).resolve() == folder.resolve()


def _unpack(repository: Path, commit: str, folder: Path) -> _Tree | None:
    """Sources, configuration and lock file of a commit; None if there is no such commit.

    Raises:
        DataError: an object of the repository is not what its name says.
    """
    files = files_of(repository, commit, _PARTS)
    if files is None:
        return None
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return _Tree(folder)
