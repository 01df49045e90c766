"""What the web report shows, read from an edition's files as they are now.

Plain values only: the templates and the page's script get these and escape them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from georecon import paths
from georecon.errors import DataError
from georecon.experiments.cells import Experiments
from georecon.reporting.summary import number_text as expected_number
from georecon.reporting.tables import empty_reasons, fill_cell, number_text
from georecon.units import UNIT_DISPLAY

PART_NAMES = {
    "pretrain": "pre-training",
    "property": "properties",
    "force": "forces",
    "large_force": "forces of large molecules",
    "out_of_distribution": "out of distribution",
}


def site_plan(experiments: Experiments, figures: Iterable[str]) -> dict[str, Any]:
    """What an edition is to have: its tables' specifications, molecule sets and figures.

    Args:
        experiments: of the resolved configuration.
        figures: names of the figures.
    """
    tables = experiments.config["tables"]
    return {
        "edition": experiments.edition,
        "seeds": experiments.config["finetune"]["seeds"],
        "sets": [_set(experiments, part) for part in experiments.config["sets"]],
        "tables": [experiments.table_spec(name) for name in tables],
        "figures": list(figures),
    }


def _set(experiments: Experiments, part: str) -> dict[str, Any]:
    """One part of the edition's data: title, citation, stores; or why it is missing."""
    entry = experiments.config["sets"][part]
    card = experiments.card(entry["dataset"])
    words = {"part": PART_NAMES.get(part, part), "missing": entry.get("missing")} | {
        key: card.get(key) for key in ("title", "citation", "licence")
    }
    if entry.get("missing"):
        return words | {"stores": []}
    names = experiments.targets(entry["dataset"]) if part != "pretrain" else [""]
    stores = (
        experiments.store(entry["dataset"], name)
        if name
        else paths.STORE.format(dataset=entry["dataset"])
        for name in names
    )
    return words | {"stores": list(dict.fromkeys(stores))}


def present_table(spec: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """A table from those of its metrics files that exist now, as ``tables.build`` makes it.

    Cells that wait for a file get ``waits``: the files that are missing or unreadable.
    """
    units = {column["key"]: column["unit"] for column in spec["columns"]}
    rows = {row["key"]: row.get("unit", "") for row in spec["rows"]}
    cells = []
    for cell in spec["cells"]:
        needed = [f for group in ("files", "divide_by") for f in cell.get(group, {}).values()]
        waits = [file for file in needed if not (root / file).is_file()]
        if not waits:
            try:
                cells.append(fill_cell(cell, units[cell["column"]] or rows[cell["row"]]))
                continue
            except DataError as error:
                waits = [str(error)]
        empty = {"reason": "not made yet"}
        place = {"row": cell["row"], "column": cell["column"]}
        cells.append(fill_cell({**place, **empty}, "") | {"waits": waits})
    return {**spec, "cells": cells}


def cell_path(table: str, row: str, column: str) -> str:
    """Address of a cell inside the page: its place, each part escaped for a URL."""
    return "/".join(quote(part, safe="") for part in (table, row, column))


def cells_of(
    table: Mapping[str, Any], verdicts: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Cells of a table with all that the page shows of each, in the order of rows and columns.

    Args:
        table: content of a table's JSON, or :func:`present_table`.
        verdicts: of the audit, by ``<table>/<row>/<column>``.
    """
    found = {(cell["row"], cell["column"]): cell for cell in table["cells"]}
    shown = []
    for row in table["rows"]:
        for column in table["columns"]:
            cell = found[row["key"], column["key"]]
            value, unit = cell["value"], column["unit"] or row.get("unit", "")
            place = f"{table['table']}/{row['key']}/{column['key']}"
            shown.append(
                {
                    "place": place,
                    "key": cell_path(table["table"], row["key"], column["key"]),
                    "table": table["table"],
                    "title": table["title"],
                    "row": row["label"],
                    "column": column["label"],
                    "unit": UNIT_DISPLAY.get(unit, unit),
                    "value": value,
                    "text": "–" if value is None else number_text(value, cell["std"]),
                    "n": cell["n"],
                    "reason": cell["reason"],
                    "waits": cell.get("waits", []),
                    "values": {seed: f"{each:.6g}" for seed, each in cell["values"].items()},
                    "files": [used["path"] for used in cell["runs"]],
                    "verdict": verdicts.get(place),
                }
            )
    return shown


def table_view(
    table: Mapping[str, Any], cells: list[dict[str, Any]], expected: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A table as the template draws it.

    Args:
        table: its content.
        cells: from :func:`cells_of`.
        expected: the paper's public numbers, from ``report.load_expected``.
    """
    across, down = (
        [(line["label"], UNIT_DISPLAY.get(line["unit"], line["unit"])) for line in table[key]]
        for key in ("columns", "rows")
    )
    width = len(across)
    grid = [cells[k : k + width] for k in range(0, len(cells), width)]
    if width > 2 * len(down):  # a few methods and many targets read better as columns
        across, down, grid = down, across, [list(line) for line in zip(*grid, strict=True)]
    units_in_label = any(unit and f"[{unit}]" in label for label, unit in (*across, *down))
    head = [{"label": label, "unit": "" if units_in_label else unit} for label, unit in across]
    lines = [
        {"label": label, "unit": "" if units_in_label else unit, "cells": own}
        for (label, unit), own in zip(down, grid, strict=True)
    ]
    return {
        "name": table["table"],
        "title": table["title"],
        "caption": table["caption"],
        "columns": head,
        "rows": lines,
        "reasons": empty_reasons(dict(table)),
        "empty": all(cell["reason"] and not cell["waits"] for cell in cells),
        "expected": expected and _expected_view(expected),
    }


def short_titles(titles: Iterable[str]) -> list[str]:
    """Titles up to their colon, or after it where several begin alike."""
    parts = [title.partition(":")[::2] for title in titles]
    heads = [head for head, _ in parts]
    return [
        tail.strip().capitalize() if heads.count(head) > 1 and tail else head
        for head, tail in parts
    ]


def _expected_view(entry: Mapping[str, Any]) -> dict[str, Any]:
    lines = {
        key: [expected_number(number).removeprefix("- ") for number in entry[key]]
        for key in ("numbers", "context")
    }
    return {"reason": entry["reason"], "claims": entry["claims"], **lines}


def figure_view(name: str, results: Path) -> dict[str, Any] | None:
    """A figure's picture, size [pixels], files and the words of its notebook; None if not made."""
    picture = results / "figures" / f"{name}.png"
    if not picture.is_file():
        return None
    width, height = png_size(picture)
    title, caption = _notebook_words(results / "notebooks" / f"{name}.ipynb")
    files = [("PDF", f"figures/{name}.pdf"), ("notebook", f"notebooks/{name}.html")]
    return {
        "name": name,
        "title": title or name.replace("_", " ").capitalize(),
        "caption": caption,
        "png": f"../figures/{name}.png",
        "width": width,
        "height": height,
        "files": [
            {"label": label, "href": f"../{file}"}
            for label, file in files
            if (results / file).is_file()
        ],
    }


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
