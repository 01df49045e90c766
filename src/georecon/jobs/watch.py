"""All running trainings of a DAG in one live table, read from the files in their state folders.

``python -m georecon.watch`` looks at every edition under ``results``; a cluster's jobs show as long
as the folder is shared. It reads files only, so it needs no lock and disturbs nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from georecon.duration import readable_time
from georecon.jobs.progress import COLUMNS, PROGRESS_FILE

if TYPE_CHECKING:
    from rich.table import Table

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


def watch(results: Path, *, once: bool, console: Any = None) -> None:
    """Show the table, for ever or once.

    Args:
        results: folder of all editions.
        once: print it and return.
        console: a rich console; the terminal if None.
    """
    from rich.console import Console
    from rich.live import Live

    console = console or Console()
    if once:
        console.print(table(running(results, time.time())))
        return
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(table(running(results, time.time())), refresh=True)
            time.sleep(2.0)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="georecon.watch", description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=Path("results"))
    parser.add_argument("--once", action="store_true", help="print the table once")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        watch(options.results, once=options.once)
    return 0
