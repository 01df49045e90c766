"""How far an edition is: numbers made and due, what is missing and why, what is training now."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from georecon.duration import readable_time
from georecon.jobs.watch import running


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
        "running": training_now(results, time.time()) if live else [],
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


def training_now(results: Path, now: float) -> list[dict[str, Any]]:
    """Unfinished trainings of an edition, as :func:`georecon.jobs.watch.running` finds them.

    Args:
        results: the edition's results.
        now: clock time [s].
    """
    found = []
    for row in running(results.parent, now):
        if row["edition"] != results.name:
            continue
        score, age = float(row["val_score"]), max(0.0, now - float(row["time"]))
        known = not math.isnan(score)
        found.append(
            {
                "name": row["name"],
                "doing": row["state"],
                "step": int(row["step"]),
                "steps": int(row["steps"]),
                "score": score if known else "",
                "score_text": f"{score:.4g}" if known else "",
                "left_text": readable_time(float(row["eta_seconds"])),
                "where": f"{row['host']} {row['pid']}{' job ' + row['job'] if row['job'] else ''}",
                "age": round(age),
                "age_text": readable_time(age),
            }
        )
    return found
