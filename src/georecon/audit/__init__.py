"""Audit: every number of every table followed home and computed again, now.

:func:`audit` walks the chain of every cell (:mod:`georecon.records.chain`), re-hashes every file
on it, recomputes each cell from the stored predictions, and holds records, tables, pages, splits
and conditions against what lies outside of them: configuration, dataset cards, git. Deeper, it
recomputes predictions from weights (:mod:`georecon.audit.weights`) and compares cells that were
trained again (:mod:`georecon.audit.again`). It trusts no file: what cannot be read is a finding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from georecon import paths
from georecon.audit.beside import beside
from georecon.audit.commits import check_commits
from georecon.audit.conditions import (
    check_code,
    check_columns,
    check_copies,
    check_kernels,
    note_imported,
)
from georecon.audit.depth import RECORDS, RERUN, Depth
from georecon.audit.files import (
    KNOWN,
    Hashed,
    KnownHashes,
    check_files,
    claims_by_path,
    hash_files,
)
from georecon.audit.findings import (
    CODE,
    KINDS,
    MISSING,
    OPENED,
    REPRODUCED,
    Context,
    Finding,
)
from georecon.audit.pages import check_pages
from georecon.audit.paper import compare
from georecon.audit.raw import check_raw_files
from georecon.audit.records import WantedRecords, check_records, wanted_records
from georecon.audit.result import (
    BROKEN,
    INCOMPLETE,
    INTACT,
    ORDER,
    Audit,
    ClaimVerdict,
    Hashes,
    Verdict,
)
from georecon.audit.splits import check_splits
from georecon.audit.strangers import check_strangers
from georecon.audit.table_texts import check_table
from georecon.audit.trainings import check_curves, check_encoders, check_models
from georecon.audit.values import Recomputed, check_predictions, recompute_cells
from georecon.audit.weakest import weakest_links
from georecon.errors import DataError
from georecon.experiments.experiments import Experiments
from georecon.records.chain import Fault, read_graph, rerun_command
from georecon.records.record import git_state, versions
from georecon.records.untrusted import MISFORMED
from georecon.reporting.claims import claim_cells
from georecon.reporting.costs import Costs, read_costs
from georecon.reporting.expected import Expected

__all__ = ["BROKEN", "INCOMPLETE", "INTACT", "Audit", "audit"]
Say = Callable[[str], None]
_SHALLOW = Depth()


def audit(
    root: Path,
    experiments: Experiments,
    expected: Mapping[str, Expected],
    *,
    bundle: bool = False,
    code: Path = CODE,
    depth: Depth = _SHALLOW,
    say: Say | None = None,
    since: float | None = None,
) -> Audit:
    """Audit the tables of one edition.

    Args:
        root: working folder with ``results`` and ``resources``, or an unpacked bundle.
        experiments: runs and tables of the configuration that the numbers must be of.
        expected: the paper's public numbers by table, from
            ``georecon.reporting.expected.load_expected``.
        bundle: the folder is an unpacked bundle (see ``findings.Context``).
        code: checkout that has the commits and the lock file.
        depth: how deep to go.
        say: takes a line of progress now and then.
        since: when the command that asks for it was started [s since 1970]; None: now.
    """
    started, since = time.monotonic(), time.time() if since is None else since
    graph = read_graph(root, experiments.edition)
    context = Context(root, experiments, graph, bundle, code, expected)
    folder = root / experiments.runs.folder(paths.AUDIT)
    known = KnownHashes(None if depth.full or bundle else folder / KNOWN)
    hashed = hash_files(root, claims_by_path(context), known, say)
    pages = beside(context, lambda own: _guarded(check_pages(own)))
    found, wanted = Recomputed(), wanted_records(context)
    checks = [*_checks(context, hashed, found, wanted), pages, *_deeper(context, depth, say, since)]
    findings = [finding for check in checks for finding in _guarded(check)]
    findings = _placed(context, findings, wanted)
    note_imported(context)
    missing = [name for name in experiments.config.tables if name not in graph.tables]
    breaks = any(finding.breaks for finding in findings)
    cells = _verdicts(context, findings, found, expected)
    entries = [entry for entry in hashed.values() if entry is not None]
    return Audit(
        edition=experiments.edition,
        status=BROKEN if breaks else INCOMPLETE if missing else INTACT,
        cells=cells,
        findings=findings,
        tables_missing=missing,
        depth=depth,
        checked=context.checked,
        unchecked=context.unchecked,
        weakest=weakest_links(context, findings),
        claims=_claims(context, cells),
        hashed=Hashes(
            files=len(entries),
            bytes=sum(entry.bytes for entry in entries),
            kept=sum(entry.kept for entry in entries),
        ),
        costs=_costs(root / experiments.runs.folder(paths.REPORT)),
        seconds=round(time.monotonic() - started, 2),
        code=git_state(),
        versions=versions(),
    )


def _deeper(
    context: Context, depth: Depth, say: Say | None, since: float
) -> Iterator[Iterable[Finding]]:
    """Checks of the other depths."""
    if depth.name != RECORDS:
        from georecon.audit.weights import check_weights  # here: it imports torch

        yield check_weights(context, depth, say)
    if depth.name == RERUN:
        from georecon.audit.again import check_again

        yield check_again(context, depth, since)


def _checks(
    context: Context, hashed: dict[str, Hashed | None], found: Recomputed, wanted: WantedRecords
) -> list[Iterable[Finding]]:
    """Checks of depth "records", in the order in which their findings are said."""
    checks: list[Iterable[Finding]] = [
        _graph_faults(context, context.graph.faults),
        check_files(context, hashed),
        check_strangers(context),
        check_raw_files(context, hashed),
        check_records(context, wanted),
        check_splits(context),
        check_encoders(context),
        check_models(context),
        check_predictions(context, found),
        check_curves(context),
        check_copies(context),
        check_code(context),
        check_commits(context),
    ]
    for table in [t for t in context.graph.tables if t in context.experiments.config.tables]:
        checks += [
            recompute_cells(context, found, table),
            check_table(context, table),
            check_columns(context, table),
            check_kernels(context, table),
        ]
    return checks


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
        worst = min((ORDER.index(KINDS[finding.kind]) for finding in own), default=None)
        reasons = [f"{f.kind}: {f.path}: {f.text}" for f in own]
        verdict = REPRODUCED if worst is None else ORDER[worst]
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
            files=[link.path for link in context.graph.chain(cell.path) if link.kind in OPENED],
        )
    return cells


def _costs(folder: Path) -> Costs | None:
    """What the report says that the edition took; nothing of a file of another form, which is not
    what its record says.
    """
    try:
        return read_costs(folder)
    except DataError:
        return None


def _claims(context: Context, cells: Mapping[str, Verdict]) -> list[ClaimVerdict]:
    """The worst verdict of the cells behind each claim; none of tables of another form."""
    order = [*ORDER, REPRODUCED]
    found: list[ClaimVerdict] = []
    try:
        claims = claim_cells(context.expected, [*context.graph.tables.values()])
    except MISFORMED:
        return found
    for claim, places in claims:
        behind = [cells[place].verdict for place in places if place in cells]
        found.append(
            ClaimVerdict(
                claim=claim.claim,
                compared=claim.compared,
                table=claim.table,
                found=claim.verdict,
                verdict=min(behind, key=order.index, default=MISSING),
                cells=len(behind),
            )
        )
    return found
