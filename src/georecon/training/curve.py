"""metrics.csv / curve.csv: one row an evaluation, appended and fsynced."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path


class Curve:
    """The evaluations of a run; rows that the checkpoint has not seen are cut off on resume."""

    def __init__(self, path: Path, last_step: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept: list[dict[str, str]] = []
        if path.exists():
            with open(path, newline="") as handle:
                kept = [row for row in csv.DictReader(handle) if _is_up_to(row, last_step)]
        self.columns = list(kept[0]) if kept else []
        with open(path, "w", newline="") as handle:
            if kept:
                writer = csv.DictWriter(handle, self.columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(kept)

    def append(self, row: Mapping[str, float]) -> None:
        """Add one row; the first one fixes the columns."""
        with open(self.path, "a", newline="") as handle:
            if not self.columns:
                self.columns = list(row)
                csv.writer(handle, lineterminator="\n").writerow(self.columns)
            csv.DictWriter(handle, self.columns, lineterminator="\n").writerow(row)
            handle.flush()
            os.fsync(handle.fileno())

    def row(self, step: int) -> dict[str, float]:
        """Measures of one evaluated step."""
        with open(self.path, newline="") as handle:
            (row,) = (row for row in csv.DictReader(handle) if int(row["step"]) == step)
        return {name: float(value) for name, value in row.items() if name != "step"}


def _is_up_to(row: dict[str, str], last_step: int) -> bool:
    """A whole row of a step that the checkpoint has seen."""
    step = row.get("step") or ""
    return step.isdigit() and int(step) <= last_step and None not in row.values()
