"""What an audit says of a finished run; tests/audit/test_threats.py has the forgers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from georecon.audit.findings import DIFFERS, MISSING, NOT_COMPARABLE, REPRODUCED
from georecon.audit.page import page
from tests.audit import tamper
from tests.audit.tamper import FINETUNE, RESULTS, edit_json, own_copy, run_audit
from tests.projects import Project

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(600)]

RUN = f"{FINETUNE}/coord/seed1"
QM9 = f"{RESULTS}/tables/qm9"


def cell_value(folder: Path) -> None:
    def change(table: dict[str, Any]) -> None:
        cell = next(c for c in table["cells"] if (c["row"], c["column"]) == ("coord", "homo"))
        cell["value"] *= 0.9

    edit_json(folder / f"{QM9}.json", change)


@pytest.fixture
def folder(finished: Project, tmp_path: Path) -> Path:
    return own_copy(finished, tmp_path / "run")


def test_an_untouched_run_is_intact(folder: Path) -> None:
    result = run_audit(folder)
    assert result.status == "intact", list(result.lines())
    assert not result.findings
    for place, cell in result.cells.items():
        assert cell.verdict == (MISSING if cell.value is None else REPRODUCED), place
    assert result.counts()[REPRODUCED] > 50
    assert result.hashed.files > 250
    head = page(result).split("<body>")[1].split("Audited by")[0].splitlines()[1:]
    assert "audit of tiny: intact at depth records" in head[1]
    assert head[2].startswith("<p>Checked at depth <b>records</b>")
    assert "Could not be checked: figures" in head[4]
    assert [link.name for link in result.weakest] == [
        "uncommitted code", "mixed kernels", "unverified downloads", "few seeds", "leaks",
    ]  # fmt: skip
    assert [link.weak for link in result.weakest] == [False, False, False, True, True]
    assert "".join(head).count("<li") == 5


def test_uncommitted_code_is_loud_but_breaks_no_chain(folder: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        record["code"] |= {"dirty": True, "changed": ["src/georecon/models/encoder.py"]}

    edit_json(folder / RUN / "run.json", change)
    tamper.seal_all(folder)
    result = run_audit(folder)
    assert result.status == "intact"
    assert result.cells["qm9/coord/homo"].verdict == NOT_COMPARABLE
    assert result.cells["qm9/georecon/homo"].verdict == REPRODUCED
    assert any("UNCOMMITTED CODE" in line and "encoder.py" in line for line in result.lines())


def test_a_table_that_was_never_made_is_missing(folder: Path) -> None:
    for path in (folder / RESULTS / "tables").glob("md17.*"):
        path.unlink()
    (folder / RESULTS / "records/table/md17.json").unlink()
    result = run_audit(folder)
    assert (result.status, result.tables_missing) == ("incomplete", ["md17"])


def test_verdicts_of_a_changed_number(folder: Path) -> None:
    cell_value(folder)
    (folder / FINETUNE / "scratch/seed2/predictions.parquet").unlink()
    cells = run_audit(folder).cells
    edited = cells["qm9/coord/homo"]
    assert edited.verdict == DIFFERS
    assert edited.value is not None
    assert edited.recomputed is not None
    assert edited.recomputed.value > edited.value
    assert cells["qm9/scratch/homo"].verdict == MISSING
    assert cells["qm9/georecon/alpha"].verdict == REPRODUCED


def test_a_page_older_than_a_job_says_so(folder: Path) -> None:
    """A job made again after the page: the page shows other times, and nobody has edited it."""

    def in_year(year: int) -> Callable[[dict[str, Any]], None]:
        times = {"started": f"{year}-01-01T00:00:00Z", "ended": f"{year}-01-01T00:00:07Z"}
        return lambda record: record.update(times)

    tamper.add_pages(folder)
    edit_json(folder / RESULTS / "records/site/site.json", in_year(2998))
    edit_json(folder / RUN / "run.json", in_year(2999))
    tamper.seal_all(folder, pages=False)
    (finding,) = [f for f in run_audit(folder).findings if f.kind == "page edited"]
    assert finding.text.endswith(
        f"jobs have run since it was written ({RUN}/run.json): `make` writes it anew"
    )
