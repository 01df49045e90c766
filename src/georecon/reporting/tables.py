"""Tables from metrics files: JSON with the runs behind each cell; CSV, Markdown, LaTeX of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from georecon.errors import DataError
from georecon.experiments.specs import CellSpec, TableSpec
from georecon.files import read_json, sha256_file, write_json, write_text
from georecon.keys import Json
from georecon.units import UNIT_DISPLAY, UNIT_LATEX, convert

FORMAT_VERSION = 1


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
        ``n``,
        ``values`` by seed, ``runs`` (path and sha256 of every file used) and ``reason`` if empty.
    """
    place = {"row": cell.row, "column": cell.column}
    if cell.reason is not None:
        return place | {
            "value": None,
            "std": None,
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
    std = statistics.stdev(numbers) if len(numbers) > 1 else None
    return place | {
        "value": statistics.fmean(numbers),
        "std": std,
        "n": len(numbers),
        "values": values,
        "runs": runs,
        "key": [*cell.key],
        "reason": None,
    }


def build(spec: TableSpec, leaks: list[str]) -> Json:
    """Fill a table specification.

    Args:
        spec: what the table is made of.
        leaks: leak reports of the test sets behind it; their counts join the caption.
    """
    return {
        "format_version": FORMAT_VERSION,
        **spec.as_json(),
        "caption": " ".join([spec.caption, *leak_sentences(leaks)]),
        "cells": [fill_cell(cell, spec.unit(cell)) for cell in spec.cells],
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


def number_text(value: float, std: float | None) -> str:
    """Mean ± std to two significant digits of the std, or to four of the value without one."""
    if std is None or std == 0.0:
        return f"{value:.4g}"
    digits = max(0, 1 - math.floor(math.log10(std)))
    if digits > 6 or abs(value) >= 1e6:
        return f"{value:.4g} ± {std:.2g}"
    return f"{value:.{digits}f} ± {std:.{digits}f}"


def cell_text(cell: dict[str, Any]) -> str:
    """Text of one cell: number with its n, or a dash for an empty one."""
    if cell["value"] is None:
        return "–"
    return f"{number_text(cell['value'], cell['std'])} ({cell['n']})"


def _grid(table: dict[str, Any]) -> list[list[dict[str, Any]]]:
    found = {(cell["row"], cell["column"]): cell for cell in table["cells"]}
    return [
        [found[row["key"], column["key"]] for column in table["columns"]] for row in table["rows"]
    ]


def _header(column: dict[str, Any]) -> str:
    unit = UNIT_DISPLAY.get(column["unit"], column["unit"])
    return f"{column['label']} [{unit}]" if unit else str(column["label"])


def empty_reasons(table: dict[str, Any]) -> list[str]:
    """Distinct reasons of empty cells."""
    return list(dict.fromkeys(cell["reason"] for cell in table["cells"] if cell["reason"]))


def markdown(table: dict[str, Any]) -> str:
    """Markdown: title, rows × columns, caption, reasons of empty cells."""
    columns = table["columns"]
    lines = [f"### {table['title']}", ""]
    lines.append("| | " + " | ".join(_header(column) for column in columns) + " |")
    lines.append("|---|" + "---:|" * len(columns))
    for row, cells in zip(table["rows"], _grid(table), strict=True):
        lines.append(f"| {row['label']} | " + " | ".join(map(cell_text, cells)) + " |")
    lines += ["", f"{table['caption']} In brackets: number of seeds."]
    lines += [f"Empty cells (–): {reason}." for reason in empty_reasons(table)]
    return "\n".join(lines) + "\n"


CSV_COLUMNS = ("row", "row_label", "column", "column_label", "unit", "mean", "std", "n", "reason")


def csv_text(table: dict[str, Any]) -> str:
    """CSV, one line a cell: row, column, unit, mean, std, n, reason."""
    import pandas

    lines = [
        (
            *(row["key"], row["label"], column["key"], column["label"]),
            column["unit"] or row.get("unit", ""),
            *(cell[name] for name in ("value", "std", "n", "reason")),
        )
        for row, cells in zip(table["rows"], _grid(table), strict=True)
        for column, cell in zip(table["columns"], cells, strict=True)
    ]
    frame = pandas.DataFrame(lines, columns=list(CSV_COLUMNS), dtype=object)  # as they are
    return frame.to_csv(index=False, lineterminator="\n")


_LATEX_SPECIAL = dict(
    zip("&%$#_{}", (r"\&", r"\%", r"\$", r"\#", r"\_", r"\{", r"\}"), strict=True)
) | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "Å": r"\AA{}",
    "–": "--",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "|": r"$|$",
    "<": "$<$",
    ">": "$>$",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "²": "$^2$",
    "³": "$^3$",
    "⁻": "$^-$",
    "₀": "$_0$",
    "ᵥ": "$_v$",
    "α": r"$\alpha$",
    "μ": r"$\mu$",
    "σ": r"$\sigma$",
    "Δ": r"$\Delta$",
}


def latex_escape(text: str) -> str:
    """Plain text as LaTeX."""
    return "".join(_LATEX_SPECIAL.get(character, character) for character in text)


def latex_unit(unit: str) -> str:
    """Unit as LaTeX."""
    return f"${UNIT_LATEX[unit]}$" if unit in UNIT_LATEX else latex_escape(unit)


def latex(table: dict[str, Any]) -> str:
    """LaTeX ``table`` with booktabs rules."""
    import pandas

    names = [
        latex_escape(column["label"])
        + (f" [{latex_unit(column['unit'])}]" if column["unit"] else "")
        for column in table["columns"]
    ]
    cells = [[latex_escape(cell_text(cell)) for cell in cells] for cells in _grid(table)]
    rows = [latex_escape(row["label"]) for row in table["rows"]]
    frame = pandas.DataFrame(cells, index=rows, columns=names)
    tabular = frame.to_latex(escape=False, column_format="l" + "r" * len(names))
    notes = [table["caption"], "In brackets: number of seeds."]
    notes += [f"Empty cells: {reason}." for reason in empty_reasons(table)]
    caption = latex_escape(f"{table['title']}. {' '.join(notes)}")
    return (
        "\\begin{table}\n\\centering\n"
        f"{tabular}"
        f"\\caption{{{caption}}}\n"
        f"\\label{{tab:{table['table']}}}\n"
        "\\end{table}\n"
    )


def write_table(table: dict[str, Any], stem: Path) -> None:
    """Write ``<stem>.csv``, ``.md``, ``.tex`` and ``.json``."""
    write_text(stem.with_name(stem.name + ".csv"), csv_text(table))
    write_text(stem.with_name(stem.name + ".md"), markdown(table))
    write_text(stem.with_name(stem.name + ".tex"), latex(table))
    write_json(stem.with_name(stem.name + ".json"), table)
