"""The paper's public numbers, from ``reports/expected``: one file a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from georecon.errors import ConfigError
from georecon.experiments.yaml_files import read_yaml
from georecon.files import sha256_json
from georecon.units import UNIT_DISPLAY

STATUS = ("unknown", "weak", "partial")


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicNumber:
    """One number that somebody has published.

    Attributes:
        what: what it is of.
        relation: "=", or "<" or ">" where only a bound is known.
        value: the number, in ``unit``.
        unit: empty or "1" without one.
        source: where it is written.
        tolerance: largest distance at which a number of ours agrees; None if it decides nothing.
        verdict: what it may be used for.
        note: a caution; empty without one.
        row: of the table's cell that it belongs to; None where it belongs to no one cell.
        column: likewise.
    """

    what: str
    relation: str
    value: float
    unit: str
    source: str
    tolerance: float | None
    verdict: str
    note: str
    row: str | None = None
    column: str | None = None

    def text(self) -> str:
        """What, value, unit, source, what it may be used for."""
        unit = "" if self.unit in ("", "1") else f" {UNIT_DISPLAY.get(self.unit, self.unit)}"
        relation = "" if self.relation == "=" else f"{self.relation} "
        note = f" {self.note}" if self.note else ""
        return f"{self.what}: {relation}{self.value}{unit} ({self.source}).{note}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimTest:
    """Which cells of its table decide a claim; their numbers are better when smaller.

    Attributes:
        better: row that the claim says is better.
        than: than this row.
        varies: instead of both: that the rows of an ablation differ, its best from its worst.
        quantity: "energy" or "force" where rows have both; empty otherwise.
        columns: keys of columns; all that have numbers if empty.
    """

    better: str = ""
    than: str = ""
    varies: bool = False
    quantity: str = ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicClaim:
    """A sentence of the paper, where it stands, and what decides it here."""

    text: str
    source: str
    tests: tuple[ClaimTest, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What is publicly known of one of the paper's tables.

    Attributes:
        table: its name here.
        status: of ``STATUS``.
        reason: why no more is known.
        sources: where was looked.
        numbers: of the paper.
        claims: of the paper.
        context: numbers of other papers, for orientation.
    """

    table: str
    status: str
    reason: str
    sources: tuple[str, ...]
    numbers: tuple[PublicNumber, ...]
    claims: tuple[PublicClaim, ...]
    context: tuple[PublicNumber, ...]


def load_expected(folder: Path) -> dict[str, Expected]:
    """The paper's public numbers by table.

    Raises:
        ConfigError: a file lacks a key, has an unknown one or an unknown status.
    """
    return {path.stem: _read(path) for path in sorted(folder.glob("*.yaml"))}


def expected_digest(expected: Mapping[str, Expected]) -> str:
    """Digest of all of them, for records."""
    return sha256_json({table: asdict(entry) for table, entry in expected.items()})


def _read(path: Path) -> Expected:
    entry = read_yaml(path)
    groups = {"numbers": PublicNumber, "claims": PublicClaim, "context": PublicNumber}
    wrong = _wrong_keys(Expected, entry, "")
    for name, kind in groups.items():
        for item in entry.get(name) or []:
            wrong += _wrong_keys(kind, item, f"{name}.")
    for claim in entry.get("claims") or []:
        for item in claim.get("tests") or []:
            wrong += _wrong_keys(ClaimTest, item, "claims.tests.")
    if wrong:
        raise ConfigError(f"{path.name}: {', '.join(dict.fromkeys(wrong))}")
    if entry["status"] not in STATUS or entry["table"] != path.stem:
        raise ConfigError(
            f"{path.name}: table is {entry['table']!r} and status {entry['status']!r}; "
            f"allowed: {path.stem!r}, and one of {', '.join(STATUS)}"
        )
    claims = [
        {**claim, "tests": tuple(ClaimTest(**_with_tuples(item)) for item in claim["tests"])}
        for claim in entry["claims"]
    ]
    entry = {**entry, "claims": claims}
    made = {name: tuple(kind(**item) for item in entry[name]) for name, kind in groups.items()}
    return Expected(**entry | made | {"sources": tuple(entry["sources"])})


def _with_tuples(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}


def _wrong_keys(kind: type, entry: Mapping[str, Any], place: str) -> list[str]:
    """Keys of a mapping that a dataclass needs and lacks, or does not know."""
    known = {field.name: field.default is MISSING for field in fields(kind)}
    lacks = [f"missing {place}{key}" for key, must in known.items() if must and key not in entry]
    return lacks + [f"unknown {place}{key}" for key in entry if key not in known]
