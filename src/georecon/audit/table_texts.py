"""Tables: the rows, columns and runs that config asks for; CSV, Markdown and LaTeX of the JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from georecon import paths
from georecon.audit.findings import CODE, Context, Finding
from georecon.errors import DataError
from georecon.experiments.specs import CellSpec
from georecon.records.difference import difference
from georecon.reporting.latex import latex
from georecon.reporting.published_rows import published_json
from georecon.reporting.tables import caption
from georecon.reporting.texts import csv_text, markdown

TEXTS = {".csv": csv_text, ".md": markdown, ".tex": latex}


def check_table(context: Context, table: str) -> Iterator[Finding]:
    """One table's JSON against the configuration, and its other forms against the JSON."""
    content = context.graph.tables[table]
    stem = context.experiments.runs.folder(paths.TABLE, table=table)
    try:
        wanted = _frame(context, table)
        found = {key: content.get(key) for key in wanted}
        text = difference(found, wanted)
    except (DataError, KeyError, TypeError) as error:
        text = f"cannot be compared with the configuration: {error}"
    if text is not None:
        yield Finding(kind="table edited", path=f"{stem}.json", text=text)
    for place, text in _other_cells(context, table):
        touches = (f"{table}/{place}",)
        yield Finding(kind="table edited", path=f"{stem}.json", text=text, touches=touches)
    for suffix, render in TEXTS.items():
        path = stem + suffix
        try:
            stored = (context.root / path).read_text(encoding="utf-8")
        except FileNotFoundError:
            continue  # said by the check of files
        except (OSError, ValueError) as error:
            yield Finding(kind="file unreadable", path=path, text=str(error))
            continue
        try:
            rendered = render(content)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            text = f"is not a whole table ({type(error).__name__}: {error})"
            yield Finding(kind="table unreadable", path=f"{stem}.json", text=text)
            return
        if stored != rendered:
            text = f"is not the table of {table}.json: {first_difference(stored, rendered)}"
            yield Finding(kind="table edited", path=path, text=text)


def _frame(context: Context, table: str) -> Mapping[str, object]:
    """All of a table's JSON but its cells, as the configuration has it."""
    spec = context.experiments.tables.spec(table)
    tables, root = context.experiments.tables, context.root
    leaks, made = tables.leaks(table), tables.trajectories(table)
    said_of_data = ([str(root / path) for path in files] for files in (leaks, made))
    whole = caption(spec, *said_of_data)
    names, said = ("table", "edition", "title", "rows", "columns", "compare"), spec.as_json()
    published = published_json(context.experiments, CODE / "reports" / "published", table)
    others = json.loads(json.dumps({"caption": whole, "published": published}))
    return {name: said[name] for name in names} | others


def _other_cells(context: Context, table: str) -> Iterator[tuple[str, str]]:
    """Cells that are not once there, with the runs, key and reason of the configuration."""
    cells = context.graph.tables[table]["cells"]
    try:
        there = {f"{c['row']}/{c['column']}": _found(c) for c in cells}
    except (KeyError, TypeError) as error:
        yield "", f"has a cell of another form ({error})"
        return
    if len(there) != len(cells):
        yield "", "a cell comes twice"
    spec = context.experiments.tables.spec(table)
    expected = {f"{cell.row}/{cell.column}": _wanted(cell) for cell in spec.cells}
    for place in sorted({*there, *expected}):
        text = difference(there.get(place), expected.get(place), place)
        if text is not None:
            yield place, text


def _found(cell: Any) -> Mapping[str, object]:
    """What a cell of a table's JSON says it is made of."""
    runs = [run["path"] for run in cell["runs"]]
    return {"runs": runs, "key": cell.get("key"), "reason": cell.get("reason")}


def _wanted(cell: CellSpec) -> Mapping[str, object]:
    """The same of a specification: of each seed its file, and for ratios the denominator's."""
    pairs = [(file, cell.divide_by.get(seed)) for seed, file in cell.files.items()]
    runs = [file for pair in pairs for file in pair if file is not None]
    return {"runs": runs, "key": [*cell.key] or None, "reason": cell.reason}


def first_difference(stored: str, rendered: str) -> str:
    """The first line of a text that is not what it should be, in words."""
    lines, wanted = stored.splitlines(), rendered.splitlines()
    for number, (line, other) in enumerate(zip(lines, wanted, strict=False), 1):
        if line != other:
            return f"line {number} is {_near(line, other)!r}, expected {_near(other, line)!r}"
    return f"it has {len(lines)} lines, expected {len(wanted)}"


def _near(line: str, other: str) -> str:
    """The part of a line around its first difference from another."""
    same = zip(line, other, strict=False)
    start = next((k for k, (a, b) in enumerate(same) if a != b), min(len(line), len(other)))
    return line[max(0, start - 20) : start + 20]
