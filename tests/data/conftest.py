"""Dataset cards and real QM9, for the data tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from georecon.data.molecules import Molecules
from georecon.data.preprocess import load_cards
from georecon.data.qm9 import find_qm9pack, read_qm9pack
from georecon.errors import DataError

CARDS = Path(__file__).resolve().parents[2] / "config" / "datasets.yaml"


@pytest.fixture(scope="session")
def cards() -> dict[str, dict[str, Any]]:
    return load_cards(CARDS)


@pytest.fixture(scope="session")
def qm9(cards: dict[str, dict[str, Any]]) -> Molecules:
    try:
        folder = find_qm9pack()
    except DataError as error:
        pytest.skip(str(error))
    return read_qm9pack(folder, ranges=cards["qm9"]["ranges"], expected_molecules=130_831)
