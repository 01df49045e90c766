"""manifest.json of a store: what is in it, where it came from, and the hash of every array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from georecon.data.molecules import Rejected
from georecon.errors import DataError
from georecon.files import read_json, sha256_json

FORMAT_VERSION = 2
"""Raised with every change of the layout; stores of another version are refused, and made again."""
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a store's molecules came from.

    Holds no times and no folders of this machine, so that equal input gives equal bytes.

    Attributes:
        source: name among the dataset card's sources.
        target: the one file that the store is of; None for all.
        roles: raw files in the order of their molecules' ids.
        raw: name, bytes, sha256 of each role's file, and its package, path or member.
    """

    source: str = ""
    target: str | None = None
    roles: tuple[str, ...] = ()
    raw: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Molecules and their atoms, and records that were left out."""

    molecules: int
    atoms: int
    rejected: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayFile:
    """One ``.npy`` file: hash, size, and the type and shape that its header must give."""

    sha256: str
    bytes: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a store says of itself.

    Attributes:
        dataset: name of the dataset card.
        source: where the molecules came from.
        units: unit of each label, of ``pos`` and of ``forces``.
        counts: of molecules, atoms and records left out.
        rejected: the records that were left out.
        elements: atomic numbers that occur, increasing.
        files: arrays by file name.
        isolated_atoms: energies of frames of isolated atoms, by label and element.
    """

    dataset: str
    source: Source
    units: Mapping[str, str]
    counts: Counts
    rejected: tuple[Rejected, ...]
    elements: tuple[int, ...]
    files: Mapping[str, ArrayFile]
    isolated_atoms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Identity of the data: a digest over the hashes of all arrays."""
        return sha256_json({name: file.sha256 for name, file in self.files.items()})

    def as_json(self) -> dict[str, Any]:
        """Content of the file."""
        known = asdict(self)
        if not self.isolated_atoms:
            del known["isolated_atoms"]
        return known | {"format_version": FORMAT_VERSION, "sha256": self.sha256}

    @classmethod
    def read(cls, store: Path, *, verify: bool = False) -> Manifest:
        """The manifest of a store's folder.

        Args:
            store: the folder.
            verify: compare its sha256 with its list of files.

        Raises:
            DataError: missing, of another version or form, or (with ``verify``) not consistent.
        """
        file = store / MANIFEST
        try:
            content = read_json(file)
        except (OSError, ValueError) as error:
            raise DataError(file, None, f"no readable store here ({error})") from error
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise DataError(
                file,
                None,
                f"store format {version}, this code reads {FORMAT_VERSION}; delete {store} and "
                "run the same target again to make it anew from the raw files",
            )
        try:
            found = cls(
                dataset=content["dataset"],
                source=_source(content["source"]),
                units=content["units"],
                counts=Counts(**content["counts"]),
                rejected=tuple(Rejected(**entry) for entry in content["rejected"]),
                elements=tuple(content["elements"]),
                files={name: _array(entry) for name, entry in content["files"].items()},
                isolated_atoms=content.get("isolated_atoms", {}),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(file, None, f"no whole manifest ({error!r})") from error
        if verify and found.sha256 != content["sha256"]:
            raise DataError(file, None, "its sha256 does not match its file list")
        return found


def _source(entry: Mapping[str, Any]) -> Source:
    return Source(**{**entry, "roles": tuple(entry.get("roles", ()))})


def _array(entry: Mapping[str, Any]) -> ArrayFile:
    return ArrayFile(**{**entry, "shape": tuple(entry["shape"])})
