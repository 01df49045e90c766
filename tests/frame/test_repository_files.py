from __future__ import annotations

import re

import pytest
import yaml

from tests.frame.repository import ROOT, lines, tracked

# in pieces, so that this file does not find itself
HOSTS = ["pypi" + ".org", "pytorch" + ".org/whl", "python" + "hosted.org", "anaconda" + ".org"]
FOLDERS = ["work", "root", "home", "Users"]
MACHINE_PATH = re.compile(rf"(?<![\w.~>*\])}}-])/({'|'.join(FOLDERS)})/\w")


def test_no_tracked_file_is_large() -> None:
    assert [str(path) for path in tracked() if path.stat().st_size > 1_000_000] == []


def test_no_registry_host_and_no_path_of_one_machine() -> None:
    found = []
    for path in tracked():
        for number, line in lines(path):
            if any(host in line for host in HOSTS) or MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_patterns_find_what_they_are_for() -> None:
    for folder in FOLDERS:
        assert MACHINE_PATH.search(f'open("/{folder}/me/x")')
        assert not MACHINE_PATH.search(f"results/{folder}/x and https://a.b/{folder}/x")


def test_citation_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Yan", "Li", "Zhang"]
    assert "2506.13174" in paper["identifiers"][0]["value"]


@pytest.mark.parametrize("name", ["slurm", "local", "pbs", "sge"])
def test_profiles_rerun_by_content_not_by_code(name: str) -> None:
    profile = yaml.safe_load((ROOT / name / "profile.yaml").read_text())
    assert profile["rerun-triggers"] == ["mtime", "params", "input", "software-env"]
    assert profile["rerun-incomplete"] is True
