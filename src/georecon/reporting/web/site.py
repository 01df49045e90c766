"""From an edition's files to one page: content, templates, policy."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from georecon import __version__, paths
from georecon.files import read_json, write_text
from georecon.records.chain import Link, read_graph, rerun_command
from georecon.reporting.claims import RULE, Verdict, verdicts
from georecon.reporting.costs import HEADINGS, CostRow, cost_rows, read_costs
from georecon.reporting.expected import Expected
from georecon.reporting.model_card import CardBook
from georecon.reporting.outdated import is_outdated
from georecon.reporting.web import chains, content, state
from georecon.reporting.web.plan import SitePlan

HERE = Path(__file__).parent
NAME = "GeoRecon, reproduced"
PAPER = "https://arxiv.org/abs/2506.13174"
MARKS = {
    "reproduced": "✓ reproduced",
    "differs": "✗ differs",
    "not comparable": "○ not comparable",
    "missing": "△ missing",
}
"""Verdicts of the audit: a sign that needs no colour, and the word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditView:
    """The audit: when it was made, its status, verdicts by cell and how often there is each."""

    made: str
    status: str
    verdicts: Mapping[str, content.CellVerdict]
    counts: list[tuple[str, int]]


class CostView(NamedTuple):
    """What the edition took: headings, rows by table, method and rule, what is not in them."""

    headings: tuple[str, ...]
    groups: Mapping[str, list[CostRow]]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PageView:
    """What the templates show, under the names that they use.

    Attributes:
        title: of the page.
        edition: its name.
        live: whether this is the page of an unfinished edition.
        seeds: of fine-tuning.
        parts_of_data: role of each molecule set, and its title or why it is missing.
        commits: code versions behind the runs.
        audit: None before one.
        tables, figures, cells, runs, sets: in the order in which they are shown.
        state: how far the edition is.
        claims: verdicts on the paper's claims, by ``claims_rule``.
        cost: what the edition took; None before that was added up.
        made: when, as text.
        about: paper, code, licence and citation.
    """

    title: str
    edition: str
    live: bool
    seeds: tuple[int, ...]
    parts_of_data: list[tuple[str, str]]
    commits: list[str]
    audit: AuditView | None
    tables: list[content.TableView]
    figures: list[content.FigureView]
    cells: list[content.CellView]
    runs: list[chains.RunRow]
    sets: list[chains.SetRow]
    state: state.State
    claims: list[Verdict]
    claims_rule: str
    cost: CostView | None
    made: str
    about: list[content.FileLink]


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end that element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def policy(style: str, script: str) -> str:
    """Content security policy: this page's own style and script by hash, its pictures, no more.

    ``file:`` is for pages opened from disk, where some browsers do not count a picture beside the
    page as 'self'.
    """

    def source(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
        return f"'sha256-{digest}'"

    return (
        f"default-src 'none'; style-src {source(style)}; script-src {source(script)}; "
        "img-src 'self' file: data:; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def render(view: PageView, data: Mapping[str, Any]) -> str:
    """The page as HTML.

    Args:
        view: what the templates show.
        data: what the page's script reads.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (
        (HERE / "static" / f"site.{kind}").read_text("utf-8") for kind in ("css", "js")
    )
    return environment.get_template("page.html.j2").render(
        **{field.name: getattr(view, field.name) for field in fields(view)},
        name=NAME,
        version=__version__,
        marks=MARKS,
        policy=policy(style, script),
        # these three are not escaped: two files of this package, and JSON escaped for its place
        style=Markup(style),
        script=Markup(script),
        data=Markup(script_json(data)),
    )


def read_audit(results: Path) -> AuditView | None:
    """What the audit of an edition found; None before one."""
    path = results / "audit" / "audit.json"
    if not path.is_file():
        return None
    found = read_json(path)
    verdicts = {
        place: content.CellVerdict(cell["verdict"], "; ".join(cell["why"]))
        for place, cell in found["cells"].items()
    }
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(path.stat().st_mtime))
    counts = list(found["counts"].items())
    status = found["status"] + (", outdated: a table is newer" if is_outdated(results) else "")
    return AuditView(made=made, status=status, verdicts=verdicts, counts=counts)


def _cell_data(
    cell: content.CellView, links: list[Link], book: chains.ChainBook, edition: str
) -> Mapping[str, object]:
    """One cell for the page's script."""
    return {
        **{name: getattr(cell, name) for name in ("title", "row", "column", "unit", "text")},
        "reason": cell.reason,
        "values": cell.values,
        "verdict": cell.verdict and cell.verdict._asdict(),
        "rerun": rerun_command(edition, cell.place) if cell.files else None,
        "chain": book.numbers(chains.stations(links)),
        "runs": [book.run_number[link.path] for link in links if link.kind == "run"],
    }


def _places(
    tables: list[content.TableView], figures: list[content.FigureView], sets: list[chains.SetRow]
) -> list[dict[str, str]]:
    """What the search finds besides numbers and runs."""

    def place(kind: str, href: str, text: str, note: str) -> dict[str, str]:
        return {"kind": kind, "href": href, "text": text, "note": note, "more": ""}

    return [
        *(place("table", f"#table-{t.name}", t.title, "") for t in tables),
        *(place("figure", f"#/figure/{f.name}", f.title, "") for f in figures),
        *(
            place("molecule set", f"#set-{k}", f"{s.about.title} ({s.about.role})", s.store or "")
            for k, s in enumerate(sets)
        ),
    ]


def build(
    plan: SitePlan,
    expected: Mapping[str, Expected],
    root: Path,
    *,
    live: bool,
    audit: AuditView | None,
) -> str:
    """The page of an edition.

    Args:
        plan: from ``site_plan``.
        expected: the paper's public numbers, from ``load_expected``.
        root: working folder.
        live: tables from the metrics files that exist now, with what is missing and what runs;
            otherwise from the tables' JSON files, which must be there.
        audit: whose verdicts to show.
    """
    edition = plan.edition
    results = root / paths.RESULTS.format(edition=edition)
    graph = read_graph(root, edition)
    contents = _contents(plan, root, live=live)
    claims = verdicts(expected, contents)
    tables, cells = _tables(contents, expected, results, audit)
    ways = {c.place: chains.cell_chain(graph, c.place, c.files) for c in cells}
    sets = chains.set_rows(graph, plan.sets, root)
    shown = [link.path for links in ways.values() for link in links if link.kind != "cell"]
    shown += [path for row in sets for path in row.chain]
    folder = paths.REPORT.format(edition=edition)
    cards = CardBook(graph, plan.sets)
    book = chains.ChainBook(graph, [*shown, *graph.records] if live else shown, root, folder, cards)
    figures = [f for name in plan.figures if (f := content.figure_view(name, results))]
    view = PageView(
        title=f"{NAME}: state of the {edition} edition" if live else NAME,
        edition=edition,
        live=live,
        seeds=plan.seeds,
        parts_of_data=[(one.role, one.missing or one.title) for one in plan.sets],
        commits=book.commits(),
        audit=audit,
        tables=tables,
        figures=figures,
        cells=cells,
        runs=book.run_rows(),
        sets=sets,
        state=state.state_of(cells, root, results, live=live),
        claims=claims,
        claims_rule=RULE,
        cost=_cost_view(root / folder),
        # a finished page depends on its files alone
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) if live else book.ended(),
        about=_about(root, folder),
    )
    data = book.as_json() | {
        "cells": {c.key: _cell_data(c, ways[c.place], book, edition) for c in cells},
        "figures": {figure.name: _figure_data(figure) for figure in figures},
        "places": _places(tables, figures, sets),
        "marks": MARKS,
        "other": chains.OTHER,
    }
    return render(view, data)


def _cost_view(folder: Path) -> CostView | None:
    found = read_costs(folder)
    return None if found is None else CostView(HEADINGS, cost_rows(found), found.notes)


def _about(root: Path, folder: str) -> list[content.FileLink]:
    """Links to the paper and to those of this repository's own pages that are there."""
    files = {"Code": "README.md", "Licence": "LICENSE", "Citation": "CITATION.cff"}
    return [
        content.FileLink("Paper", PAPER),
        *(
            content.FileLink(label, os.path.relpath(name, folder))
            for label, name in files.items()
            if (root / name).is_file()
        ),
    ]


def _figure_data(figure: content.FigureView) -> Mapping[str, object]:
    """One figure for the page's script."""
    return asdict(figure) | {"files": [file._asdict() for file in figure.files]}


def _contents(plan: SitePlan, root: Path, *, live: bool) -> list[dict[str, Any]]:
    """Content of all tables: of their files, or of what there is of their runs."""
    results = root / paths.RESULTS.format(edition=plan.edition)
    return [
        content.present_table(spec, root)
        if live
        else read_json(results / "tables" / f"{spec['table']}.json")
        for spec in plan.tables
    ]


def _tables(
    tables: list[dict[str, Any]],
    expected: Mapping[str, Expected],
    results: Path,
    audit: AuditView | None,
) -> tuple[list[content.TableView], list[content.CellView]]:
    """Views of all tables, and all their cells."""
    views, cells = [], []
    for table, short in zip(tables, content.short_titles(t["title"] for t in tables), strict=True):
        name = table["table"]
        own = content.cells_of(table, audit.verdicts if audit else {})
        kinds = {"CSV": "csv", "Markdown": "md", "LaTeX": "tex", "JSON": "json"}
        files = {label: f"tables/{name}.{kind}" for label, kind in kinds.items()}
        links = content.links_to(files, results)
        views.append(
            content.table_view(table, own, expected.get(name), short=short, downloads=links)
        )
        cells += own
    return views, cells


def write_site(
    plan: SitePlan,
    expected: Mapping[str, Expected],
    page: Path,
    *,
    root: Path,
    live: bool,
) -> None:
    """Write the page of an edition; arguments as of :func:`build`."""
    audit = read_audit(root / paths.RESULTS.format(edition=plan.edition))
    write_text(page, build(plan, expected, root, live=live, audit=audit))


def unlike(text: str, plan: SitePlan, expected: Mapping[str, Expected], root: Path) -> str | None:
    """Where the page of a finished edition is not what its files give; None if it is.

    What may differ is taken from the page itself: the audit that was there when it was written,
    and the commands, which follow from how Snakemake was called. Files that are not here, as arrays
    in a bundle, may have been there: a page may lead to them by their own name.

    Args:
        text: the page.
        plan: as of :func:`build`; ``expected`` and ``root`` likewise.
        expected: the paper's public numbers.
        root: working folder.
    """
    again = build(plan, expected, root, live=False, audit=_audit_in(text, plan, root))
    folder = paths.REPORT.format(edition=plan.edition)
    one, other = (
        _LINK.sub(partial(_gone, root, folder), _COMMANDS.sub('"rerun":""', page))
        for page in (text, again)
    )
    if one == other:
        return None
    same = zip(one, other, strict=False)
    place = next((k for k, (a, b) in enumerate(same) if a != b), min(len(one), len(other)))
    start = max(0, place - 40)
    return f"has {one[start : place + 40]!r} where its files give {other[start : place + 40]!r}"


_COMMANDS = re.compile(r'"rerun":"(?:[^"\\]|\\.)*"')
_LINK = re.compile(r'"path":"([^"\\\\]*)","href":"([^"]*)"')
_AUDIT = re.compile(r'<a href="\.\./audit/index\.html">Audit</a> of ([^<:]*:\d\d UTC): ([^<]*)<')
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


def _gone(root: Path, folder: str, link: re.Match[str]) -> str:
    """A link without address if it leads to its own path and no file is there."""
    path, href = link.groups()
    own = href == chains.address(path, folder)
    return f'"path":"{path}","href":null' if own and not (root / path).is_file() else link[0]


def _audit_in(text: str, plan: SitePlan, root: Path) -> AuditView | None:
    """The audit that a page shows; None where it shows none."""
    head, data = _AUDIT.search(text), _DATA.search(text)
    if head is None or data is None:
        return None
    cells = json.loads(data[1])["cells"]
    found = {
        cell.place: content.CellVerdict(shown["verdict"], shown["reason"])
        for table in _contents(plan, root, live=False)
        for cell in content.cells_of(table, {})
        if (shown := cells.get(cell.key, {}).get("verdict"))
    }
    names = [verdict.verdict for verdict in found.values()]
    counts = [(name, names.count(name)) for name in sorted(set(names))]
    return AuditView(made=head[1], status=head[2], verdicts=found, counts=counts)
