"""Tables from metrics files: JSON with the runs behind each cell and how its methods compare."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from georecon.errors import DataError
from georecon.experiments.specs import CellSpec, TableSpec
from georecon.files import read_json, sha256_file, write_json, write_text
from georecon.keys import Json
from georecon.reporting.comparison import compare
from georecon.reporting.latex import latex
from georecon.reporting.significance import over_seeds
from georecon.reporting.texts import csv_text, markdown
from georecon.units import convert

FORMAT_VERSION = 2


def lookup(document: Any, key: Sequence[str], file: str) -> float:
    """Number at a path of keys in a JSON document.

    Raises:
        DataError: the key is absent or not a finite number.
    """
    value = document
    for part in key:
        if not isinstance(value, dict) or part not in value:
            raise DataError(file, ".".join(key), "missing: rerun the job that writes this file")
        value = value[part]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(file, ".".join(key), f"is {value!r}, not a finite number")
    return float(value)


def _read_metrics(file: str) -> Any:
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise DataError(file, None, f"not readable as JSON ({error}); rerun its job") from None


def fill_cell(cell: CellSpec, unit: str) -> Json:
    """Read the numbers of one cell of a table specification.

    Args:
        cell: of a ``TableSpec``.
        unit: unit of the table's column; values are converted to it.

    Returns:
        row, column, ``value`` (mean), ``std`` (sample standard deviation, null for one seed),
        ``low`` and ``high`` (ends of the mean's 95 % interval, null for fewer than three seeds),
        ``n``, ``values`` by seed, ``runs`` (path and sha256 of every file used) and ``reason`` if
        empty.
    """
    place = {"row": cell.row, "column": cell.column}
    if cell.reason is not None:
        return place | {
            "value": None,
            "std": None,
            "low": None,
            "high": None,
            "n": 0,
            "values": {},
            "runs": [],
            "reason": cell.reason,
        }
    values, runs = {}, []
    for seed, file in cell.files.items():
        number = lookup(_read_metrics(file), cell.key, file)
        used = [file]
        if cell.divide_by:
            other = cell.divide_by[seed]
            divisor = lookup(_read_metrics(other), cell.key, other)
            if divisor == 0.0:
                raise DataError(other, ".".join(cell.key), "is 0, nothing can be related to it")
            number /= divisor
            used.append(other)
        elif cell.unit != unit:
            number = float(convert(number, cell.unit, unit))
        values[str(seed)] = number
        runs += [{"path": name, "sha256": sha256_file(name)} for name in used]
    numbers = list(values.values())
    interval = over_seeds(numbers)
    return place | {
        "value": statistics.fmean(numbers),
        "std": statistics.stdev(numbers) if len(numbers) > 1 else None,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "n": len(numbers),
        "values": values,
        "runs": runs,
        "key": [*cell.key],
        "reason": None,
    }


def build(
    spec: TableSpec,
    leaks: list[str],
    trajectories: Sequence[str] = (),
    published: Sequence[Json] = (),
) -> Json:
    """Fill a table specification.

    Args:
        spec: what the table is made of.
        leaks: leak reports of the test sets behind it; their counts join the caption.
        trajectories: descriptions of the computed files behind it; how many of their frames are
            independent joins the caption too.
        published: rows of others' values from ``published_json``; no statistic knows them.

    Raises:
        DataError: a file lacks a number, or runs that are compared do not belong together.
    """
    cells: list[Any] = [fill_cell(cell, spec.unit(cell)) for cell in spec.cells]
    return {
        "format_version": FORMAT_VERSION,
        **spec.as_json(),
        "caption": caption(spec, leaks, trajectories),
        "cells": cells,
        "comparison": compare(spec, values_by_seed(cells)).as_json() if spec.compare else None,
        "published": list(published),
    }


def caption(spec: TableSpec, leaks: list[str], trajectories: Sequence[str]) -> str:
    """A table's caption with what is known of its data only once they are there."""
    return " ".join([spec.caption, *trajectory_sentences(trajectories), *leak_sentences(leaks)])


def trajectory_sentences(files: Sequence[str]) -> list[str]:
    """How many frames of computed trajectories are independent, and how many trajectories broke.

    Raises:
        DataError: a file is no such description.
    """
    made = [_description(file) for file in files]
    found = []
    for dataset in dict.fromkeys(one["dataset"] for one in made):
        own = [one for one in made if one["dataset"] == dataset]
        counts = [
            f"{one['name'].removeprefix(dataset + '_')} {one['independent_frames']:.0f} of "
            f"{one['frames']}"
            for one in own
            if one["independent_frames"] is not None
        ]
        found.append(
            f"{dataset} is computed with {own[0]['theory']}; about so many of its frames are "
            f"independent (autocorrelation of the energy): {', '.join(counts)}."
        )
        if broken := sum(len(one["broken"]) for one in own):
            found.append(
                f"Trajectories and scan points of {dataset} that broke, left out: {broken}."
            )
    return found


def _description(file: str) -> Any:
    found = _read_metrics(file)
    names = ("dataset", "name", "theory", "frames", "independent_frames", "broken")
    if not isinstance(found, dict) or any(name not in found for name in names):
        raise DataError(file, None, f"lacks one of {', '.join(names)}; rerun the job of its file")
    return found


def values_by_seed(cells: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], dict[int, float]]:
    """Number of every seed of the filled cells of a table, by row and column."""
    return {
        (cell["row"], cell["column"]): {int(seed): v for seed, v in cell["values"].items()}
        for cell in cells
        if cell["value"] is not None
    }


def leak_sentences(leaks: list[str]) -> list[str]:
    """What the leak reports say, one sentence for each distinct finding."""
    reports = [read_json(path) for path in leaks]
    sentences = []
    for dataset in dict.fromkeys(report["dataset"] for report in reports):
        same = [r for r in reports if r["dataset"] == dataset]
        shared = sum(r["shared"] for r in same)
        total = sum(r["test_molecules"] for r in same)
        sentences.append(
            f"{shared} of {total} {dataset} test entries have a structure that also occurs "
            "in the pre-training set."
        )
    for size in dict.fromkeys(report["pretrain_molecules"] for report in reports):
        sentences.append(f"Pre-training draws from {size} molecules.")
    return sentences


def write_table(table: Mapping[str, Any], stem: Path) -> None:
    """Write ``<stem>.csv``, ``.md``, ``.tex`` and ``.json``."""
    write_text(stem.with_name(stem.name + ".csv"), csv_text(table))
    write_text(stem.with_name(stem.name + ".md"), markdown(table))
    write_text(stem.with_name(stem.name + ".tex"), latex(table))
    write_json(stem.with_name(stem.name + ".json"), table)
