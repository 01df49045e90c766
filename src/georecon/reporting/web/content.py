"""What the web report shows, read from an edition's files as they are now.

Frozen values only: the templates and the page's script get these and escape them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from georecon.errors import DataError
from georecon.experiments.specs import CellSpec, TableSpec
from georecon.reporting.expected import Expected, PublicClaim
from georecon.reporting.layout import (
    Block,
    Shown,
    empty_reasons,
    layout,
    published_block,
    published_sentences,
    reading_sentences,
    shown_cells,
)
from georecon.reporting.tables import fill_cell
from georecon.units import UNIT_DISPLAY


class CellVerdict(NamedTuple):
    """The audit's verdict of a cell and why."""

    verdict: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CellView:
    """A cell as the page shows it.

    Attributes:
        place: ``<table>/<row>/<column>``; ``key`` is its address inside the page.
        table: name of its table; ``title`` is how the table is called.
        row, column: labels.
        unit: for display.
        value: None for an empty cell; ``text`` is the number with its interval, or a dash.
        n: number of seeds.
        bold: surely the best of its column; ``worse`` than a prediction without learning.
        reason: why it is empty.
        waits: what it waits for: files, or words.
        values: number by seed, as text.
        files: that it was read from.
        verdict: of the audit; None before one.
    """

    place: str
    key: str
    table: str
    title: str
    row: str
    column: str
    unit: str
    value: float | None
    text: str
    n: int
    bold: bool
    worse: bool
    reason: str | None
    waits: list[str]
    values: dict[str, str]
    files: list[str]
    verdict: CellVerdict | None

    @property
    def plain(self) -> CellView:
        """The same without a verdict, for a table that has a column of them."""
        return replace(self, verdict=None)


class Heading(NamedTuple):
    """Label of a column, and its unit where the label does not say it."""

    label: str
    unit: str


class TableLine(NamedTuple):
    """A row of a table: label, unit as of :class:`Heading`, cells."""

    label: str
    unit: str
    cells: list[CellView]


class DifferenceLine(NamedTuple):
    """A row of differences, or of published values: label and texts."""

    label: str
    cells: list[Shown]


class Differences(NamedTuple):
    """Differences of all rows to one of them, or others' values."""

    title: str
    columns: list[Heading]
    rows: list[DifferenceLine]


class ExpectedView(NamedTuple):
    """What is publicly known of a table, numbers as sentences."""

    reason: str
    claims: tuple[PublicClaim, ...]
    numbers: list[str]
    context: list[str]


class FileLink(NamedTuple):
    """A file beside the page."""

    label: str
    href: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TableView:
    """A table as the template draws it; ``short`` is its title for the list of sections.

    ``reading`` says how its numbers and marks are to be read; ``published`` are others' values,
    ``sources`` says where they are from.
    """

    name: str
    title: str
    short: str
    caption: str
    columns: list[Heading]
    rows: list[TableLine]
    published: Differences | None
    sources: list[str]
    differences: list[Differences]
    reading: list[str]
    reasons: list[str]
    empty: bool
    expected: ExpectedView | None
    downloads: list[FileLink]


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureView:
    """A figure: words of its notebook, picture and its size [pixels], files."""

    name: str
    title: str
    caption: str
    png: str
    width: int
    height: int
    files: list[FileLink]


def present_table(spec: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """A table from those of its metrics files that exist now, as ``tables.build`` makes it.

    Cells that wait for a file get ``waits``: the files that are missing or unreadable.
    """
    table = TableSpec.from_json(dict(spec))
    cells = []
    for cell in table.cells:
        waits = [file for file in cell.all_files() if not (root / file).is_file()]
        if not waits:
            try:
                cells.append(fill_cell(cell, table.unit(cell)))
                continue
            except DataError as error:
                waits = [str(error)]
        empty = CellSpec(row=cell.row, column=cell.column, reason="not made yet")
        cells.append(fill_cell(empty, "") | {"waits": waits})
    return {**spec, "cells": cells, "comparison": None}


def cell_path(table: str, row: str, column: str) -> str:
    """Address of a cell inside the page: its place, each part escaped for a URL."""
    return "/".join(quote(part, safe="") for part in (table, row, column))


def cells_of(table: Mapping[str, Any], verdicts: Mapping[str, CellVerdict]) -> list[CellView]:
    """Cells of a table with all that the page shows of each, in the order of rows and columns.

    Args:
        table: content of a table's JSON, or :func:`present_table`.
        verdicts: of the audit, by ``<table>/<row>/<column>``.
    """
    found = {(cell["row"], cell["column"]): cell for cell in table["cells"]}
    texts, shown = shown_cells(table), []
    for row in table["rows"]:
        for column in table["columns"]:
            cell = found[row["key"], column["key"]]
            value, unit = cell["value"], column["unit"] or row.get("unit", "")
            place = (table["table"], row["key"], column["key"])
            text = texts[place[1:]]
            view = CellView(
                place="/".join(place),
                key=cell_path(*place),
                table=table["table"],
                title=table["title"],
                row=row["label"],
                column=column["label"],
                unit=UNIT_DISPLAY.get(unit, unit),
                value=value,
                text=text.text.removesuffix(f" ({cell['n']})"),
                n=cell["n"],
                bold=text.bold,
                worse=text.worse,
                reason=cell["reason"],
                waits=cell.get("waits", []),
                values={seed: f"{each:.6g}" for seed, each in cell["values"].items()},
                files=[used["path"] for used in cell["runs"]],
                verdict=verdicts.get("/".join(place)),
            )
            shown.append(view)
    return shown


def table_view(
    table: Mapping[str, Any],
    cells: list[CellView],
    expected: Expected | None,
    *,
    short: str,
    downloads: list[FileLink],
) -> TableView:
    """A table as the template draws it.

    Args:
        table: its content.
        cells: from :func:`cells_of`.
        expected: the paper's public numbers.
        short: its title for the list of sections.
        downloads: its files.
    """
    across, down = (
        [
            Heading(line["label"], UNIT_DISPLAY.get(line["unit"], line["unit"]))
            for line in table[key]
        ]
        for key in ("columns", "rows")
    )
    width = len(across)
    grid = [cells[k : k + width] for k in range(0, len(cells), width)]
    if width > 2 * len(down):  # a few methods and many targets read better as columns
        across, down, grid = down, across, [list(line) for line in zip(*grid, strict=True)]
    if any(unit and f"[{unit}]" in label for label, unit in (*across, *down)):
        across, down = ([Heading(label, "") for label, _ in lines] for lines in (across, down))
    return TableView(
        name=table["table"],
        title=table["title"],
        short=short,
        caption=table["caption"],
        columns=across,
        rows=[TableLine(*head, own) for head, own in zip(down, grid, strict=True)],
        published=_differences(block) if (block := published_block(table)) else None,
        sources=published_sentences(table),
        differences=[_differences(block) for block in layout(table).differences],
        reading=reading_sentences(table),
        reasons=empty_reasons(table),
        empty=all(cell.reason and not cell.waits for cell in cells),
        expected=None if expected is None else _expected_view(expected),
        downloads=downloads,
    )


def _differences(block: Block) -> Differences:
    heads = [Heading(label, UNIT_DISPLAY.get(unit, unit)) for label, unit in block.heads]
    lines = [DifferenceLine(*line) for line in block.lines]
    if len(heads) > 2 * len(lines):  # as the table itself
        texts = [list(column) for column in zip(*(line.cells for line in lines), strict=True)]
        labels = [f"{label} [{unit}]" if unit else label for label, unit in heads]
        heads = [Heading(line.label, "") for line in lines]
        lines = [DifferenceLine(*pair) for pair in zip(labels, texts, strict=True)]
    return Differences(block.title, heads, lines)


def short_titles(titles: Iterable[str]) -> list[str]:
    """Titles up to their colon, or after it where several begin alike."""
    parts = [title.partition(":")[::2] for title in titles]
    heads = [head for head, _ in parts]
    return [
        tail.strip().capitalize() if heads.count(head) > 1 and tail else head
        for head, tail in parts
    ]


def _expected_view(entry: Expected) -> ExpectedView:
    numbers, context = (
        [number.text() for number in group] for group in (entry.numbers, entry.context)
    )
    return ExpectedView(entry.reason, entry.claims, numbers, context)


def figure_view(name: str, results: Path) -> FigureView | None:
    """A figure as the page shows it; None if it is not made."""
    picture = results / "figures" / f"{name}.png"
    if not picture.is_file():
        return None
    width, height = png_size(picture)
    title, caption = _notebook_words(results / "notebooks" / f"{name}.ipynb")
    files = {"PDF": f"figures/{name}.pdf", "notebook": f"notebooks/{name}.html"}
    return FigureView(
        name=name,
        title=title or name.replace("_", " ").capitalize(),
        caption=caption,
        png=f"../figures/{name}.png",
        width=width,
        height=height,
        files=links_to(files, results),
    )


def links_to(files: Mapping[str, str], results: Path) -> list[FileLink]:
    """Links from the page to those files that are there, by label."""
    there = {label: file for label, file in files.items() if (results / file).is_file()}
    return [FileLink(label, f"../{file}") for label, file in there.items()]


def png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG [pixels], from its header.

    Raises:
        DataError: not a PNG.
    """
    with open(path, "rb") as handle:
        head = handle.read(24)
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n":
        raise DataError(path, None, "is not a PNG picture; rerun its job")
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def _notebook_words(path: Path) -> tuple[str, str]:
    """Title and first paragraph of an executed notebook; empty where it has none."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        words = next("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return "", ""
    title, _, rest = words.partition("\n")
    return title.lstrip("# ").strip(), " ".join(rest.strip().split("\n\n")[0].split())
