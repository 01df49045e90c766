"""Bundles that a run may start from: verified first, refused in a sentence, laid out once."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from georecon.audit import start
from georecon.audit.bundle import CONFIG, METADATA
from georecon.experiments.experiments import Experiments
from georecon.files import sha256_file
from georecon.records.start import INFO, VARIABLE
from tests.audit.tamper import FINETUNE, RESULTS, own_copy, write_zip
from tests.audit.test_bundle import make
from tests.projects import ROOT, Project

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(600)]
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def bundle(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With fine-tuned weights."""
    folder = own_copy(finished, tmp_path_factory.mktemp("start") / "run")
    return make(folder, weights=True).path


@pytest.fixture(scope="module")
def files(bundle: Path) -> Files:
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_sound_bundle_is_laid_out_once(bundle: Path, tmp_path: Path) -> None:
    said: list[str] = []
    place = start.lay_out(bundle, "tiny", tmp_path, said.append)
    assert place == tmp_path / "resources/start" / sha256_file(bundle)
    assert json.loads((place / INFO).read_text()) == {
        "name": "bundle.zip",
        "sha256": sha256_file(bundle),
    }
    assert (place / f"{FINETUNE}/coord/seed1/model.safetensors").is_file()
    assert (place / "logs/tiny/pretrain/coord/seed1.log").is_file()
    assert not (place / "Snakefile").exists(), "code of the bundle"
    assert not (place / "config.json").exists()
    assert not (place / f"{RESULTS}/tables").exists()
    assert not (place / f"{RESULTS}/report").exists()
    assert [line.split()[0] for line in said] == ["start_from:", "start_from:"]
    assert "verified first" in said[0]
    assert "pretrain" in said[1]
    again: list[str] = []
    assert start.lay_out(bundle, "tiny", tmp_path, again.append) == place
    assert again == said[1:], "verified a second time"
    assert [path.name for path in place.parent.iterdir()] == [place.name], "something was left"


def truncated(files: Files, path: Path) -> None:
    write_zip(path, files)
    path.write_bytes(path.read_bytes()[:-1000])


def tampered(files: Files, path: Path) -> None:
    name = f"{FINETUNE}/coord/seed1/curve.csv"
    honest = write_zip(path, files)
    with zipfile.ZipFile(honest) as archive:
        whole = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for each, data in whole.items():
            archive.writestr(each, data + b"\n" if each == name else data)


def leading_out(files: Files, path: Path) -> None:
    write_zip(path, files, ("../escaped.txt", b"x"))


def huge(files: Files, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(METADATA, files[METADATA])
        archive.writestr("bomb.txt", b"0" * (100 << 20))


def of_another_paper(files: Files, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(METADATA, '{"@graph": []}')


def of_another_configuration(files: Files, path: Path) -> None:
    write_zip(path, files | {CONFIG: b'{"edition": "tiny", "learning_rate": 0.1}'})


def no_zip(files: Files, path: Path) -> None:
    path.write_bytes(b"not a zip" * 100)


def absent(files: Files, path: Path) -> None:
    """Nothing there."""


BAD: dict[Callable[[Files, Path], None], str] = {
    truncated: "zip",
    tampered: "does not verify: results/tiny/finetune/property/homo/coord/seed1/curve.csv",
    leading_out: "unsafe name, expected a relative path",
    huge: "unpacks to",
    of_another_paper: "is not in the archive: not a bundle of this project",
    of_another_configuration: "is no usable configuration",
    no_zip: "zip",
    absent: "no such file; expected a bundle",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
def test_a_bad_bundle_is_refused_in_a_sentence(
    spoil: Callable[[Files, Path], None],
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, folder = tmp_path / "bad.zip", tmp_path / "work"
    folder.mkdir()
    spoil(files, path)
    monkeypatch.delenv(VARIABLE, raising=False)
    experiments = Experiments.load(ROOT / "config", {"edition": "tiny", "start_from": str(path)})
    with pytest.raises(SystemExit) as refused:
        start.start(experiments, folder)
    said = str(refused.value)
    assert said.startswith("georecon: start_from: ")
    assert BAD[spoil] in said
    assert "\n" not in said
    assert VARIABLE not in os.environ
    left = [path for path in folder.rglob("*") if path.is_file()]
    assert left == []


def test_a_bundle_of_another_edition_is_refused(bundle: Path, tmp_path: Path) -> None:
    config = {"edition": "laptop", "start_from": str(bundle)}
    with pytest.raises(SystemExit, match="is of edition 'tiny', this run of 'laptop'"):
        start.start(Experiments.load(ROOT / "config", config), tmp_path)


def test_the_name_of_a_bundle_does_not_matter(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "a b é.zip"
    shutil.copy(bundle, other)
    said: list[str] = []
    place = start.lay_out(other, "tiny", tmp_path, said.append)
    assert json.loads((place / INFO).read_text())["name"] == "a b é.zip"
