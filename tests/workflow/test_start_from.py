"""A new clone that starts from published results trains what they have not, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.audit.tamper import own_copy
from tests.audit.test_bundle import make
from tests.projects import Project, commit, make_project

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(900)]
RESULTS = "results/tiny"


@pytest.fixture(scope="module")
def bundle(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = own_copy(finished, tmp_path_factory.mktemp("start_from") / "run")
    return make(folder, weights=True).path


@pytest.fixture
def clone(bundle: Path, tmp_path: Path) -> Project:
    """A new clone beside the bundle, without results and data."""
    project = make_project(tmp_path / "clone")
    shutil.copy(bundle, project.folder / "bundle.zip")
    return project


def run(project: Project, *targets: str) -> str:
    """As ``make ARGS=...`` does; what the terminal said."""
    return project._run(
        project.launch_command("--config", "start_from=bundle.zip", "--", *targets), True
    ).stdout


def trained_here(project: Project) -> list[str]:
    """Methods of the trainings that were not taken."""
    found = []
    for stage in ("pretrain", "finetune", "smoothness"):
        for path in sorted((project.folder / RESULTS / stage).rglob("run.json")):
            record = json.loads(path.read_text())
            if path.name == "run.json" and "imported" not in record:
                found.append(record["settings"]["method"])
    return sorted(set(found))


@pytest.mark.long
def test_a_table_is_made_of_published_runs_to_the_byte(finished: Project, clone: Project) -> None:
    said = run(clone, "table_qm9")
    assert "start_from: bundle.zip (sha256 " in said
    assert "made here, not taken" not in said
    assert trained_here(clone) == []
    for ending in ("csv", "md", "tex", "json"):
        name = f"{RESULTS}/tables/qm9.{ending}"
        assert (clone.folder / name).read_bytes() == (finished.folder / name).read_bytes(), name
    assert clone.planned("--", "table_qm9") == [], "without the bundle something is made again"
    audit = clone.snakemake("--", "audit").stdout
    verdicts = json.loads((clone.folder / RESULTS / "audit/audit.json").read_text())
    cells = {k: v for k, v in verdicts["cells"].items() if k.startswith("qm9/")}
    assert {cell["verdict"] for cell in cells.values()} == {"reproduced"}, audit[-3000:]
    assert any("taken from bundle.zip" in line for line in verdicts["unchecked"]), audit[-3000:]


@pytest.mark.long
def test_one_method_more_is_all_that_is_trained(clone: Project) -> None:
    entry = {"label": "Mine", "objective": "denoise", "params": {"sigma": 0.1}}
    clone.configure("config/editions/tiny.yaml", "methods", "mine", value=entry)
    commit(clone.folder)
    said = run(clone, "table_qm9")
    assert trained_here(clone) == ["mine"]
    lines = [line for line in said.splitlines() if "made here, not taken from bundle.zip" in line]
    assert lines
    assert all(line.endswith("it has no such run") for line in lines)
    table = json.loads((clone.folder / RESULTS / "tables/qm9.json").read_text())
    assert "mine" in [row["key"] for row in table["rows"]]


def test_a_bundle_that_is_not_there_stops_before_any_job(clone: Project) -> None:
    config = ["--config", "start_from=nowhere.zip", "edition=tiny"]
    for words in (["-n", *config], config):
        done = clone.snakemake(*words, "--", "table_qm9", edition=None, check=False)
        assert done.returncode != 0
        assert "georecon: start_from is 'nowhere.zip', no such file" in done.stdout
    assert not (clone.folder / RESULTS).exists()


def test_a_bad_bundle_stops_before_any_job(clone: Project) -> None:
    path = clone.folder / "bundle.zip"
    path.write_bytes(path.read_bytes()[:-1000])
    command = clone.launch_command("--config", "start_from=bundle.zip", "--", "table_qm9")
    done = clone._run(command, False)
    assert done.returncode != 0
    assert "georecon: start_from: bundle.zip" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (clone.folder / RESULTS).exists()
    locks = clone.folder / ".snakemake/locks"
    assert not locks.exists() or not list(locks.iterdir()), "the next run would need --unlock"
