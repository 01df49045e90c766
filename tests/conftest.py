"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: several tests at a time

import pytest
import torch

if importlib.util.find_spec("triton") and not torch.cuda.is_available():
    with pytest.MonkeyPatch.context() as patch:  # triton asks at its import, which others bring too
        patch.setenv("TRITON_INTERPRET", "1")
        importlib.import_module("triton.language")

from tests.projects import Project, finished_project, make_project

pytest_plugins = ["tests.data.fixtures", "tests.training.fixtures"]
ROOT = Path(__file__).resolve().parents[1]
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it puts behind it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are processors: many tests wait for others or for a page."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no process is left alone with them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)


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
def finished() -> Project:
    """The tiny edition's tables, made once for all processes of the suite; not to be changed.

    Kept between runs of the suite, until anything that it was made of differs.
    """
    return finished_project(ROOT / ".pytest_cache/finished")


@pytest.fixture
def working(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished run that a test may change."""
    return finished.copy(tmp_path / "project")
