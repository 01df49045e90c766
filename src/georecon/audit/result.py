"""What an audit says: a verdict for every cell and claim, findings, and the weakest links."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from georecon.audit.depth import Depth
from georecon.audit.findings import (
    DIFFERS,
    KINDS,
    MISSING,
    NOT_COMPARABLE,
    NOTES,
    REPRODUCED,
    Finding,
)
from georecon.audit.paper import PaperComparison
from georecon.audit.values import Estimate
from georecon.audit.weakest import WeakLink
from georecon.records.record import GitState
from georecon.reporting.costs import Costs

INTACT, INCOMPLETE, BROKEN = "intact", "incomplete", "broken"
_SHOWN = 5
ORDER = (DIFFERS, MISSING, NOT_COMPARABLE)
"""Verdicts but "reproduced", the worst first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What an audit says of one cell.

    Attributes:
        verdict: "reproduced", "differs", "missing" or "not comparable".
        why: each finding that concerns it, or the reason why it is empty.
        value: of the table; ``std``, ``n`` and ``unit`` likewise.
        recomputed: from the stored predictions or estimates; None where that cannot be.
        paper: the paper's number beside it.
        rerun: command line that computes its runs again.
        files: what a reader may want to open of its chain.
    """

    verdict: str
    why: list[str]
    value: float | None
    std: float | None
    n: int | None
    unit: str
    recomputed: Estimate | None
    paper: PaperComparison
    rerun: str
    files: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hashes:
    """How many files were looked at, their size, and how many had their hash kept from before."""

    files: int
    bytes: int
    kept: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimVerdict:
    """What an audit says of a claim of the paper.

    Attributes:
        claim: of the paper; ``compared`` are the rows that decide it, in words.
        table: that decides it.
        found: what its cells say of it.
        verdict: the worst of its cells, or "missing" without any.
        cells: how many there are.
    """

    claim: str
    compared: str
    table: str
    found: str
    verdict: str
    cells: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        edition: name of the edition.
        status: "broken" if any finding breaks a chain, else "incomplete" if a table of the
            configuration has not been made, else "intact".
        cells: verdicts by ``<table>/<row>/<column>``.
        findings: everything that is wrong, and notes.
        tables_missing: tables of the configuration that have not been made.
        depth: how deep it went.
        checked: what was computed again beyond files and tables, as sentences.
        unchecked: what could not be checked, and why, likewise.
        weakest: the five weakest links, checked or not.
        claims: verdicts on the paper's claims.
        hashed: files re-hashed.
        costs: what the edition took, as its report says; None without that.
        seconds: how long it took.
        code: commit of the auditing code.
        versions: of the packages it ran with.
    """

    edition: str
    status: str
    cells: dict[str, Verdict]
    findings: list[Finding]
    tables_missing: list[str]
    depth: Depth
    checked: list[str]
    unchecked: list[str]
    weakest: list[WeakLink]
    claims: list[ClaimVerdict]
    hashed: Hashes
    costs: Costs | None
    seconds: float
    code: GitState
    versions: dict[str, str]

    def counts(self) -> dict[str, int]:
        """Number of cells by verdict."""
        verdicts = [cell.verdict for cell in self.cells.values()]
        names = (REPRODUCED, *ORDER)
        return {name: verdicts.count(name) for name in names if name in verdicts}

    def lines(self) -> Iterator[str]:
        """What to say at a terminal, the outcome last."""
        for kind in KINDS:
            breaks = [f for f in self.findings if f.breaks and f.kind == kind]
            for finding in breaks[:_SHOWN]:
                yield f"{finding.kind}: {finding.path}: {finding.text}"
            if len(breaks) > _SHOWN:
                yield f"{kind}: and {len(breaks) - _SHOWN} more"
        for kind in NOTES:
            notes = [finding for finding in self.findings if finding.kind == kind]
            if notes:
                yield (
                    f"{kind.upper()}: {len(notes)} times, so the numbers are not comparable; "
                    f"first: {notes[0].path}: {notes[0].text}"
                )
        if self.tables_missing:
            yield f"tables not made: {', '.join(self.tables_missing)}"
        yield f"{self.outcome()}, {self.seconds:.1f} s"

    def outcome(self) -> str:
        """Everything in one line."""
        verdicts = ", ".join(f"{number} {name}" for name, number in self.counts().items())
        size = self.hashed.bytes / 1e6
        kept = f", {self.hashed.kept} of them unchanged since an earlier audit" * bool(
            self.hashed.kept
        )
        return (
            f"audit of {self.edition}: {self.status} at depth {self.depth.name}; "
            f"{len(self.cells)} cells: {verdicts}; "
            f"{self.hashed.files} files ({size:.0f} MB) hashed{kept}"
        )

    def as_json(self) -> dict[str, Any]:
        """JSON-ready, with what each kind of finding means for a cell."""
        document = asdict(self)
        document["code"]["versions"] = document.pop("versions")
        for cell in document["cells"].values():
            cell["paper"] = {key: v for key, v in cell["paper"].items() if v is not None}
        return document | {"counts": self.counts(), "kinds": KINDS}
