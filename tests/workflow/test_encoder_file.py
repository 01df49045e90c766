"""A method whose encoder comes from a file goes through the whole DAG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from georecon.experiments.settings import EncoderSettings
from georecon.files import sha256_file
from georecon.models.encoder_file import load_encoder
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


@pytest.mark.long
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


@pytest.mark.long
def test_a_checkpoint_of_the_papers_sizes_goes_through_the_line(
    working: Project, tmp_path: Path
) -> None:
    """256 channels, 8 layers, 64 radial functions, under the paper edition's own entry."""
    paper = yaml.safe_load((working.folder / "config/editions/paper.yaml").read_text())
    encoder, entry = paper["encoder"], paper["methods"]["coord_public"]
    assert [encoder[name] for name in ("channels", "layers", "rbf")] == [256, 8, 64]
    mirror = tmp_path / "mirror/deep"
    mirror.mkdir(parents=True)
    made = made_encoder(EncoderSettings(**encoder))
    write_pvd(mirror / entry["encoder_file"]["name"], made)
    few = {"train": {"steps": 2, "batch_size": 2, "warmup": 1, "evaluations": 1}}
    rows = {"methods": ["scratch", "coord_public"]}
    compared = {**rows, "compare": ["scratch"]}
    norm = {"source": "smoothness", "map": "all", "metric": "spectral_mean", "label": "norm"}
    given = {
        "edition": "tiny",
        "encoder": encoder,
        "methods": {"coord_public": entry},
        "finetune": {"seeds": [1], "property": few, "force": few},
        "smoothness": {"molecules": 2, "iterations": 2},
        "tables": {
            "qm9": {
                "rows": compared,
                "columns": [{"source": "finetune", "set": "property", "targets": ["homo"]}],
            },
            "md17": {"rows": compared},
            "smoothness": {"rows": rows, "columns": [norm]},
        },
    }
    (working.folder / "large.yaml").write_text(yaml.safe_dump(given))
    chosen = ("--configfile", "large.yaml", "--config", f"mirror={mirror.parent}", "--", *TABLES)
    working.launch(*chosen, edition=None)
    for table in ("qm9", "md17", "smoothness"):
        found = cells(working, table)
        assert found, table
        assert all(cell["value"] is not None and cell["n"] == 1 for cell in found), table
    place = working.folder / "results/tiny"
    for name, table in load_tables(place / "tables").items():
        wanted = f"table_{name}" in TABLES
        assert ("256 channels, 8 layers, 8 heads, 64 RBF" in table["caption"]) == wanted, name
    used = place / "encoders/coord_public/encoder.safetensors"
    again = made_encoder(EncoderSettings(**encoder), seed=8)
    load_encoder(used, again)
    weights = made.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in again.state_dict().items())
    for run in ("finetune/property/homo", "finetune/force/ethanol", "smoothness"):
        record = json.loads((place / run / "coord_public/seed1/run.json").read_text())
        assert record["inputs"]["encoder"]["path"] == str(used.relative_to(working.folder))
        assert record["inputs"]["encoder"]["sha256"] == sha256_file(used)
        scratch = json.loads((place / run / "scratch/seed1/run.json").read_text())
        assert "encoder" not in scratch["inputs"]


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
