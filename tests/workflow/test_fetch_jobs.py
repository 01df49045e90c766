"""Fetch jobs: what makes one run, what a failed one says. Their place in a plan: test_plan."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.frame.documented import own_data
from tests.own_data import write_xyz
from tests.projects import ROOT, Project, make_project

pytestmark = pytest.mark.workflow

NOTHING = "Nothing to be done"
TARGET = "resources/raw/3bpa/iso_atoms.xyz"
KEYS = ("3bpa", "sources", "official", "files", "iso_atoms")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The workflow with a raw file of this test's own in a mirror."""
    data = b"4 isolated atoms, or something as good"
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/iso_atoms.xyz").write_bytes(data)
    project = make_project(tmp_path / "project")
    configure(project, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    return project


def configure(project: Project, **values: Any) -> None:
    for key, value in values.items():
        project.configure("config/datasets.yaml", *KEYS, key, value=value)


def test_fetch_runs_once_and_not_for_a_new_address(project: Project, tmp_path: Path) -> None:
    mirror = ["--config", "edition=tiny", f"mirror={tmp_path / 'mirror'}"]
    project.snakemake(*mirror, "--", TARGET, edition=None)
    digest = hashlib.sha256((project.folder / TARGET).read_bytes()).hexdigest()
    log = (project.folder / "logs/fetch/3bpa/iso_atoms.xyz.log").read_text()
    assert f"iso_atoms.xyz: 38 bytes, sha256 {digest}, from file:" in log
    record = json.loads((project.folder / "resources/raw/lock.json").read_text())
    assert record["3bpa/iso_atoms.xyz"]["sha256"] == digest
    configure(project, urls=["https://example.org/moved/iso_atoms.xyz"])
    assert NOTHING in project.snakemake("-n", "--", TARGET).stdout
    configure(project, sha256="0" * 64)
    assert project.planned("--", TARGET) == [("fetch", "dataset=3bpa, file=iso_atoms.xyz")]


def test_failed_fetch_says_what_to_do_and_leaves_nothing(project: Project) -> None:
    result = project.snakemake(
        "--config", "edition=tiny", "offline=True", "--", TARGET, edition=None, check=False
    )
    assert result.returncode != 0
    for words in ("could not fetch 3bpa/iso_atoms.xyz (38 bytes, sha256", "not tried, offline",
                  "To supply it by hand: put it at"):  # fmt: skip
        assert words in result.stdout
    assert "Traceback" not in (project.folder / "logs/fetch/3bpa/iso_atoms.xyz.log").read_text()
    assert not (project.folder / TARGET).exists()


def test_every_address_is_https_before_http() -> None:
    cards = yaml.safe_load((ROOT / "config/datasets.yaml").read_text())
    plain = {}
    for dataset, card in cards.items():
        for source in card["sources"].values():
            for file in source["files"].values():
                urls = file.get("urls") or []
                assert urls == sorted(urls, key=lambda url: not url.startswith("https://"))
                assert len(urls) == len(set(urls))
                if urls and not urls[0].startswith("https://"):
                    plain[dataset] = file["sha256"]
    assert list(plain) == ["pcqm4mv2"]  # its host is not known to serve https; it has a sha256


def own_project(folder: Path, name: str) -> tuple[Project, tuple[str, ...]]:
    """A file of one's own, and what asks Snakemake for its copy."""
    project = make_project(folder / "project")
    write_xyz(folder / name, 12)
    given = yaml.safe_load(own_data())
    files = given["datasets"]["mine"]["sources"]["local"]["files"]
    files["my_molecule"]["local"] = f"../{name}"
    (project.folder / "my.yaml").write_text(yaml.safe_dump(given))
    return project, ("--configfile", "my.yaml", "--", f"resources/raw/mine/{name}")


@pytest.mark.parametrize("name", ["own [b] 1.xyz", "own@3*.xyz", "Größe (1).xyz"])
def test_a_file_of_ones_own_is_found_by_any_name(name: str, tmp_path: Path) -> None:
    project, chosen = own_project(tmp_path, name)
    project.snakemake(*chosen, edition=None)
    copy = project.folder / "resources/raw/mine" / name
    assert copy.read_bytes() == (tmp_path / name).read_bytes()


def test_a_changed_file_of_ones_own_is_noticed(tmp_path: Path) -> None:
    """Not its numbers of before: it is fetched anew, and refused until the user says so."""
    project, chosen = own_project(tmp_path, "own.xyz")
    project.snakemake(*chosen, edition=None)
    assert NOTHING in project.snakemake("-n", *chosen, edition=None).stdout
    write_xyz(tmp_path / "own.xyz", 13)
    result = project.snakemake(*chosen, edition=None, check=False)
    assert result.returncode != 0
    assert "to accept another file on purpose, remove 'mine/own.xyz' from" in result.stdout
    (tmp_path / "own.xyz").unlink()
    result = project.snakemake("-n", *chosen, edition=None, check=False)
    assert result.returncode != 0
    assert "local: ../own.xyz" in result.stdout
    assert "is not there" in result.stdout
