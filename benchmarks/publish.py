"""Where the numbers of a benchmark go: ``--json FILE``, or ``-`` for standard output alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def publish(report: dict[str, Any], destination: str | None) -> bool:
    """Write a report as JSON, if asked to.

    Args:
        report: the numbers.
        destination: a file, "-" for standard output, or None.

    Returns:
        Whether a table for people may follow: not after numbers on standard output.
    """
    text = json.dumps(report, indent=2)
    if destination == "-":
        print(text)
    elif destination:
        Path(destination).write_text(text + "\n", encoding="utf-8")
    return destination != "-"
