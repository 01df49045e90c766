"""A method whose encoder comes from a file goes through the whole DAG."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.encoder_files import made_encoder, write_pvd
from tests.projects import Project, commit
from tests.tables_check import load_tables

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(900)]
LABEL = "Coord, public checkpoint"
TABLES = ("table_qm9", "table_md17", "table_smoothness")


def with_file(project: Project, **file: Any) -> None:
    """Give the tiny edition the method."""
    entry = {"label": LABEL, "encoder_file": file}
    project.configure("config/editions/tiny.yaml", "methods", "coord_public", value=entry)


def cells(project: Project, table: str) -> list[dict[str, Any]]:
    tables = load_tables(project.folder / "results/tiny/tables")
    return [cell for cell in tables[table]["cells"] if cell["row"].endswith("coord_public")]


def test_a_checkpoint_becomes_rows_of_qm9_md17_and_smoothness(working: Project) -> None:
    write_pvd(working.folder / "public.ckpt", made_encoder())
    with_file(working, local="public.ckpt")
    commit(working.folder)
    jobs = [rule for rule, _ in working.planned("--", *TABLES)]
    counted = {rule: jobs.count(rule) for rule in jobs}
    assert counted == {"fetch": 1, "import_encoder": 1, "finetune": 6, "evaluate": 6,
                       "smoothness": 2, "table": 3}  # fmt: skip
    working.launch("--", *TABLES)
    for table in ("qm9", "md17", "smoothness"):
        found = cells(working, table)
        assert found, table
        assert all(cell["value"] is not None and cell["n"] == 2 for cell in found), table
    place = working.folder / "results/tiny"
    record = json.loads((place / "encoders/coord_public/run.json").read_text())
    assert record["inputs"]["raw"]["path"] == "resources/raw/encoders/public.ckpt"
    tuned = json.loads((place / "finetune/property/homo/coord_public/seed2/run.json").read_text())
    used = record["outputs"]["encoder"]
    assert tuned["inputs"]["encoder"]["path"] == used["path"]
    assert tuned["inputs"]["encoder"]["sha256"] == used["sha256"]
    assert "Nothing to be done" in working.snakemake("-n", "--", *TABLES).stdout
    audit = working.snakemake("--", "audit", check=False).stdout
    verdicts = json.loads((place / "audit/audit.json").read_text())["cells"]
    made = ("qm9", "md17", "smoothness")  # the other tables were not asked for again
    own = {k: v for k, v in verdicts.items() if "coord_public/" in k and k.startswith(made)}
    assert own, audit[-2000:]
    assert {cell["verdict"] for cell in own.values()} == {"reproduced"}, audit[-3000:]


def test_where_the_file_is_absent_the_row_says_so(working: Project) -> None:
    with_file(working, local="nowhere.ckpt")
    assert {rule for rule, _ in working.planned("--", *TABLES)} == {"table"}
    working.snakemake("--", *TABLES)
    for table in ("qm9", "md17", "smoothness"):
        found = cells(working, table)
        assert {cell["reason"] for cell in found} == {
            "its encoder's file nowhere.ckpt is not there"
        }


def test_a_checkpoint_of_other_sizes_stops_before_any_training(working: Project) -> None:
    from dataclasses import replace

    from tests.encoder_files import TINY

    write_pvd(working.folder / "large.ckpt", made_encoder(replace(TINY, channels=32)))
    with_file(working, local="large.ckpt")
    stopped = working.snakemake("--", "table_qm9", check=False)
    assert stopped.returncode != 0
    assert "large.ckpt: is of another encoder than this edition's: channels is 32, here 16" in (
        stopped.stdout
    )
    assert not list((working.folder / "results/tiny/finetune").rglob("coord_public"))
