"""What the figures read from files of results."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from georecon.files import read_json

Points = dict[str, list[tuple[float, float]]]
"""By method: (displacement [Å], estimate)."""


class Cell(NamedTuple):
    """A filled cell of a table: mean, and the values of the seeds."""

    value: float
    values: tuple[float, ...]


Cells = Mapping[tuple[str, str], Cell]
"""Filled cells of a table by row and column."""


class TableColumn(NamedTuple):
    """A column of a table as it is shown."""

    key: str
    label: str
    unit: str


@dataclass(frozen=True, slots=True)
class Table:
    """What figures show of a table."""

    title: str
    columns: tuple[TableColumn, ...]
    cells: Cells


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV file of numbers; an empty field is NaN."""
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    names = list(rows[0]) if rows else []
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}


def read_table(path: Path) -> Table:
    """A table's title, columns and filled cells, from its JSON file."""
    table: dict[str, Any] = read_json(path)
    return Table(
        title=table["title"],
        columns=tuple(TableColumn(c["key"], c["label"], c["unit"]) for c in table["columns"]),
        cells={
            (cell["row"], cell["column"]): Cell(cell["value"], tuple(cell["values"].values()))
            for cell in table["cells"]
            if cell["value"] is not None
        },
    )


def read_predictions(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and training-mean baselines of one run, one value a molecule."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path, columns=["kind", "label", "prediction", "baseline"])
    keep = table["kind"].to_numpy() == "property"
    label, guess, baseline = (
        table[n].to_numpy()[keep] for n in ("label", "prediction", "baseline")
    )
    return label, guess, baseline


def mean_norms(files: Mapping[str, Path]) -> dict[str, Points]:
    """Mean spectral norm by map and method: (displacement, norm), sorted.

    Args:
        files: each method's smoothness metrics.json, whose estimates are named
            ``<map>/<displacement>``.
    """
    found: dict[str, Points] = {}
    for method, path in files.items():
        for name, estimate in read_json(path)["estimates"].items():
            which, size = name.rsplit("/", 1)
            point = (float(size), estimate["spectral_mean"])
            found.setdefault(which, {}).setdefault(method, []).append(point)
    return {which: {m: sorted(p) for m, p in lines.items()} for which, lines in found.items()}
