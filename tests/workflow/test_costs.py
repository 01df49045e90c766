"""The trial of the tiny edition, through the DAG; the plan then says that it is measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from georecon.experiments.config import load_config
from georecon.experiments.experiments import Experiments
from georecon.experiments.trial import trial_files
from tests.projects import ROOT, Project, make_project

pytestmark = [pytest.mark.workflow]


@pytest.mark.slow
@pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.long)])
def test_the_trial_gives_the_plan_its_hours(few: bool, tmp_path: Path) -> None:
    """On molecules that are made up: there is no data at all."""
    project = make_project(tmp_path / "project")
    tables = load_config(ROOT / "config", {"edition": "tiny"}).tables
    for name in [name for name in tables if few and name not in ("smoothness", "md17")]:
        project.configure("config/editions/tiny.yaml", "tables", name, value=None)
    files = trial_files(Experiments.load(project.folder / "config", {"edition": "tiny"}))
    assert len(files) == (4 if few else 14)
    before = project.snakemake("--", "plan").stdout
    assert "No rate of any device is known" in before
    assert "Nothing was measured. Bounds" in before
    assert {rule for rule, _ in project.planned("--", "trial")} == {"measure", "trial"}
    project.launch("--", "trial")
    for file in files:
        content = json.loads((project.folder / file).read_text())
        assert content["device"].startswith("cpu ")
        assert content["molecules"] == "synthetic"
    assert project.planned("--", "trial") == []
    text = project.snakemake("--", "plan").stdout
    (line,) = (line for line in text.splitlines() if re.search(r" all: \d+ pre-trainings", line))
    found = re.search(
        r": ([0-9.e-]+) ± [0-9.e-]+ h, ([0-9.]+) GB of memory, (\S+) GB of disk$", line
    )
    assert found is not None, line
    assert 0.0 < float(found[1]) < 1.0
    assert 0.1 < float(found[2]) < 5.0
    assert f"Measured: {len(files)} of {len(files)} kinds of training, {len(files)} of" in text
    assert "bounds" not in text.lower()


@pytest.mark.long
def test_a_finished_edition_is_measured_on_its_own_molecules(working: Project) -> None:
    working.launch("--", "trial")
    assert "all: 0 pre-trainings, 0 fine-tunings" in working.snakemake("--", "plan").stdout
    files = (working.folder / "resources/trial").glob("*.json")
    assert {json.loads(path.read_text())["molecules"] for path in files} == {"stored"}
