"""Two results side by side: cells that differ, and where their histories part.

``georecon diff A B``: each a project's folder or a bundle. A cell's difference is *beyond* the
intervals if it is larger than ``√(a² + b²)`` of the half-widths of both 95 % intervals, *within*
them if not; without intervals (fewer than three seeds) it just *differs*. Causes are looked for in
every job that both have, from raw files up: settings, code, versions, and files read.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from georecon import paths
from georecon.audit.verify_bundle import unpacked_bundle
from georecon.errors import DataError, GeoreconError
from georecon.files import write_json, write_text
from georecon.keys import as_json
from georecon.records.chain import Cell, Graph, Run, read_graph
from georecon.records.difference import difference
from georecon.records.read import Record
from georecon.records.untrusted import printable
from georecon.reporting.html_page import html_page

SAME, WITHIN, DIFFERS, BEYOND, ONLY = "same", "within", "differs", "beyond", "only in one"
_ORDER = (BEYOND, DIFFERS, WITHIN, ONLY)


@dataclass(frozen=True, kw_only=True, slots=True)
class CellDifference:
    """A cell that is not the same in both.

    Attributes:
        cell: ``<table>/<row>/<column>``.
        verdict: one of the module's words.
        text: both values.
    """

    cell: str
    verdict: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """A job or a file that is not the same in both, though both have it.

    Attributes:
        path: record of the job, or the file; results of other editions are called ``results/*/``.
        kind: "settings", "code", "versions" or "data".
        text: what differs.
    """

    path: str
    kind: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """All that differs between two results.

    Attributes:
        first, second: what was compared.
        same: number of cells that are equal in every digit.
        cells: the others, those beyond their intervals first.
        causes: first links that differ, of all jobs, from raw files up.
        parted: the first cell that differs, and the first cause in its own history.
    """

    first: str
    second: str
    same: int
    cells: tuple[CellDifference, ...]
    causes: tuple[Cause, ...]
    parted: tuple[str, Cause] | None

    def lines(self) -> Iterator[str]:
        """As text for a terminal."""
        yield f"A: {self.first}"
        yield f"B: {self.second}"
        counted = {word: sum(c.verdict == word for c in self.cells) for word in _ORDER}
        words = ", ".join(f"{number} {word}" for word, number in counted.items() if number)
        yield f"cells: {self.same} equal in every digit" + (f", {words}" if words else "")
        for cell in self.cells:
            yield f"  {cell.verdict}: {cell.cell}: {cell.text}"
        if self.parted is not None:
            cell_name, cause = self.parted
            yield f"{cell_name} parts at {cause.path}: {cause.kind}: {cause.text}"
        elif self.cells:
            yield "no job that both have differs: look at the cells that only one of them has"
        for cause in self.causes:
            yield f"  {cause.kind}: {cause.path}: {cause.text}"


def compare(first: Graph, second: Graph, names: tuple[str, str]) -> Difference:
    """Compare two editions' results; they may be the same edition of two folders."""
    cells, same = [], 0
    a, b = ({cell.path: cell for cell in graph.cells()} for graph in (first, second))
    for path in {**a, **b}:
        found = _compare_cells(path, a.get(path), b.get(path))
        same += found is None
        cells += [] if found is None else [found]
    cells.sort(key=lambda cell: _ORDER.index(cell.verdict))
    parted = None
    for cell in cells:
        if cell.cell in a and cell.cell in b:
            causes = _causes(_history(first, cell.cell), _history(second, cell.cell))
            parted = (cell.cell, causes[0]) if causes else None
            break
    return Difference(
        first=names[0],
        second=names[1],
        same=same,
        cells=tuple(cells),
        causes=tuple(_causes(_records(first), _records(second))),
        parted=parted,
    )


def _compare_cells(path: str, a: Cell | None, b: Cell | None) -> CellDifference | None:
    if a is None or b is None:
        text = f"only {'B' if a is None else 'A'} has it"
        return CellDifference(cell=path, verdict=ONLY, text=text)
    if (a.value, a.unit, dict(a.values)) == (b.value, b.unit, dict(b.values)):
        return None
    text = f"{_number(a)} and {_number(b)}"
    if a.value is None or b.value is None or a.unit != b.unit:
        return CellDifference(cell=path, verdict=DIFFERS, text=text)
    half = _half(a), _half(b)
    if None in half:
        return CellDifference(cell=path, verdict=DIFFERS, text=text)
    allowed = sum(width**2 for width in half if width is not None) ** 0.5
    verdict = BEYOND if abs(a.value - b.value) > allowed else WITHIN
    return CellDifference(cell=path, verdict=verdict, text=text)


def _half(cell: Cell) -> float | None:
    """Half the width of a cell's interval."""
    return None if cell.low is None or cell.high is None else (cell.high - cell.low) / 2


def _number(cell: Cell) -> str:
    if cell.value is None:
        return f"empty ({cell.reason})"
    half = _half(cell)
    spread = "" if half is None else f" ± {half:.2g}"
    return f"{cell.value:.6g}{spread} {cell.unit}".strip()


def _key(graph: Graph, path: str) -> str:
    """A path that does not name the edition."""
    own = paths.RESULTS.format(edition=graph.edition) + "/"
    return path.replace(own, paths.RESULTS.format(edition="*") + "/", 1)


def _history(graph: Graph, cell: str) -> dict[str, Record]:
    """Records of a cell's jobs, those that others build on first."""
    links = reversed(graph.chain(cell))
    return {_key(graph, link.path): link.record for link in links if isinstance(link, Run)}


def _records(graph: Graph) -> dict[str, Record]:
    """Records of all jobs, in the order of the histories of all cells."""
    found: dict[str, Record] = {}
    for cell in graph.cells():
        for path, record in _history(graph, cell.path).items():
            found.setdefault(path, record)
    return found


def _causes(first: Mapping[str, Record], second: Mapping[str, Record]) -> list[Cause]:
    """First causes: a job whose inputs differ because another differs is none itself."""
    found = []
    for path, a in first.items():
        if (b := second.get(path)) is not None:
            found += list(_of_job(path, a, b))
    return found


def _of_job(path: str, a: Record, b: Record) -> Iterator[Cause]:
    mine, theirs = ({**record.settings} for record in (a, b))
    codes = mine.pop("code", None), theirs.pop("code", None)
    if (text := difference(mine, theirs)) is not None:
        yield Cause(path=path, kind="settings", text=_sides(text))
    if codes[0] != codes[1]:
        commits = (str(record.code.commit)[:12] for record in (a, b))
        yield Cause(path=path, kind="code", text="A is of commit {}, B of {}".format(*commits))
    if (text := difference(dict(a.versions), dict(b.versions))) is not None:
        yield Cause(path=path, kind="versions", text=_sides(text))
    if a.stage == "fetch":  # what other jobs read was made by jobs that are compared themselves
        pairs = ((a.outputs[name], b.outputs[name]) for name in a.outputs if name in b.outputs)
        for one, other in pairs:
            if one.sha256 != other.sha256:
                text = f"sha256 is {one.sha256[:12]} in A, {other.sha256[:12]} in B"
                yield Cause(path=one.path, kind="data", text=text)


def _sides(text: str) -> str:
    """Words of :func:`difference` for two results."""
    return (
        text.replace("the configuration says", "in B")
        .replace("unknown to the configuration", "not in B")
        .replace("is not recorded", "is not in A")
    )


# ---- command -------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(path: Path, edition: str | None) -> Iterator[Graph]:
    """What a project's folder or a bundle recorded.

    Args:
        path: folder with ``results``, or a bundle.
        edition: its edition; by default the only one there is.

    Raises:
        DataError: neither, or no such edition.
    """
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(unpacked_bundle(path))[0] if path.is_file() else path
        folder = root / Path(paths.RESULTS.format(edition="x")).parent
        editions = sorted(each.name for each in folder.glob("*") if (each / "tables").is_dir())
        if edition is None and len(editions) == 1:
            (edition,) = editions
        if edition not in editions:
            there = ", ".join(editions) or "none"
            raise DataError(path, None, f"edition is {edition!r}; results there: {there}")
        yield read_graph(root, edition)


def page(found: Difference) -> str:
    """One static page; everything that comes from files is escaped."""

    def rows(items: Iterator[tuple[str, ...]]) -> str:
        cells = ("".join(f"<td>{html.escape(text)}</td>" for text in row) for row in items)
        return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"

    head = "".join(f"<p>{html.escape(line)}</p>" for line in list(found.lines())[:3])
    cells = rows((cell.verdict, cell.cell, cell.text) for cell in found.cells)
    causes = rows((cause.kind, cause.path, cause.text) for cause in found.causes)
    parted = ""
    if found.parted is not None:
        cell, cause = found.parted
        parted = html.escape(f"{cell} parts at {cause.path}: {cause.kind}: {cause.text}")
    body = (
        f"<h1>Two results compared</h1>{head}<p><b>{parted}</b></p>"
        f"<h2>Cells</h2>{cells}<h2>Jobs that differ</h2>{causes}"
    )
    return html_page("Two results compared", body, width=80, style=_STYLE)


_STYLE = """table { border-collapse: collapse; font-size: 13px; }
td { padding: .3em .6em; border-bottom: 1px solid #ddd; vertical-align: top; }"""


def main() -> int:
    """Command line; 0 if no cell differs, 1 if some do, 2 if they cannot be compared."""
    parser = argparse.ArgumentParser(prog="georecon diff", description=__doc__.splitlines()[0])
    parser.add_argument("a", type=Path, help="a project's folder, or a bundle")
    parser.add_argument("b", type=Path, help="another")
    parser.add_argument("--edition", nargs="+", help="of both, or of A and of B")
    parser.add_argument("--json", type=Path, help="write it to this file, too")
    parser.add_argument("--html", type=Path, help="write it as a page, too")
    options = parser.parse_args()
    chosen = options.edition or [None]
    try:
        with opened(options.a, chosen[0]) as a, opened(options.b, chosen[-1]) as b:
            found = compare(a, b, (str(options.a), str(options.b)))
    except (GeoreconError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for line in found.lines():
        print(printable(line))
    if options.json:
        write_json(options.json, as_json(found))
    if options.html:
        write_text(options.html, page(found))
    return 1 if found.cells else 0
