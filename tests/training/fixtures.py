"""A toy store, and the numbers of an uninterrupted run on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toy_graphs import write_store
from tests.training.toy_run import make_task, run


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "store"
    write_store(path)
    return path


@pytest.fixture(scope="session")
def whole(toy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State folder of a run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    run(make_task(toy_store), folder)
    return folder
