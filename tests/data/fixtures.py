"""Dataset cards and real QM9, for the data tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from georecon.data.molecules import Molecules
from georecon.data.readers.qm9_package import find_qm9pack, read_qm9pack
from georecon.errors import DataError
from georecon.experiments.config import load_config
from georecon.keys import as_json

CONFIG = Path(__file__).resolve().parents[2] / "config"


@pytest.fixture(scope="session")
def cards() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = as_json(load_config(CONFIG, {"edition": "laptop"}).datasets)
    return found


@pytest.fixture(scope="session")
def qm9(cards: dict[str, dict[str, Any]]) -> Molecules:
    try:
        folder = find_qm9pack()
    except DataError as error:
        pytest.skip(str(error))
    return read_qm9pack(folder, ranges=cards["qm9"]["ranges"], expected_molecules=130_831)


@pytest.fixture
def small_rmd17(cards: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """rMD17's card for an archive that a test makes: without the official one's size and hash."""
    official = cards["rmd17"]["sources"]["official"]
    files = {
        role: {"name": file["name"], "member": file["member"]}
        for role, file in official["files"].items()
    }
    return {**cards["rmd17"], "sources": {"official": {**official, "files": files}}}
