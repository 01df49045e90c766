"""Bundles: the same bytes each time, valid RO-Crates, verified on another path without data."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from georecon.audit.bundle import METADATA, Bundle, write_bundle
from georecon.audit.verify_bundle import verify_bundle
from georecon.errors import GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.files import sha256_file
from georecon.jobs.job import job
from tests.audit.tamper import RESULTS, own_copy, run_audit
from tests.projects import ROOT, Project

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(600)]


def make(folder: Path, name: str = "bundle.zip") -> Bundle:
    experiments = Experiments.load(folder / "config", {"edition": "tiny"})
    return write_bundle(folder, experiments, run_audit(folder), folder.parent / name)


@pytest.fixture(scope="module")
def bundle(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = own_copy(finished, tmp_path_factory.mktemp("bundle") / "run")
    for name in ("Snakefile", "rules", "workflow", "envs", "reports"):
        source = finished.folder / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder)
    return make(folder).path


def test_equal_results_give_equal_bytes(bundle: Path) -> None:
    assert sha256_file(make(bundle.parent / "run", "again.zip").path) == sha256_file(bundle)


def test_a_bundle_verifies_on_another_path_without_data(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "a b é" / "x.zip"
    other.parent.mkdir()
    shutil.copy(bundle, other)
    code = "import sys; from georecon.verify_bundle import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(other.parent)}
    result = subprocess.run(
        [sys.executable, "-c", code, str(other)], cwd=other.parent, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "audit of tiny: intact" in result.stdout
    assert list(other.parent.iterdir()) == [other], "something was left beside the bundle"


def test_verification_recomputes_every_cell(bundle: Path) -> None:
    found = verify_bundle(bundle)
    filled = [cell for cell in found.cells.values() if cell.value is not None]
    assert len(filled) > 50
    assert all(cell.verdict == "reproduced" and cell.recomputed for cell in filled)


def test_what_travels_and_what_does_not(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        names = archive.namelist()
        card = archive.read(f"{RESULTS}/pretrain/coord/seed1/MODEL_CARD.md").decode()
    assert names == sorted(names)
    for wanted in (f"{RESULTS}/tables/qm9.csv", "config.json", "Snakefile", "envs/lock.txt",
                   f"{RESULTS}/pretrain/coord/seed1/encoder.safetensors",
                   f"{RESULTS}/finetune/property/homo/coord/seed1/predictions.parquet",
                   "resources/splits/qm9/pvd_tiny_draw1.npz", "resources/store/qm9/manifest.json",
                   "logs/tiny/pretrain/coord/seed1.log"):  # fmt: skip
        assert wanted in names
    assert not [n for n in names if n.endswith((".npy", "model.safetensors", ".pt", ".pkl"))]
    assert not [n for n in names if n.startswith("resources/raw") and not n.endswith(".json")]
    assert "20 steps" in card
    assert "sha256" in card


def test_crate_lists_every_file_and_names_its_profiles(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        crate = json.loads(archive.read(METADATA))
        names = set(archive.namelist()) - {METADATA}
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert {n for n, e in entities.items() if "File" in e["@type"]} == names
    profiles = {entry["@id"] for entry in entities["./"]["conformsTo"]}
    assert "https://w3id.org/ro/wfrun/workflow/0.5" in profiles
    (action,) = (e for e in entities.values() if e["@type"] == "CreateAction")
    assert action["instrument"]["@id"] == "Snakefile"
    assert action["startTime"] < action["endTime"]


def test_the_community_validator_accepts_the_crate(bundle: Path) -> None:
    """Needs roc-validator and a network: it reads the JSON-LD contexts from w3id.org."""
    pytest.importorskip("rocrate_validator", reason="roc-validator is not installed")
    try:
        socket.create_connection(("w3id.org", 443), timeout=5).close()
    except OSError:
        pytest.skip("the JSON-LD contexts of RO-Crate cannot be reached from here")
    from rocrate_validator import services
    from rocrate_validator.models import Severity, ValidationSettings

    settings = ValidationSettings(
        rocrate_uri=str(bundle),
        profile_identifier="workflow-run-crate-0.5",
        requirement_severity=Severity.REQUIRED,
    )
    assert not services.validate(settings).get_issues()


def test_a_broken_chain_gives_no_bundle(finished: Project, tmp_path: Path) -> None:
    folder = own_copy(finished, tmp_path / "run")
    (folder / f"{RESULTS}/pretrain/coord/seed1/encoder.safetensors").unlink()
    with pytest.raises(GeoreconError, match="broken"):
        make(folder)
    assert not (tmp_path / "bundle.zip").exists()


def test_a_full_disk_leaves_no_bundle_and_a_sentence(
    finished: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = own_copy(finished, tmp_path / "run")
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(SystemExit), job(tmp_path / "logs/bundle.log"):
        make(folder)
    assert "error: the disk or your quota is full" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "run"]


def test_names_that_clash_elsewhere_give_no_bundle(finished: Project, tmp_path: Path) -> None:
    folder = own_copy(finished, tmp_path / "run")
    shutil.copy(finished.folder / "Snakefile", folder)
    (folder / "config/TABLES.yaml").write_text("")
    with pytest.raises(GeoreconError, match=r"config/tables\.yaml: is also there as"):
        make(folder)
    assert not (tmp_path / "bundle.zip").exists()
