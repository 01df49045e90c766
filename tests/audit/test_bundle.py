"""Bundles: the same bytes each time, valid RO-Crates, verified on another path without data."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from georecon.audit.bundle import METADATA, Bundle, write_bundle
from georecon.audit.depth import Depth
from georecon.audit.verify_bundle import verify_bundle
from georecon.errors import GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.experiments.sample import draw
from georecon.files import sha256_file
from georecon.jobs.job import job
from tests.audit.tamper import RESULTS, own_copy, run_audit, write_zip
from tests.projects import ROOT, Project

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(600)]


def make(folder: Path, name: str = "bundle.zip", *, weights: bool = False) -> Bundle:
    experiments = Experiments.load(folder / "config", {"edition": "tiny"})
    path = folder.parent / name
    audit = run_audit(folder, depth=Depth(full=True))
    return write_bundle(folder, experiments, audit, path, weights=weights)


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


@pytest.mark.long
def test_a_bundle_with_weights_verifies_at_depth_weights(bundle: Path, tmp_path: Path) -> None:
    """From raw files of an installed package; a forged weight is found."""
    made = make(bundle.parent / "run", "weights.zip", weights=True).path
    cells = Experiments.load(ROOT / "config", {"edition": "tiny"}).tables.filled()
    names = ["qm9/coord/homo", "md17/force_coord/ethanol"]
    for name in names:
        seed = next(k for k in range(9999) if draw(cells, 1, k) == [name])
        found = verify_bundle(made, depth=Depth(name="weights", sample=1, seed=seed))
        assert (found.status, found.findings) == ("intact", [])
        stores = r"(\d) of \1 stores made again from raw files"
        assert any(re.fullmatch(stores, line) for line in found.checked), found.checked
        assert any("predictions of 2 of 2 runs computed again" in line for line in found.checked)
    forged = tmp_path / "forged.zip"
    run = f"{RESULTS}/finetune/property/homo/coord/seed1"
    with zipfile.ZipFile(made) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    weights = load(files[f"{run}/model.safetensors"])
    weights = {name: np.asarray(array * 1.01, array.dtype) for name, array in weights.items()}
    files[f"{run}/model.safetensors"] = save(weights)
    write_zip(forged, files)
    seed = next(k for k in range(9999) if draw(cells, 1, k) == names[:1])
    found = verify_bundle(forged, depth=Depth(name="weights", sample=1, seed=seed))
    assert found.status == "broken"
    assert "weights differ" in {finding.kind for finding in found.findings}


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_a_signature_is_of_these_bytes_and_this_key(bundle: Path, tmp_path: Path) -> None:
    """The commands of docs/audit.md, with keys of this test."""

    def keygen(*words: str, given: bytes = b"") -> int:
        command = ["ssh-keygen", *words]
        done = subprocess.run(command, cwd=tmp_path, input=given, capture_output=True, check=False)
        return done.returncode

    shutil.copy(bundle, tmp_path / "georecon-laptop.zip")
    for name in ("key", "other"):
        assert keygen("-q", "-t", "ed25519", "-N", "", "-f", name) == 0
    signers = f"you@example.org {(tmp_path / 'key.pub').read_text()}"
    (tmp_path / "allowed_signers").write_text(signers)
    text = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    sign, verify = (shlex.split(line.partition("#")[0].partition("<")[0])[1:]
                    for line in text.splitlines() if line.startswith("ssh-keygen"))  # fmt: skip
    data = bundle.read_bytes()
    assert keygen(*[word.replace("~/.ssh/id_ed25519", "key") for word in sign]) == 0
    assert keygen(*verify, given=data) == 0
    assert keygen(*verify, given=data[:-1] + b"x") != 0
    (tmp_path / "georecon-laptop.zip.sig").unlink()
    assert keygen(*[word.replace("~/.ssh/id_ed25519", "other") for word in sign]) == 0
    assert keygen(*verify, given=data) != 0


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
