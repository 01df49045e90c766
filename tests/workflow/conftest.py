"""A bare copy of the workflow, one finished tiny run, and copies of that to be changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import Project, make_project


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
