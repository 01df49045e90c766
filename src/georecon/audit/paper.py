"""Our numbers beside the paper's public ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNKNOWN = "paper's number unknown"


def compare(
    cell: Mapping[str, Any], expected: Mapping[str, Any] | None, edition: str
) -> dict[str, Any]:
    """A cell's value and the paper's, where reports/expected gives one for this very cell.

    A number belongs to a cell if its entry names ``row`` and ``column``; it counts in the paper
    edition only, whose data and sizes are the paper's, and only with a ``tolerance``.

    Args:
        cell: facts of a cell: table, row, column, value.
        expected: entry of reports/expected for the table.
        edition: edition of the table.

    Returns:
        ``verdict`` ("within tolerance", "differs" or "unknown"), ``text``, and the paper's
        ``value``, ``tolerance`` and ``source`` where they are known.
    """
    place = (cell["row"], cell["column"])
    for number in (expected or {}).get("numbers", []):
        if (number.get("row"), number.get("column")) != place or number["relation"] != "=":
            continue
        if edition != "paper" or number["tolerance"] is None or cell["value"] is None:
            continue
        distance = abs(cell["value"] - number["value"])
        within = distance <= number["tolerance"]
        verdict = "within tolerance" if within else "differs"
        known = {key: number[key] for key in ("value", "tolerance", "source")}
        text = f"{verdict}: {number['value']} ± {number['tolerance']} in the paper"
        return {"verdict": verdict, "text": text, **known}
    return {"verdict": "unknown", "text": UNKNOWN}
