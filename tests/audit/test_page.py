"""The audit's page says what the edition took, and that nobody computed it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from georecon.audit import _costs
from georecon.audit.depth import Depth
from georecon.audit.page import page
from georecon.audit.result import Audit, Hashes
from georecon.files import write_json, write_text
from georecon.records.record import GitState
from georecon.reporting.costs import FILE, Cost, Costs

ONE = Cost(jobs=3, gpu_hours=12.5, cpu_hours=14.0, cpu_bounded=14.0, peak_mb=2500, energy_kwh=4)
COSTS = Costs(
    edition="tiny",
    total=ONE,
    tables={"qm9": ONE},
    methods={"<b>coord</b>": ONE},
    rules={"pretrain": ONE},
    notes=("a note <i>",),
)


def audited(costs: Costs | None) -> Audit:
    return Audit(
        edition="tiny", status="intact", cells={}, findings=[], tables_missing=[], depth=Depth(),
        checked=[], unchecked=[], weakest=[], claims=[], hashed=Hashes(files=0, bytes=0),
        costs=costs, seconds=0.0, code=GitState(), versions={},
    )  # fmt: skip


def test_costs_stand_at_the_end_of_the_page() -> None:
    text = page(audited(COSTS))
    assert "not computed again; a note &lt;i&gt;." in text
    assert "<td>all, each job once</td><td>3</td><td>12.5</td><td>≤ 14</td>" in text
    assert "<td>2.5</td><td>4</td>" in text
    assert "&lt;b&gt;coord&lt;/b&gt;" in text
    assert audited(COSTS).as_json()["costs"]["total"]["gpu_hours"] == 12.5
    assert "Cost" not in page(audited(None))


def test_they_are_those_of_the_report(tmp_path: Path) -> None:
    assert _costs(tmp_path) is None
    write_json(tmp_path / FILE, COSTS.as_json())
    assert _costs(tmp_path) == COSTS


@pytest.mark.parametrize("text", ["", "[]", '{"total": 3}', "{" * 99])
def test_a_file_of_another_form_is_left_to_its_hash(text: str, tmp_path: Path) -> None:
    write_text(tmp_path / FILE, text)
    assert _costs(tmp_path) is None


def test_a_cost_that_is_no_number_is_of_another_form(tmp_path: Path) -> None:
    wrong = replace(COSTS, tables={"qm9": replace(ONE, jobs="many")})  # type: ignore[arg-type]
    write_json(tmp_path / FILE, wrong.as_json())
    assert _costs(tmp_path) is None
