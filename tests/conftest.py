"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def mirror() -> Path:
    """Folder with copies of raw files: $GEORECON_MIRROR, else ../shared/data beside the project."""
    given = os.environ.get("GEORECON_MIRROR")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs real data: set GEORECON_MIRROR to a folder with copies of raw files")
    return folder
