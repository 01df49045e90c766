"""audit/index.html: the verdict of every cell on one static page, without scripts."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from georecon.audit.depth import RECORDS, RERUN, WEIGHTS
from georecon.audit.findings import KINDS, NOTES
from georecon.audit.result import Audit, ClaimVerdict, Verdict
from georecon.files import write_json, write_text
from georecon.reporting.costs import HEADINGS, cost_rows
from georecon.reporting.html_page import html_page
from georecon.reporting.numbers import number_text

_DEPTHS = {
    RECORDS: "files, records, splits, tables and pages against each other, the configuration, "
    "dataset cards and git; numbers from stored predictions",
    WEIGHTS: "as depth records; stores from raw files, predictions from fine-tuned weights, "
    "smoothness from encoders, and first steps of trainings again",
    RERUN: "as depth weights; drawn cells trained again",
}
_STYLE = """table { border-collapse: collapse; font-size: 13px; width: 100%; }
th, td { padding: .3em .6em; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
code { font-size: 12px; word-break: break-all; }
.status { padding: .6em 1em; border-radius: 4px; font-size: 17px; }
.intact, .reproduced { background: #dff3e0; } .broken, .differs { background: #fbdcdc; }
.incomplete, .missing { background: #eee; } .loud, .not-comparable { background: #fdf0c8; }
td.verdict { white-space: nowrap; }
@media (prefers-color-scheme: dark) {
  body { background: #1b1d20; color: #ddd; } a { color: #8ab4f8; }
  th, td { border-color: #444; }
  .intact, .reproduced { background: #1e3d24; } .broken, .differs { background: #57211f; }
  .incomplete, .missing { background: #333; } .loud, .not-comparable { background: #4d3f12; }
}"""


def write_audit(audit: Audit, folder: Path) -> None:
    """Write ``index.html`` and ``audit.json``."""
    write_text(folder / "index.html", page(audit))
    write_json(folder / "audit.json", audit.as_json())


def page(audit: Audit) -> str:
    """The whole page; everything that comes from files is escaped."""
    body = "\n".join(
        [*_head(audit), *_claims(audit), *_findings(audit), *_cells(audit), *_costs(audit)]
    )
    return html_page(f"Audit of {audit.edition}", body, width=80, style=_STYLE)


def _text(value: Any) -> str:
    return html.escape(str(value))


def _head(audit: Audit) -> Iterator[str]:
    yield f"<h1>Audit of edition {_text(audit.edition)}</h1>"
    yield f'<p class="status {_text(audit.status)}">{_text(audit.outcome())}</p>'
    depth = audit.depth.name
    yield f"<p>Checked at depth <b>{_text(depth)}</b>: {_text(_DEPTHS[depth])}.</p>"
    done = "; ".join(audit.checked) or "numbers, from stored predictions"
    yield f"<p>Computed again: {_text(done)}.</p>"
    yield f"<p>Could not be checked: {_text('; '.join(audit.unchecked) or 'nothing')}.</p>"
    yield "<ol>"
    for link in audit.weakest:
        kind = ' class="loud"' if link.weak else ""
        yield f"<li{kind}><b>{_text(link.name)}</b>: {_text(link.text)}</li>"
    yield "</ol>"
    for kind, why in NOTES.items():
        number = sum(finding.kind == kind for finding in audit.findings)
        if number:
            yield (
                f'<p class="status loud">{_text(kind.capitalize())}: {number} times. Files and '
                f"numbers are intact, but {_text(why)}; the cells are not comparable.</p>"
            )
    if audit.tables_missing:
        yield f"<p>Tables not made: {_text(', '.join(audit.tables_missing))}.</p>"
    commit = audit.code.commit or f"unknown ({audit.code.words()})"
    changed = " with changes that are not committed" if audit.code.dirty else ""
    yield f"<p>Audited by code of commit <code>{_text(commit)}</code>{changed}.</p>"


def _claims(audit: Audit) -> Iterator[str]:
    if not audit.claims:
        return
    yield "<h2>Claims</h2><table><tr><th>Claim of the paper</th><th>Compared</th><th>Table</th>"
    yield "<th>Our cells say</th><th>Cells</th><th>Verdict</th></tr>"
    for claim in audit.claims:
        yield _claim(claim)
    yield "</table>"


def _claim(claim: ClaimVerdict) -> str:
    texts = (claim.claim, claim.compared, claim.table, claim.found, claim.cells)
    row = "".join(f"<td>{_text(text)}</td>" for text in texts)
    kind = _class(claim.verdict)
    return f'<tr>{row}<td class="verdict {kind}">{_text(claim.verdict)}</td></tr>'


def _findings(audit: Audit) -> Iterator[str]:
    breaks = [finding for finding in audit.findings if finding.breaks]
    yield f"<h2>Broken links: {len(breaks)}</h2>"
    shown = [*breaks, *(finding for finding in audit.findings if not finding.breaks)]
    if not shown:
        return
    yield "<table><tr><th>Kind</th><th>File</th><th>What is wrong</th><th>Cells</th></tr>"
    for finding in shown:
        cells = finding.cells
        some = ", ".join(cells[:3]) + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")
        yield (
            f'<tr class="{_class(KINDS[finding.kind])}"><td>{_text(finding.kind)}</td>'
            f"<td><code>{_text(finding.path)}</code></td><td>{_text(finding.text)}</td>"
            f"<td>{_text(some)}</td></tr>"
        )
    yield "</table>"


def _class(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _cells(audit: Audit) -> Iterator[str]:
    for table in dict.fromkeys(place.split("/")[0] for place in audit.cells):
        yield f'<h2 id="{_text(table)}">{_text(table)}</h2><table>'
        yield (
            "<tr><th>Cell</th><th>Value</th><th>Verdict</th><th>Why</th><th>Paper</th>"
            "<th>To recompute it</th></tr>"
        )
        for place, cell in audit.cells.items():
            if place.split("/")[0] == table:
                yield _cell(place, cell)
        yield "</table>"


def _costs(audit: Audit) -> Iterator[str]:
    """What the edition took; from the report, with the hash of its record and nothing more."""
    if audit.costs is None:
        return
    yield '<h2 id="cost">Cost</h2>'
    notes = "; ".join(audit.costs.notes)
    yield f"<p>As the report adds it up, not computed again; {_text(notes)}.</p>"
    for group, rows in cost_rows(audit.costs).items():
        heads = "".join(f"<th>{_text(head or f'by {group}')}</th>" for head in HEADINGS)
        yield f"<table><tr>{heads}</tr>"
        for row in rows:
            yield "<tr>" + "".join(f"<td>{_text(text)}</td>" for text in row) + "</tr>"
        yield "</table>"


def _cell(place: str, cell: Verdict) -> str:
    number, unit, rerun = "–", "", ""
    if cell.value is not None:
        try:
            number = number_text(cell.value, cell.std, cell.n)
        except (ValueError, OverflowError):  # no number of this world
            number = str(cell.value)
        unit, rerun = cell.unit, f"<code>{_text(cell.rerun)}</code>"
    return (
        f'<tr id="{_text(place)}"><td>{_text(place)}</td><td>{_text(number)} {_text(unit)}</td>'
        f'<td class="verdict {_class(cell.verdict)}">{_text(cell.verdict)}</td>'
        f"<td>{_text('; '.join(cell.why[:3]))}</td><td>{_text(cell.paper.text)}</td>"
        f"<td>{rerun}{_files(cell)}</td></tr>"
    )


def _files(cell: Verdict) -> str:
    """Links to what a number was made from."""
    if not cell.files:
        return ""
    links = "<br>".join(f'<a href="{_href(path)}">{_text(path)}</a>' for path in cell.files)
    return f"<details><summary>{len(cell.files)} files</summary><code>{links}</code></details>"


def _href(path: str) -> str:
    """Address of a file of the working folder, from the audit's own."""
    return _text("../../../" + quote(path))
