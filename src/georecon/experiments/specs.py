"""What tables are made of: rows, columns and cells, typed; JSON in the parameters of their rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from georecon.keys import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of a table: a method, and the quantity it shows where columns leave that open.

    Attributes:
        kind: "method"; "baseline" for the training mean, "naive" for predictions without learned
            geometry, whose numbers come from the runs of ``method``.
    """

    key: str
    label: str
    method: str
    unit: str = ""
    quantity: str | None = None
    kind: str = "method"

    def as_json(self) -> Json:
        """What a table's JSON says of it."""
        names = ("key", "label", "method", "unit", "quantity", "kind")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a table: where its numbers come from.

    Attributes:
        key, label, unit: as the table shows it.
        source: "finetune", "pretrain", "smoothness" or "nve": the stage of its runs.
        metric: the number taken; "" is the stage's own.
        part, target, test_part: of fine-tuning: a part in ``sets``, a target of its dataset, and
            one of the target's test parts.
        quantity: "energy" or "force", or None: the row says it, or it is a property.
        map, displacement, ratio_to, title: of smoothness: the encoder's map, the displacement [Å],
            the method to divide by, and the label without these.
    """

    key: str
    label: str
    unit: str
    source: str
    metric: str = ""
    part: str = ""
    target: str = ""
    test_part: str | None = None
    quantity: str | None = None
    map: str = ""
    displacement: float = 0.0
    ratio_to: str | None = None
    title: str = ""

    def as_json(self) -> Json:
        """What a table's JSON says of it."""
        return {"key": self.key, "label": self.label, "unit": self.unit}


@dataclass(frozen=True, kw_only=True, slots=True)
class CellSpec:
    """What one cell is made of.

    Attributes:
        row, column: keys.
        reason: why it stays empty, or None.
        files: one JSON a seed.
        key: path of keys to the number in each.
        unit: of the number there.
        divide_by: for a ratio, the files of the denominator by seed.
    """

    row: str
    column: str
    reason: str | None = None
    files: Mapping[int, str] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    unit: str = ""
    divide_by: Mapping[int, str] = field(default_factory=dict)

    def all_files(self) -> list[str]:
        """Files it is read from."""
        return [*self.files.values(), *self.divide_by.values()]

    def as_json(self) -> Json:
        """For a rule's parameters."""
        place: Json = {"row": self.row, "column": self.column}
        if self.reason is not None:
            return place | {"reason": self.reason}
        found: Json = place | {"files": dict(self.files), "key": [*self.key], "unit": self.unit}
        return found | ({"divide_by": dict(self.divide_by)} if self.divide_by else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSpec:
    """A whole table, ready to be filled.

    Attributes:
        compare: methods that all other methods of the table are compared with.
    """

    table: str
    edition: str
    title: str
    caption: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: tuple[CellSpec, ...]
    compare: tuple[str, ...] = ()

    def unit(self, cell: CellSpec) -> str:
        """Unit that a cell's number is shown in: its column's, else its row's."""
        (column,) = (c.unit for c in self.columns if c.key == cell.column)
        (row,) = (r.unit for r in self.rows if r.key == cell.row)
        return column or row

    def as_json(self) -> Json:
        """For a rule's parameters."""
        return {
            "table": self.table,
            "edition": self.edition,
            "title": self.title,
            "caption": self.caption,
            "rows": [row.as_json() for row in self.rows],
            "columns": [column.as_json() for column in self.columns],
            "cells": [cell.as_json() for cell in self.cells],
            "compare": [*self.compare],
        }

    @classmethod
    def from_json(cls, document: Any) -> TableSpec:
        """From what :meth:`as_json` gave; where its numbers come from is in the cells alone."""
        return cls(
            **{name: document[name] for name in ("table", "edition", "title", "caption")},
            rows=tuple(Row(**{"method": "", **row}) for row in document["rows"]),
            columns=tuple(Column(source="", **column) for column in document["columns"]),
            cells=tuple(cell_of(cell) for cell in document["cells"]),
            compare=tuple(document["compare"]),
        )


def cell_of(document: Any) -> CellSpec:
    """A cell from what :meth:`CellSpec.as_json` gave."""
    return CellSpec(**{**document, "key": tuple(document.get("key", ()))})
