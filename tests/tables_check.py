"""What every produced set of tables must satisfy, whatever the edition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from georecon.experiments.config import load_config

CONFIG = Path(__file__).resolve().parents[1] / "config"


def load_tables(folder: Path) -> dict[str, dict[str, Any]]:
    """Tables of an edition by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def check_against_baseline(tables: dict[str, dict[str, Any]]) -> int:
    """Every model beats the training mean; returns how many cells were compared."""
    compared, worse = 0, []
    for name, table in tables.items():
        cells = {(cell["row"], cell["column"]): cell for cell in table["cells"]}
        for row in table["rows"]:
            prefix = row["key"].partition("_")[0] + "_"
            base = "baseline" if ("baseline", table["columns"][0]["key"]) in cells else None
            base = base or f"{prefix}baseline"
            for column in table["columns"]:
                baseline = cells.get((base, column["key"]))
                cell = cells[row["key"], column["key"]]
                if row["kind"] != "method" or baseline is None or cell["value"] is None:
                    continue
                compared += 1
                if not cell["value"] < baseline["value"]:
                    worse.append(
                        f"{name}: {row['label']}, {column['label']}: {cell['value']:.4g}, "
                        f"baseline {baseline['value']:.4g}"
                    )
    assert not worse, f"{len(worse)} of {compared} cells are no better than no model: {worse}"
    return compared


def check_no_avoidable_gap(tables: dict[str, dict[str, Any]], edition: str) -> None:
    """Cells are empty only where the edition has no data or no such experiment, and say so."""
    config = load_config(CONFIG, {"edition": edition})
    allowed = {role.missing for role in config.sets.values() if role.missing}
    allowed |= {table.missing for table in config.tables.values() if table.missing}
    allowed.add("not pre-trained")
    allowed |= {
        file.missing
        for card in config.datasets.values()
        for file in card.sources[card.default_source].files.values()
    }
    assert set(tables) == set(config.tables)
    for name, table in tables.items():
        for cell in table["cells"]:
            place = f"{name}: {cell['row']}, {cell['column']}"
            if cell["value"] is None:
                assert cell["reason"] in allowed, f"{place}: empty, {cell['reason']!r}"
            else:
                assert cell["n"] == len(cell["values"]) > 0, place
                assert cell["reason"] is None, place
