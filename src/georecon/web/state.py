"""How far an edition is: numbers made and due, what is missing and why, what is training now."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from georecon import paths
from georecon.launch import readable_time


def summary(
    cells: Iterable[Mapping[str, Any]], root: Path, results: Path, *, live: bool
) -> dict[str, Any]:
    """State of an edition.

    Args:
        cells: from ``content.cells_of``, of all tables.
        root: working folder.
        results: the edition's results.
        live: also say what is training now.
    """
    tables: dict[str, dict[str, Any]] = {}
    missing = []
    for cell in cells:
        row = tables.setdefault(cell["table"], {"name": cell["table"], "made": 0, "due": 0})
        made = cell["value"] is not None
        row["made"] += made
        row["due"] += made or bool(cell["waits"])
        row["empty"] = row.get("empty", 0) + (not made and not cell["waits"])
        if cell["waits"]:
            why = "; ".join(why_missing(file, root) for file in cell["waits"])
            missing.append({**cell, "why": why})
    return {
        "tables": list(tables.values()),
        **{name: sum(row[name] for row in tables.values()) for name in ("made", "due", "empty")},
        "missing": missing,
        "running": training_now(results / Path(paths.STATE).name) if live else [],
    }


def log_of(file: str) -> str:
    """Log file of the job that writes a file of results.

    A run's log has the path of the run's folder under ``logs/<edition>``.
    """
    _, edition, *rest = Path(file).parent.parts
    return "/".join(["logs", edition, *rest]) + ".log"


def why_missing(file: str, root: Path) -> str:
    """Why a file that a number waits for is not there: its job failed, runs, or has not begun."""
    if not file.startswith("results/"):
        return file  # already words
    log = root / log_of(file)
    if not log.is_file():
        return f"{file}: its job has not begun"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else "nothing written yet"
    if last.startswith("error:"):
        return f"{file}: its job failed, {log.relative_to(root)} says: {last}"
    return f"{file}: its job has begun, {log.relative_to(root)} says: {last}"


def training_now(folder: Path) -> list[dict[str, Any]]:
    """Runs that have a state folder, those that train and those that were stopped.

    ``progress.csv`` there says name and length; a state folder without one is known by its digest
    and by the last evaluation of its curve.
    """
    found = []
    for run in sorted(path for path in folder.glob("*") if path.is_dir()):
        file = next((run / n for n in ("progress.csv", "curve.csv") if (run / n).is_file()), None)
        last = _last_row(file) if file else {}
        age = max(0.0, time.time() - (file or run).stat().st_mtime)
        score = last.get("val_score") or "nan"
        found.append(
            {
                "name": last.get("name") or run.name,
                "doing": last.get("state") or "unknown",
                "step": int(last.get("step") or 0),
                "steps": int(last["steps"]) if last.get("steps") else None,
                "score": "" if score == "nan" else score,
                "score_text": "" if score == "nan" else f"{float(score):.4g}",
                "age": round(age),
                "age_text": readable_time(age),
            }
        )
    return found


def _last_row(file: Path) -> dict[str, str]:
    """Last whole row of a CSV file that grows."""
    with open(file, newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if None not in row.values()]
    return rows[-1] if rows else {}
