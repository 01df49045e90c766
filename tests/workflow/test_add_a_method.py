"""docs/add-a-method.md, step by step: one file, one entry, its row, and no other training."""

from __future__ import annotations

import pytest

from tests.frame.documented import method_entry, method_file
from tests.projects import Project, commit
from tests.tables_check import load_tables

pytestmark = [pytest.mark.workflow, pytest.mark.long, pytest.mark.timeout(900)]


def test_the_example_becomes_a_row(working: Project) -> None:
    path, text = method_file()
    assert path.startswith("src/georecon/objectives/")
    (working.folder / path).write_text(text, encoding="utf-8")
    (working.folder / "method.yaml").write_text(method_entry(), encoding="utf-8")
    commit(working.folder)
    asked = ("--configfile", "method.yaml", "--", "table_qm9")
    jobs = working.planned(*asked, edition=None)
    assert {rule for rule, _ in jobs} == {"pretrain", "finetune", "evaluate", "table"}
    assert all("method=noise_level" in what for rule, what in jobs if rule != "table")
    working.launch(*asked, edition=None)
    table = load_tables(working.folder / "results/tiny/tables")["qm9"]
    (row,) = (row for row in table["rows"] if row["key"] == "noise_level")
    assert row["label"] == "Noise level"
    cells = [cell for cell in table["cells"] if cell["row"] == "noise_level"]
    assert cells
    assert all(cell["value"] is not None for cell in cells)
    page = (working.folder / "results/tiny/tables/qm9.md").read_text(encoding="utf-8")
    assert "Noise level" in page


def test_a_wrong_parameter_is_refused_before_any_job(working: Project) -> None:
    path, text = method_file()
    (working.folder / path).write_text(text, encoding="utf-8")
    entry = method_entry().replace("weakest: 0.02", "weakest: -1.0")
    assert entry != method_entry()
    (working.folder / "method.yaml").write_text(entry, encoding="utf-8")
    asked = ("-n", "--configfile", "method.yaml", "--", "table_qm9")
    said = working.snakemake(*asked, edition=None, check=False)
    assert said.returncode != 0
    assert "methods.noise_level.params.weakest" in said.stdout
