"""Tables as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from georecon.reporting.comparison import Best, Comparison
from georecon.reporting.escape import csv_field, markdown_escape
from georecon.reporting.layout import (
    WORSE,
    Block,
    Head,
    Shown,
    comparison_of,
    layout,
    worse_cells,
)
from georecon.units import UNIT_DISPLAY


def markdown(table: Mapping[str, Any]) -> str:
    """Markdown: title, rows × columns, differences, caption and how to read it."""
    found = layout(table)
    caption, *sentences = found.sentences
    lines = [f"### {markdown_escape(found.title)}", "", *_grid(found.main)]
    if found.published:
        lines += ["", f"{found.published.title}:", "", *_grid(found.published), ""]
        lines += [f"- {markdown_escape(source)}" for source in found.sources]
    for block in found.differences:
        lines += ["", f"{markdown_escape(block.title)}:", "", *_grid(block)]
    lines += ["", markdown_escape(" ".join([caption, *sentences]))]
    return "\n".join(lines) + "\n"


def _grid(block: Block) -> list[str]:
    heads = " | ".join(map(_head, block.heads))
    lines = [f"| | {heads} |", "|---|" + "---:|" * len(block.heads)]
    for line in block.lines:
        cells = " | ".join(map(_cell, line.cells))
        lines.append(f"| {markdown_escape(line.label)} | {cells} |")
    return lines


def _head(head: Head) -> str:
    label = markdown_escape(head.label)
    unit = markdown_escape(UNIT_DISPLAY.get(head.unit, head.unit))
    return f"{label} [{unit}]" if unit else label


def _cell(cell: Shown) -> str:
    return (f"**{cell.text}**" if cell.bold else cell.text) + (WORSE if cell.worse else "")


def csv_text(table: Mapping[str, Any]) -> str:
    """CSV, one line a cell: row, column, unit, numbers, marks, reason; then how its row compares.

    Published values come last, with their grade and source, which are empty for ours.

    Columns for each row that others are compared with come last: the difference in this column
    with its interval, and in how many columns the row is better (surely so) of how many.
    """
    compared = comparison_of(table)
    references = dict.fromkeys(one.reference for one in compared.differences) if compared else ()
    names = [*_COLUMNS, *(["best", "mean_rank"] if compared else [])]
    names += [csv_field(f"{word}_{reference}") for reference in references for word in _COMPARED]
    published = table.get("published") or []
    names += _PUBLISHED if published else []
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    cells = {(cell["row"], cell["column"]): cell for cell in table["cells"]}
    worse = worse_cells(table)
    for row in table["rows"]:
        for column in table["columns"]:
            place = row["key"], column["key"]
            texts = (row["key"], row["label"], column["key"], column["label"])
            cell, unit = cells[place], column["unit"] or row.get("unit", "")
            numbers = [cell["value"], cell["std"], cell.get("low"), cell.get("high"), cell["n"]]
            fields = [*map(csv_field, (*texts, unit)), *numbers]
            fields += ["yes" if place in worse else "", csv_field(cell["reason"] or "")]
            if compared:
                best = Best(row=row["key"], column=column["key"]) in compared.best
                fields += ["yes" if best and place not in worse else ""]
                fields += _compared_fields(compared, place, list(references))
            writer.writerow([*fields, "", ""] if published else fields)
    for row in published:
        writer.writerows(_published_fields(table, row, len(names) - len(_PUBLISHED)))
    return buffer.getvalue()


def _published_fields(
    table: Mapping[str, Any], row: Mapping[str, Any], width: int
) -> Iterator[list[object]]:
    """Lines of a published row, ``width`` fields before its source; statistics are empty."""
    columns = {column["key"]: column for column in table["columns"]}
    for cell in row["cells"]:
        column = columns[cell["column"]]
        texts = ("published", row["label"], column["key"], column["label"])
        fields: list[object] = [*map(csv_field, (*texts, column["unit"] or row["unit"]))]
        fields += [cell["value"], cell["std"]]
        source = f"{row['source']}; read in: {row['read_where']}. {row['note']} {row['settings']}"
        yield [*fields, *[""] * (width - len(fields)), row["grade"], csv_field(source)]


_COLUMNS = (
    *("row", "row_label", "column", "column_label", "unit"),
    *("mean", "std", "low", "high", "n", "worse_than_naive", "reason"),
)
_PUBLISHED = ["published_grade", "published_source"]
_COMPARED = (
    *("difference", "difference_low", "difference_high"),
    *("better", "surely_better", "worse", "surely_worse", "compared"),
)


def _compared_fields(
    compared: Comparison, place: tuple[str, str], references: list[str]
) -> list[object]:
    row, column = place
    fields: list[object] = [compared.ranks.get(row)]
    differences = {(d.row, d.column, d.reference): d for d in compared.differences}
    wins = {(one.row, one.reference): one for one in compared.wins}
    for reference in references:
        found, won = differences.get((row, column, reference)), wins.get((row, reference))
        fields += [found.value, found.low, found.high] if found else [None] * 3
        if won is None:
            fields += [None] * 5
        else:
            fields += [won.better, won.surely_better, won.worse, won.surely_worse, won.columns]
    return fields
