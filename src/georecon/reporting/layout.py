"""A table's JSON as texts in their places: what Markdown, LaTeX and the pages show alike.

Nothing is escaped here; each format escapes for itself (:mod:`georecon.reporting.escape`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from georecon.reporting.comparison import Comparison, Wins
from georecon.reporting.numbers import difference_text, number_text

EMPTY = "–"
WORSE = "†"
"""Mark of a number that a prediction without learning beats."""
PUBLISHED = "Published, not re-run"
"""Head of others' values."""


class Head(NamedTuple):
    """Label of a column and the name of its unit; empty without one."""

    label: str
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A cell: its text, whether it is surely the best of its column, and worse than naive."""

    text: str
    bold: bool = False
    worse: bool = False


class Line(NamedTuple):
    """A row: label and cells."""

    label: str
    cells: list[Shown]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Cells under their heads; ``title`` is empty for the table itself."""

    title: str
    heads: list[Head]
    lines: list[Line]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A whole table.

    Attributes:
        name, title: of the table.
        main: its cells.
        published: others' values, under those of its columns that have some.
        differences: one block for each row that others are compared with.
        sentences: caption, how numbers and marks are to be read, why cells are empty.
        sources: of others' values, and what differs there; empty without any.
    """

    name: str
    title: str
    main: Block
    published: Block | None
    differences: list[Block]
    sentences: list[str]
    sources: list[str]


def layout(table: Mapping[str, Any]) -> Layout:
    """A table's JSON in its places."""
    heads = [Head(column["label"], column["unit"]) for column in table["columns"]]
    shown = shown_cells(table)
    lines = [
        Line(row["label"], [shown[row["key"], column["key"]] for column in table["columns"]])
        for row in table["rows"]
    ]
    return Layout(
        name=table["table"],
        title=table["title"],
        main=Block(title="", heads=heads, lines=lines),
        published=published_block(table),
        differences=list(_difference_blocks(table)),
        sentences=[
            table["caption"],
            *reading_sentences(table),
            *empty_sentences(table),
        ],
        sources=published_sentences(table),
    )


def published_block(table: Mapping[str, Any]) -> Block | None:
    """Values of others, which no statistic of the table knows; None where there are none."""
    rows = table.get("published") or []
    if not rows:
        return None
    found = [{cell["column"]: cell for cell in row["cells"]} for row in rows]
    columns = [c for c in table["columns"] if any(c["key"] in own for own in found)]
    lines = []
    for row, own in zip(rows, found, strict=True):
        texts = [published_text(own.get(column["key"])) for column in columns]
        lines.append(Line(row["label"], [Shown(text=text) for text in (*texts, row["grade"])]))
    heads = [*(Head(column["label"], column["unit"]) for column in columns), Head("grade", "")]
    return Block(title=PUBLISHED, heads=heads, lines=lines)


def published_text(cell: Mapping[str, Any] | None) -> str:
    """A published value, or a dash."""
    if cell is None:
        return EMPTY
    return " ± ".join(f"{x:g}" for x in (cell["value"], cell["std"]) if x is not None)


def published_sentences(table: Mapping[str, Any]) -> list[str]:
    """Source and note of each published row, then what differs from ours; the same ones once."""
    sources: dict[str, list[str]] = {}
    settings: dict[str, list[str]] = {}
    for row in table.get("published") or []:
        note = f" {row['note']}" if row["note"] else ""
        text = f"{row['source']}; read in: {row['read_where']}.{note}"
        sources.setdefault(text, []).append(row["method"])
        settings.setdefault(row["settings"], []).append(row["method"])
    if not sources:
        return []
    whose = {text: ", ".join(dict.fromkeys(names)) for text, names in settings.items()}
    whose = whose if len(whose) > 1 else dict.fromkeys(whose, "All published rows")
    return [
        f"{PUBLISHED}, and in no statistic here; grade A is the paper's own table, B a transcript "
        "of it, C an extraction by a machine.",
        *(f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in sources.items()),
        *(f"{names}: {text}" for text, names in whose.items()),
    ]


def comparison_of(table: Mapping[str, Any]) -> Comparison | None:
    """How the methods of a table compare; None for a table that compares none."""
    found = table.get("comparison")
    return None if found is None else Comparison.from_json(found)


def shown_cells(table: Mapping[str, Any]) -> dict[tuple[str, str], Shown]:
    """Text and marks of every cell, by row and column."""
    compared = comparison_of(table)
    best = {(one.row, one.column) for one in compared.best} if compared else set()
    worse = worse_cells(table)
    units = {row["key"]: row.get("unit", "") for row in table["rows"]}
    whole = {
        column["key"]: not column["unit"] and _counts(table, column["key"], units)
        for column in table["columns"]
    }
    found = {}
    for cell in table["cells"]:
        place = cell["row"], cell["column"]
        text = EMPTY
        if cell["value"] is not None:
            number = number_text(cell["value"], cell["std"], cell["n"], whole=whole[cell["column"]])
            text = f"{number} ({cell['n']})"
        found[place] = Shown(text=text, bold=place in best - worse, worse=place in worse)
    return found


def _counts(table: Mapping[str, Any], column: str, units: Mapping[str, str]) -> bool:
    """Whether a column counts something: whole numbers of no unit only."""
    cells = [cell for cell in table["cells"] if cell["column"] == column]
    values = [value for cell in cells for value in cell["values"].values()]
    return not any(units[cell["row"]] for cell in cells) and all(
        float(value).is_integer() for value in values
    )


def worse_cells(table: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Cells of methods with a larger error than a naive row of their quantity, by the mean."""
    values = {
        (cell["row"], cell["column"]): cell["value"]
        for cell in table["cells"]
        if cell["value"] is not None
    }
    naive = [row for row in table["rows"] if row.get("kind") == "naive"]
    return {
        (row["key"], column["key"])
        for row in table["rows"]
        if row.get("kind", "method") == "method"
        for other in naive
        if other.get("quantity") == row.get("quantity")
        for column in table["columns"]
        if (row["key"], column["key"]) in values
        and (other["key"], column["key"]) in values
        and values[row["key"], column["key"]] > values[other["key"], column["key"]]
    }


def _difference_blocks(table: Mapping[str, Any]) -> Iterator[Block]:
    compared = comparison_of(table)
    if compared is None or not compared.differences:
        return
    labels = {row["key"]: row["label"] for row in table["rows"]}
    texts = {
        (one.reference, one.row, one.column): difference_text(one.value, one.low, one.high)
        for one in compared.differences
    }
    for reference in dict.fromkeys(one.reference for one in compared.differences):
        own = [one for one in compared.differences if one.reference == reference]
        there = {one.column for one in own}
        columns = [column for column in table["columns"] if column["key"] in there]
        wins = {one.row: one for one in compared.wins if one.reference == reference}
        yield Block(
            title=f"Difference to {labels[reference]}",
            heads=[
                *(Head(column["label"], column["unit"]) for column in columns),
                *(Head(word, "") for word in ("better", "worse")),
            ],
            lines=[
                Line(
                    labels[row],
                    [
                        *(
                            Shown(text=texts.get((reference, row, column["key"]), EMPTY))
                            for column in columns
                        ),
                        *_wins_cells(wins[row]),
                    ],
                )
                for row in dict.fromkeys(one.row for one in own)
            ],
        )


def _wins_cells(wins: Wins) -> tuple[Shown, Shown]:
    return (
        Shown(text=f"{wins.better} of {wins.columns} ({wins.surely_better})"),
        Shown(text=f"{wins.worse} of {wins.columns} ({wins.surely_worse})"),
    )


def reading_sentences(table: Mapping[str, Any]) -> list[str]:
    """How numbers and marks are to be read; only of those that the table has."""
    seeds = {cell["n"] for cell in table["cells"] if cell["value"] is not None}
    found = []
    if seeds:
        found.append("In brackets: number of seeds.")
    if any(cell["std"] for cell in table["cells"] if (cell["n"] or 0) > 2):
        found.append("± is half of the 95 % interval of the mean over seeds.")
    if any(cell["std"] for cell in table["cells"] if cell["n"] == 2):
        found.append("Two seeds: both values.")
    if worse_cells(table):
        naive = [row["label"] for row in table["rows"] if row.get("kind") == "naive"]
        found.append(f"{WORSE} worse than without learning ({'; '.join(naive)}).")
    compared = comparison_of(table)
    if compared is None:
        return found
    if compared.best:
        found.append(
            "Bold: the smallest error of a column, where the interval of its difference to the "
            "second smallest excludes zero."
        )
    return found + _comparison_sentences(table, compared)


def _comparison_sentences(table: Mapping[str, Any], compared: Comparison) -> list[str]:
    found = []
    if any(one.low is not None for one in compared.differences):
        alone = any((cell.get("key") or [""])[0] in ("parts", "final") for cell in table["cells"])
        found.append(
            "Differences: mean and 95 % interval, paired by seed and test molecule"
            f"{' (validation errors and parts of a test set: by seed alone)' if alone else ''}, "
            "negative where the row has the smaller error. Better and worse: columns by the mean, "
            "in brackets those whose interval excludes zero."
        )
    elif compared.differences:
        found.append(
            "Differences are paired by seed, negative where the row has the smaller error. Fewer "
            "than three seeds have no interval."
        )
    labels = {row["key"]: row["label"] for row in table["rows"]}
    if len(compared.ranks) > 1:
        known = [row for row in labels if row in compared.ranks]  # equal ranks in their order
        order = sorted(known, key=lambda row: compared.ranks[row])
        ranks = "; ".join(f"{labels[row]} {compared.ranks[row]:.1f}" for row in order)
        found.append(f"Mean rank over columns, 1 is best: {ranks}.")
    return found


def empty_reasons(table: Mapping[str, Any]) -> list[str]:
    """Distinct reasons of empty cells."""
    return list(dict.fromkeys(cell["reason"] for cell in table["cells"] if cell["reason"]))


def empty_sentences(table: Mapping[str, Any]) -> list[str]:
    """Why cells are empty."""
    return [f"Empty cells ({EMPTY}): {reason}." for reason in empty_reasons(table)]
