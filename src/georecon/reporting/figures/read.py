"""What the figures read from files of results."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV file of numbers; an empty field is NaN."""
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    names = list(rows[0]) if rows else []
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}


def table_cells(table: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Filled cells of a table by row and column."""
    cells = ((cell["row"], cell["column"], cell) for cell in table["cells"])
    return {(row, column): cell for row, column, cell in cells if cell["value"] is not None}


def read_predictions(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and training-mean baselines of one run, one value a molecule."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path, columns=["kind", "label", "prediction", "baseline"])
    keep = table["kind"].to_numpy() == "property"
    label, guess, baseline = (
        table[n].to_numpy()[keep] for n in ("label", "prediction", "baseline")
    )
    return label, guess, baseline


def mean_norms(metrics: dict[str, Any]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Mean spectral norm by map and method: (displacement, norm), sorted.

    Args:
        metrics: content of each method's smoothness metrics.json, whose estimates are named
            ``<map>/<displacement>``.
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for method, document in metrics.items():
        for name, estimate in document["estimates"].items():
            which, size = name.rsplit("/", 1)
            point = (float(size), estimate["spectral_mean"])
            found.setdefault(which, {}).setdefault(method, []).append(point)
    return {which: {m: sorted(p) for m, p in lines.items()} for which, lines in found.items()}
