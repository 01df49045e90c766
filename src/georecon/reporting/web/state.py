"""How far an edition is: numbers made and due, what is missing and why, what is training now."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from georecon.duration import readable_time
from georecon.jobs.watch import running
from georecon.reporting.web.content import CellView


class TableState(NamedTuple):
    """Numbers of a table that are made, that are due in all, and cells that stay empty."""

    name: str
    made: int
    due: int
    empty: int


class MissingCell(NamedTuple):
    """A number that is due, and why it is not there."""

    table: str
    row: str
    column: str
    why: str


class Job(NamedTuple):
    """A training that has not ended.

    Attributes:
        name: of its run.
        doing: "running", "stopped" or how long it has been silent.
        step: taken, of ``steps``.
        score: of its last validation; None before the first. ``score_text`` likewise.
        left_text: time left.
        where: host, process and Slurm job.
        age: of its last sign of life [s]; ``age_text`` likewise.
    """

    name: str
    doing: str
    step: int
    steps: int
    score: float | None
    score_text: str
    left_text: str
    where: str
    age: int
    age_text: str


class State(NamedTuple):
    """State of an edition: by table and in all, what is missing, what is training."""

    tables: list[TableState]
    made: int
    due: int
    empty: int
    missing: list[MissingCell]
    running: list[Job]


def state_of(cells: Iterable[CellView], root: Path, results: Path, *, live: bool) -> State:
    """State of an edition.

    Args:
        cells: of all tables.
        root: working folder.
        results: the edition's results.
        live: also say what is training now.
    """
    by_table: dict[str, list[CellView]] = {}
    for cell in cells:
        by_table.setdefault(cell.table, []).append(cell)
    tables = [_table_state(name, own) for name, own in by_table.items()]
    waiting = [cell for own in by_table.values() for cell in own if cell.waits]
    missing = [
        MissingCell(c.table, c.row, c.column, "; ".join(why_missing(f, root) for f in c.waits))
        for c in waiting
    ]
    return State(
        tables=tables,
        made=sum(table.made for table in tables),
        due=sum(table.due for table in tables),
        empty=sum(table.empty for table in tables),
        missing=missing,
        running=training_now(results, time.time()) if live else [],
    )


def _table_state(name: str, cells: list[CellView]) -> TableState:
    made = sum(cell.value is not None for cell in cells)
    due = sum(cell.value is not None or bool(cell.waits) for cell in cells)
    return TableState(name, made, due, len(cells) - due)


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


def training_now(results: Path, now: float) -> list[Job]:
    """Unfinished trainings of an edition, as :func:`georecon.jobs.watch.running` finds them.

    Args:
        results: the edition's results.
        now: clock time [s].
    """
    rows = running(results.parent, now)
    return [_job(row, now) for row in rows if row["edition"] == results.name]


def _job(row: dict[str, str], now: float) -> Job:
    score, age = float(row["val_score"]), max(0.0, now - float(row["time"]))
    known = not math.isnan(score)
    return Job(
        name=row["name"],
        doing=row["state"],
        step=int(row["step"]),
        steps=int(row["steps"]),
        score=score if known else None,
        score_text=f"{score:.4g}" if known else "",
        left_text=readable_time(float(row["eta_seconds"])),
        where=f"{row['host']} {row['pid']}{' job ' + row['job'] if row['job'] else ''}",
        age=round(age),
        age_text=readable_time(age),
    )
