"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from projects import Project, make_project

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def mirror() -> Path:
    """Folder with copies of raw files: $GEORECON_MIRROR, else ../shared/data beside the project."""
    given = os.environ.get("GEORECON_MIRROR")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs real data: set GEORECON_MIRROR to a folder with copies of raw files")
    return folder


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The workflow without any data; for dry runs only."""
    return make_project(tmp_path_factory.mktemp("bare") / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny edition's tables, made once; not to be changed."""
    project = make_project(tmp_path_factory.mktemp("tiny") / "project")
    project.snakemake("--", "tables")
    return project


@pytest.fixture
def working(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished run that a test may change."""
    return finished.copy(tmp_path / "project")
