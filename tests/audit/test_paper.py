"""Our numbers beside the paper's."""

from __future__ import annotations

from typing import Any

import pytest

from georecon.audit.paper import compare
from georecon.records.chain import Cell
from georecon.reporting.expected import Expected, PublicNumber, load_expected
from tests.projects import ROOT

CELL = Cell(
    kind="cell", path="qm9/georecon/homo", table="qm9", row="georecon", column="homo", unit="meV",
    value=15.2, std=None, n=1, values={}, reason=None, runs=(),
)  # fmt: skip


def entry(**changes: Any) -> Expected:
    given = {
        "what": "HOMO",
        "relation": "=",
        "value": 15.0,
        "unit": "meV",
        "source": "table 1",
        "tolerance": 0.3,
        "verdict": "",
        "note": "",
        "row": "georecon",
        "column": "homo",
    }
    number = PublicNumber(**given | changes)  # fmt: skip
    return Expected(table="qm9", status="partial", reason="", sources=(), numbers=(number,),
                    claims=(), context=())  # fmt: skip


@pytest.mark.parametrize(
    ("tolerance", "verdict"), [(0.3, "within tolerance"), (0.2001, "within tolerance"),
                               (0.19, "differs")]
)  # fmt: skip
def test_a_known_number_is_compared_within_its_tolerance(tolerance: float, verdict: str) -> None:
    found = compare(CELL, entry(tolerance=tolerance), "paper")
    assert (found.verdict, found.source) == (verdict, "table 1")


@pytest.mark.parametrize(
    ("changes", "edition"),
    [({}, "laptop"), ({"row": "coord"}, "paper"), ({"column": None}, "paper"),
     ({"tolerance": None}, "paper"), ({"relation": ">"}, "paper")],
)  # fmt: skip
def test_a_number_that_is_not_this_cells_says_nothing(changes: Any, edition: str) -> None:
    assert compare(CELL, entry(**changes), edition).verdict == "unknown"
    assert compare(CELL, None, "paper").verdict == "unknown"


def test_no_public_number_is_claimed_for_a_cell_yet() -> None:
    """docs/audit.md says so; a number with a place and a tolerance needs that text changed."""
    expected = load_expected(ROOT / "reports/expected")
    assert not [n for table in expected.values() for n in table.numbers if n.tolerance]
