"""The running DAG and all its trainings in two live tables, read from files that they write.

``python -m georecon.watch`` looks at every edition under ``results`` and at the run that makes it
(:mod:`georecon.jobs.dag`); a cluster's jobs show as long as the folder is shared. It reads files
only, so it needs no lock and disturbs nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from georecon.duration import readable_time
from georecon.jobs.dag import ENDED, RUNNING, STOPPED, DagState, read_states
from georecon.jobs.progress import COLUMNS, PROGRESS_FILE

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

KILLED = "killed"
SILENT_SECONDS = 60.0
"""Time without a row after which a run that has not said that it stopped counts as silent."""


def latest(path: Path) -> dict[str, str] | None:
    """Last whole row of a ``progress.csv``; None if there is none yet."""
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except OSError:  # the run has ended and its folder is gone
        return None
    whole = [row for row in rows if row.keys() == set(COLUMNS) and None not in row.values()]
    return whole[-1] if whole else None


def running(results: Path, now: float) -> list[dict[str, str]]:
    """Latest row of every unfinished run, ``state`` being "running", "stopped" or "silent".

    Args:
        results: folder of all editions.
        now: clock time [s].
    """
    rows = []
    for path in sorted(results.glob(f"*/state/*/{PROGRESS_FILE}")):
        row = latest(path)
        if row is None:
            continue
        if row["state"] == "running" and now - float(row["time"]) > SILENT_SECONDS:
            row["state"] = f"silent {readable_time(now - float(row['time']))}"
        rows.append(row | {"edition": path.parents[2].name})
    return sorted(rows, key=lambda row: (row["state"] != "running", row["name"]))


def table(rows: list[dict[str, str]]) -> Table:
    """Rows of :func:`running` as a table."""
    from rich.table import Table

    shown = Table(title=f"{len(rows)} unfinished trainings", title_justify="left")
    for name in ("run", "state", "step", "molecules/s", "loss", "validation", "left", "memory"):
        shown.add_column(name, justify="left" if name in ("run", "state") else "right")
    shown.add_column("where")
    for row in rows:
        job = f" job {row['job']}" if row["job"] else ""
        shown.add_row(
            f"{row['edition']}: {row['name']}",
            row["state"],
            f"{row['step']}/{row['steps']}",
            f"{float(row['molecules_per_second']):.0f}",
            row["loss"],
            row["val_score"],
            readable_time(float(row["eta_seconds"])),
            f"{row['memory_mb']} MB",
            f"{row['host']} {row['pid']}{job}",
        )
    return shown


def state_words(state: DagState, now: float) -> str:
    """How a run is, as far as this machine can know."""
    if state.state != RUNNING:
        return state.state
    if (runs := state.runs()) is None:
        return f"on {state.host}, last word {readable_time(now - state.time)} ago"
    return RUNNING if runs else KILLED


def dag_table(states: list[DagState], now: float) -> Table:
    """Runs of the DAG that have not ended: how far they are, and what is at work and left."""
    from rich.table import Table

    left = [state for state in states if state.state != ENDED]
    shown = Table(title=f"{len(left)} unfinished runs of the DAG", title_justify="left")
    for name in ("edition", "state", "done", "failed", "time left", "at work", "jobs left"):
        shown.add_column(
            name, justify="right" if name in ("done", "failed", "time left") else "left"
        )
    for state in left:
        words = state_words(state, now)
        here = words not in (STOPPED, KILLED)
        known = here and state.seconds_left is not None
        since = now - state.time
        shown.add_row(
            state.edition,
            words,
            f"{state.done}/{state.total}",
            str(state.failed),
            readable_time(max(0.0, (state.seconds_left or 0.0) - since)) if known else "?",
            "\n".join(
                f"{name} ({readable_time(now - begun)})" for name, begun in state.at_work if here
            ),
            ", ".join(f"{count} {rule}" for rule, count in state.waiting.items() if rule != "all"),
        )
    return shown


def tables(results: Path) -> Group:
    """Both tables as they are now."""
    from rich.console import Group

    now = time.time()
    return Group(dag_table(read_states(results.parent), now), table(running(results, now)))


def watch(results: Path, *, once: bool, console: Any = None) -> None:
    """Show the tables, for ever or once.

    Args:
        results: folder of all editions.
        once: print them and return.
        console: a rich console; the terminal if None.
    """
    from rich.console import Console
    from rich.live import Live

    console = console or Console()
    if once:
        console.print(tables(results))
        return
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(tables(results), refresh=True)
            time.sleep(2.0)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="georecon.watch", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"))
    parser.add_argument("--once", action="store_true", help="print the tables once")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        watch(options.results, once=options.once)
    return 0
