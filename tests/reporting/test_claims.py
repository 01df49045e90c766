"""Verdicts on the paper's claims: they follow their rule, and no rule finds what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.reporting.claims import CONTRARY, SUPPORTED, UNDECIDED, claims_markdown, verdicts
from georecon.reporting.expected import ClaimTest, Expected, PublicClaim, load_expected

ROOT = Path(__file__).resolve().parents[2]


def expected(*tests: ClaimTest) -> dict[str, Expected]:
    claim = PublicClaim(text="it is better", source="a paper", tests=tests)
    return {"t": Expected(table="t", status="unknown", reason="", sources=(), numbers=(),
                          claims=(claim,), context=())}  # fmt: skip


def table(rows: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """A table's JSON from numbers by row, column and seed."""
    cells = [
        {"row": row, "column": column, "values": {str(k): x for k, x in enumerate(numbers)}}
        for row, columns in rows.items()
        for column, numbers in columns.items()
    ]
    return {"table": "t", "rows": [{"key": r, "label": r.title()} for r in rows], "cells": cells}


BETTER = ClaimTest(better="ours", than="theirs")


def one(test: ClaimTest, rows: dict[str, dict[str, list[float]]]) -> Any:
    (found,) = verdicts(expected(test), [table(rows)])
    return found


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [([8.0, 8.1, 8.2], SUPPORTED), ([12.0, 12.1, 12.2], CONTRARY), ([9.0, 11.0, 10.0], UNDECIDED)],
)
def test_verdicts_follow_the_interval(ours: list[float], verdict: str) -> None:
    found = one(BETTER, {"ours": {"a": ours}, "theirs": {"a": [10.0, 10.1, 9.9]}})
    assert found.verdict == verdict
    assert found.effect == pytest.approx(np.mean(ours) / 10.0 - 1.0)
    assert found.seeds == 3


def test_columns_of_other_scales_count_alike() -> None:
    """Relative differences: a column in thousands does not decide for one in units."""
    small, large = [0.9, 0.91, 0.89], [1100.0, 1110.0, 1090.0]
    rows = {"ours": {"a": small, "b": large}, "theirs": {"a": [1.0] * 3, "b": [1000.0] * 3}}
    found = one(BETTER, rows)
    assert found.columns == 2
    assert found.effect == pytest.approx(0.0, abs=1e-12)
    assert found.verdict == UNDECIDED


def test_pairing_by_seed_is_used() -> None:
    """Seeds differ by far more than methods do: only the paired difference tells. The twin swaps
    two seeds of one method."""
    theirs = [10.0, 20.0, 30.0]
    ours = [0.95 * x for x in theirs]
    rows = {"ours": {"a": ours}, "theirs": {"a": theirs}}
    paired = one(BETTER, {**rows, "ours": {"a": [x - 0.5 for x in theirs]}})
    assert paired.verdict == SUPPORTED
    swapped = one(BETTER, {**rows, "ours": {"a": [x - 0.5 for x in (20.0, 10.0, 30.0)]}})
    assert swapped.verdict == UNDECIDED


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(seeds: int) -> None:
    found = one(BETTER, {"ours": {"a": [1.0, 1.1][:seeds]}, "theirs": {"a": [9.0, 9.1][:seeds]}})
    assert (found.verdict, found.low) == (UNDECIDED, None)
    assert f"seeds: {seeds}; from 3 on" in found.reason


def test_what_is_not_there_decides_nothing() -> None:
    assert "no table t" in verdicts(expected(BETTER), [])[0].reason
    assert "no column has all rows" in one(BETTER, {"ours": {"a": [1.0] * 3}}).reason
    empty = {"ours": {"a": [1.0] * 3}, "theirs": {"a": []}}
    assert one(BETTER, empty).verdict == UNDECIDED


def test_one_quantity_of_a_force_table_decides() -> None:
    rows = {
        "force_ours": {"a": [8.0, 8.1, 8.2]},
        "energy_ours": {"a": [99.0] * 3},
        "force_theirs": {"a": [10.0, 10.1, 9.9]},
        "energy_theirs": {"a": [1.0] * 3},
    }
    found = one(ClaimTest(better="ours", than="theirs", quantity="force"), rows)
    assert found.verdict == SUPPORTED
    assert found.compared == "force: Force_Ours against force: Force_Theirs"


def test_an_ablation_varies_or_not() -> None:
    rows = {"0.1": {"a": [10.0, 10.1, 9.9], "b": [0.0] * 3}, "0.4": {"a": [8.0, 8.1, 7.9]},
            "1.0": {"a": [9.0, 9.0, 9.1]}}  # fmt: skip
    test = ClaimTest(varies=True, columns=("a",))
    found = one(test, rows)
    assert (found.verdict, found.compared) == (SUPPORTED, "0.4 (best) against 0.1 (worst)")
    same = {name: {"a": [10.0 + k, 9.0, 11.0 - k]} for k, name in enumerate("xyz")}
    assert one(test, same).verdict == UNDECIDED


def test_every_claim_of_the_paper_has_a_test() -> None:
    found = load_expected(ROOT / "reports" / "expected")
    claims = [claim for entry in found.values() for claim in entry.claims]
    assert claims
    assert all(claim.tests for claim in claims)


def test_markdown_has_a_row_for_each_verdict() -> None:
    found = verdicts(expected(BETTER), [])
    text = claims_markdown(found)
    assert "| it is better | ours against theirs | t | – | 0 | **undecided** (this" in text
