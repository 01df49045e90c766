"""The laptop edition's tables, where they have been made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from georecon.experiments.config import load_config
from tests.tables_check import check_against_baseline, check_no_avoidable_gap, load_tables

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / "results" / "laptop" / "tables"


@pytest.fixture(scope="module")
def tables() -> dict[str, dict[str, Any]]:
    wanted = load_config(ROOT / "config", {"edition": "laptop"}).tables
    found = load_tables(TABLES) if TABLES.is_dir() else {}
    if set(found) != set(wanted):
        pytest.skip("the laptop edition's tables have not been made here: run `make`")
    return found


def test_every_fine_tuned_model_beats_the_training_mean(tables: dict[str, dict[str, Any]]) -> None:
    assert check_against_baseline(tables) >= 12 * 3 + 2 * 8 * 3


def test_no_cell_is_empty_that_the_edition_should_fill(tables: dict[str, dict[str, Any]]) -> None:
    check_no_avoidable_gap(tables, "laptop")


def test_every_property_and_molecule_has_every_seed(tables: dict[str, dict[str, Any]]) -> None:
    seeds = load_config(ROOT / "config", {"edition": "laptop"}).finetune.seeds
    for name in ("qm9", "md17"):
        for cell in tables[name]["cells"]:
            assert sorted(cell["values"]) == sorted(map(str, seeds)), (name, cell["row"])
