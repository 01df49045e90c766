"""config/mirror-example.yaml: real files from a mirror folder through the whole line, offline."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from georecon.experiments.config import load_config
from georecon.experiments.methods import Methods
from tests.projects import Project, jobs_of, make_project

pytestmark = pytest.mark.workflow

EXAMPLE = ("--configfile", "config/mirror-example.yaml")
SMALL = """
edition: tiny
sets:
  force: {dataset: md17, missing: left out of this test}
  revised: {dataset: rmd17, missing: left out of this test}
pretrain: {validation: 32}
finetune:
  seeds: [1]
  property:
    split: {train: 100, val: 20, test: 50}
  out_of_distribution:
    split: {train: 60, val: 10}
    train: {steps: 30, evaluations: 2}
"""


def test_it_plans_only_what_the_mirror_has(bare: Project) -> None:
    tables = ("table_qm9", "table_md17", "table_rmd17", "table_3bpa")
    text = bare.snakemake(*EXAMPLE, "-n", "--nolock", "--", *tables, edition=None).stdout
    counts = Counter(rule for rule, _ in jobs_of(text))
    # two files of QM9, eight of MD17, two for each of rMD17, three of 3BPA: no missing test file
    # is asked for
    assert counts["fetch"] == 2 + 8 + 16 + 3
    config = load_config(bare.folder / "config", {"edition": "laptop"})
    runs = len(Methods(config).names()) * len(config.finetune.seeds)
    assert counts["finetune"] == (12 + 8 + 8 + 1) * runs
    assert "test_dih" not in text
    assert not counts["xtb"]  # real frames and computed ones are never mixed


def test_rmd17_example_plans_official_splits(bare: Project) -> None:
    chosen = ("--configfile", "config/rmd17-example.yaml", "-n", "--nolock", "--", "table_md17")
    jobs = jobs_of(bare.snakemake(*chosen, edition=None).stdout)
    splits = {wildcards for rule, wildcards in jobs if rule == "split"}
    assert "dataset=rmd17, split=uracil_official1" in splits


def test_the_evidence_edition_takes_a_real_force_set_beside_the_computed_ones(
    bare: Project,
) -> None:
    chosen = ("--configfile", "config/evidence-real.yaml", "-n", "--nolock", "--", "tables")
    jobs = jobs_of(bare.snakemake(*chosen, edition=None).stdout)
    splits = {wildcards for rule, wildcards in jobs if rule == "split"}
    assert "dataset=md17, split=aspirin_evidence_draw3" in splits
    assert "dataset=xmd17, split=aspirin_evidence_draw3" in splits
    assert not [wildcards for rule, wildcards in jobs if rule == "xtb" and "=md17" in wildcards]


REAL = """
edition: tiny
sets:
  out_of_distribution: {dataset: 3bpa, missing: left out of this test}
pretrain: {validation: 32, exclude_leaks: false}
finetune:
  seeds: [1]
  property:
    split: {train: 100, val: 20, test: 50}
  revised: &few
    train: {steps: 10, evaluations: 1}
  force: *few
tables:
  rmd17:
    rows: &rows {methods: [scratch, coord]}
    columns: [{source: finetune, set: revised, targets: [ethanol]}]
  md17:
    rows: *rows
"""


def errors_of_the_mean(train: np.ndarray, test: np.ndarray) -> float:
    """Mean absolute error of the training mean."""
    return float(np.abs(test - train.mean()).mean())


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_md17_and_rmd17_from_the_mirror(mirror: Path, tmp_path: Path) -> None:
    """Each from its own files: baselines are those of the arrays, in the units of its table."""
    project = make_project(tmp_path / "project")
    (project.folder / "small.yaml").write_text(REAL)
    tables = ("table_md17", "table_rmd17")
    chosen = (*EXAMPLE, "small.yaml", "--config", f"mirror={mirror}", "--", *tables)
    project.launch(*chosen, edition=None)
    place = project.folder / "results/tiny/tables"
    revised, plain = (json.loads((place / f"{n}.json").read_text()) for n in ("rmd17", "md17"))
    assert revised["title"].startswith("rMD17")
    assert {row["unit"] for row in revised["rows"]} == {"meV", "meV/Å"}
    values = {cell["row"]: cell["value"] for cell in revised["cells"]}
    with np.load(mirror / "rmd17/rmd17-npz/rmd17_ethanol_test_01.npz") as test:
        forces = float(np.abs(test["forces"]).mean())  # kcal/mol/Å
    assert values["force_baseline"] == pytest.approx(forces / 23.060547830619 * 1000, rel=1e-3)
    assert "of 1000 rmd17 test entries" in revised["caption"]
    assert plain["title"].startswith("MD17")
    assert {row["unit"] for row in plain["rows"]} == {"kcal/mol", "kcal/mol/Å"}
    assert all(cell["value"] is not None for cell in (*revised["cells"], *plain["cells"]))
    values = {cell["row"]: cell["value"] for cell in plain["cells"]}
    with (
        np.load(project.folder / "resources/splits/md17/ethanol_random950.npz") as split,
        np.load(mirror / "md17/raw/md17_ethanol_subset2000.npz") as data,
    ):
        train, tested = (np.isin(data["original_index"], split[part]) for part in ("train", "test"))
        assert (train.sum(), tested.sum()) == (950, 1000)
        energy = errors_of_the_mean(data["E"][train], data["E"][tested])
        forces = float(np.abs(data["F"][tested]).mean())
    assert values["energy_baseline"] == pytest.approx(energy, rel=1e-3)
    assert values["force_baseline"] == pytest.approx(forces, rel=1e-3)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_3bpa_from_the_mirror(mirror: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    (project.folder / "small.yaml").write_text(SMALL)
    chosen = (*EXAMPLE, "small.yaml", "--config", f"mirror={mirror}", "--", "table_3bpa")
    project.launch(*chosen, edition=None)
    table = json.loads((project.folder / "results/tiny/tables/3bpa.json").read_text())
    assert "0 of 333 3bpa test entries" in table["caption"]
    for cell in table["cells"]:
        part = cell["column"].rpartition("_")[0]
        if part.startswith("inferred"):
            assert np.isfinite(cell["value"]), cell
        else:
            assert cell["value"] is None
            assert "is not in the mirror" in cell["reason"]
    values = {(c["row"], c["column"]): c["value"] for c in table["cells"]}
    for metric in ("rmse", "mae"):  # hotter frames are harder, for every model and for none
        for row in {row for row, _ in values}:
            cold, hot = (values[row, f"inferred_{t}_{metric}"] for t in ("600K", "1200K"))
            assert cold < hot, (row, metric)
    for (row, column), value in values.items():
        if column.endswith("rmse") and value is not None:
            assert value >= values[row, column.replace("rmse", "mae")]
    split = json.loads((project.folder / "resources/splits/qm9/pretrain_tiny.json").read_text())
    assert split["removed"]["validated_or_tested_on"] == 70
    assert split["counts"]["train"] + 32 + sum(split["removed"].values()) == 12_000
