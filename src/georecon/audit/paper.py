"""Our numbers beside the paper's public ones."""

from __future__ import annotations

from dataclasses import dataclass

from georecon.records.chain import Cell
from georecon.reporting.expected import Expected

UNKNOWN = "paper's number unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperComparison:
    """A number of ours beside the paper's.

    Attributes:
        verdict: "within tolerance", "differs" or "unknown".
        text: that in words.
        value: the paper's number, where it is known; ``tolerance`` and ``source`` likewise.
    """

    verdict: str = "unknown"
    text: str = UNKNOWN
    value: float | None = None
    tolerance: float | None = None
    source: str | None = None


def compare(cell: Cell, expected: Expected | None, edition: str) -> PaperComparison:
    """A cell's value and the paper's, where reports/expected gives one for this very cell.

    A number belongs to a cell if its entry names ``row`` and ``column``; it counts in the paper
    edition only, whose data and sizes are the paper's, and only with a ``tolerance``.

    Args:
        cell: of a table.
        expected: entry of reports/expected for the table.
        edition: edition of the table.
    """
    for number in expected.numbers if expected is not None else ():
        if (number.row, number.column) != (cell.row, cell.column) or number.relation != "=":
            continue
        if edition != "paper" or number.tolerance is None or cell.value is None:
            continue
        within = abs(cell.value - number.value) <= number.tolerance
        verdict = "within tolerance" if within else "differs"
        return PaperComparison(
            verdict=verdict,
            text=f"{verdict}: {number.value} ± {number.tolerance} in the paper",
            value=number.value,
            tolerance=number.tolerance,
            source=number.source,
        )
    return PaperComparison()
