"""Audit: every number of every table followed home and computed again, now.

:func:`audit` walks the chain of every cell (:mod:`georecon.records.chain`), re-hashes every file
on it once, recomputes each cell from the stored predictions, and checks records, tables, splits
and equal conditions. It trains nothing and trusts no file: what cannot be read is a finding.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from georecon.audit.conditions import check_code, check_columns, check_kernels, check_splits
from georecon.audit.files import check_files, claims_by_path, hash_files
from georecon.audit.findings import (
    DIFFERS,
    KINDS,
    MISSING,
    NOT_COMPARABLE,
    NOTES,
    REPRODUCED,
    Context,
    Finding,
)
from georecon.audit.paper import PaperComparison, compare
from georecon.audit.records import WantedRecords, check_records, wanted_records
from georecon.audit.table_texts import check_table
from georecon.audit.values import (
    Estimate,
    Recomputed,
    check_curves,
    check_encoders,
    check_predictions,
    recompute_cells,
)
from georecon.experiments.experiments import Experiments
from georecon.records.chain import Fault, read_graph, rerun_command
from georecon.records.record import GitState, git_state, versions
from georecon.records.untrusted import MISFORMED
from georecon.reporting.expected import Expected

INTACT, INCOMPLETE, BROKEN = "intact", "incomplete", "broken"
_SHOWN = 5
_ORDER = (DIFFERS, MISSING, NOT_COMPARABLE)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Hashes:
    """How many files were hashed again, and their size."""

    files: int
    bytes: int


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
        hashed: files re-hashed.
        seconds: how long it took.
        code: commit of the auditing code.
        versions: of the packages it ran with.
    """

    edition: str
    status: str
    cells: dict[str, Verdict]
    findings: list[Finding]
    tables_missing: list[str]
    hashed: Hashes
    seconds: float
    code: GitState
    versions: dict[str, str]

    def counts(self) -> dict[str, int]:
        """Number of cells by verdict."""
        verdicts = [cell.verdict for cell in self.cells.values()]
        names = (REPRODUCED, *_ORDER)
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
        return (
            f"audit of {self.edition}: {self.status}; {len(self.cells)} cells: {verdicts}; "
            f"{self.hashed.files} files ({size:.0f} MB) re-hashed"
        )

    def as_json(self) -> dict[str, Any]:
        """JSON-ready, with what each kind of finding means for a cell."""
        document = asdict(self)
        document["code"]["versions"] = document.pop("versions")
        for cell in document["cells"].values():
            cell["paper"] = {key: v for key, v in cell["paper"].items() if v is not None}
        return document | {"counts": self.counts(), "kinds": KINDS}


def audit(
    root: Path,
    experiments: Experiments,
    expected: Mapping[str, Expected],
    *,
    bundle: bool = False,
) -> Audit:
    """Audit the tables of one edition.

    Args:
        root: working folder with ``results`` and ``resources``, or an unpacked bundle.
        experiments: runs and tables of the configuration that the numbers must be of.
        expected: the paper's public numbers by table, from
            ``georecon.reporting.expected.load_expected``.
        bundle: the folder is an unpacked bundle (see ``findings.Context``).
    """
    started = time.monotonic()
    graph = read_graph(root, experiments.edition)
    context = Context(root, experiments, graph, bundle)
    hashed = hash_files(root, claims_by_path(context))
    found, wanted = Recomputed(), wanted_records(context)
    checks = [
        _graph_faults(context, graph.faults),
        check_files(context, hashed),
        check_records(context, wanted),
        check_splits(context),
        check_encoders(context),
        check_predictions(context, found),
        check_curves(context),
        check_code(context),
    ]
    for table in [name for name in graph.tables if name in experiments.config.tables]:
        checks += [
            recompute_cells(context, found, table),
            check_table(context, table),
            check_columns(context, table),
            check_kernels(context, table),
        ]
    findings = [finding for check in checks for finding in _guarded(check)]
    findings = _placed(context, findings, wanted)
    missing = [name for name in experiments.config.tables if name not in graph.tables]
    breaks = any(finding.breaks for finding in findings)
    sizes = [entry.bytes for entry in hashed.values() if entry is not None]
    return Audit(
        edition=experiments.edition,
        status=BROKEN if breaks else INCOMPLETE if missing else INTACT,
        cells=_verdicts(context, findings, found, expected),
        findings=findings,
        tables_missing=missing,
        hashed=Hashes(files=len(sizes), bytes=sum(sizes)),
        seconds=round(time.monotonic() - started, 2),
        code=git_state(),
        versions=versions(),
    )


def _guarded(check: Iterable[Finding]) -> Iterator[Finding]:
    """A check that meets values of another form than this code writes, or no file where the
    configuration asks for one, ends in a finding.
    """
    try:
        yield from check
    except FileNotFoundError as error:
        path = str(error.filename).replace(f"{Path.cwd()}/", "")
        text = "is not there, and the configuration asks for it"
        yield Finding(kind="file missing", path=path, text=text)
    except MISFORMED as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = trace.tb_frame.f_code.co_name if trace is not None else "audit"
        text = f"a file has another form than this code writes ({where}: {error!r:.200})"
        yield Finding(kind="record unreadable", path="results", text=text)


def _graph_faults(context: Context, faults: Iterable[Fault]) -> Iterator[Finding]:
    for fault in faults:
        kind = fault.kind if fault.kind in KINDS else "file unreadable"
        if kind != "record missing" or fault.path in context.scope:
            yield Finding(kind=kind, path=fault.path, text=fault.text)


def _placed(context: Context, findings: Iterable[Finding], wanted: WantedRecords) -> list[Finding]:
    """Findings with the cells that they concern."""
    chains = {
        cell.path: {link.path for link in context.graph.chain(cell.path)} | {*cell.parents}
        for cell in context.graph.cells()
    }
    placed = []
    for finding in dict.fromkeys(findings):
        places = set(finding.touches or (finding.path,))
        if finding.path in wanted and finding.path not in context.graph.records:
            places |= {*wanted[finding.path][1]}
        cells = tuple(cell for cell, chain in chains.items() if chain & places or cell in places)
        placed.append(replace(finding, cells=cells))
    return placed


def _verdicts(
    context: Context,
    findings: Iterable[Finding],
    found: Recomputed,
    expected: Mapping[str, Expected],
) -> dict[str, Verdict]:
    """Verdict of every cell: that of its worst finding, or reproduced."""
    concerned: dict[str, list[Finding]] = {}
    for finding in findings:
        for place in finding.cells:
            concerned.setdefault(place, []).append(finding)
    cells: dict[str, Verdict] = {}
    edition = context.graph.edition
    for cell in context.graph.cells():
        own = concerned.get(cell.path, [])
        worst = min((_ORDER.index(KINDS[finding.kind]) for finding in own), default=None)
        reasons = [f"{f.kind}: {f.path}: {f.text}" for f in own]
        verdict = REPRODUCED if worst is None else _ORDER[worst]
        if cell.value is None and not own:
            verdict, reasons = MISSING, [str(cell.reason)]
        cells[cell.path] = Verdict(
            verdict=verdict,
            why=reasons,
            value=cell.value,
            std=cell.std,
            n=cell.n,
            unit=cell.unit,
            recomputed=found.cells.get(cell.path),
            paper=compare(cell, expected.get(cell.table), edition),
            rerun=rerun_command(edition, cell.path),
        )
    return cells
