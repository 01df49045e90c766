"""Where the numbers of a benchmark go, and where they come from.

``--json FILE``, or ``-`` for standard output alone. With a folder for FILE the file is named by
benchmark, processor and instruction set, so that each processor's numbers stay.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

from georecon.records.record import compute_device

ROOT = Path(__file__).resolve().parents[1]
LIMITS = ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")
"""Variables that keep torch and its libraries from using all that the processor has."""


def origin() -> dict[str, Any]:
    """Processor, date, commit and torch of the numbers that are measured now."""
    import torch

    import_module("georecon.kernels.native")  # which compute_device looks for
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks/*.py")
    return {
        "torch": torch.__version__,
        "compute": compute_device(),
        "limited_to": {name: os.environ[name] for name in LIMITS if name in os.environ},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit + ("+" if changed else ""),
    }


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def publish(report: dict[str, Any], destination: str | None, name: str = "") -> bool:
    """Write a report as JSON, if asked to.

    Args:
        report: the numbers.
        destination: a file, a folder, "-" for standard output, or None.
        name: of the benchmark, for a file in a folder; the report then has its :func:`origin`.

    Returns:
        Whether a table for people may follow: not after numbers on standard output.
    """
    text = json.dumps(report, indent=2)
    if destination == "-":
        print(text)
    elif destination:
        path = Path(destination)
        if path.is_dir():
            compute = report["compute"]
            parts = f"{compute['name'].replace('(R)', '')} {compute['instruction_set']}"
            words = re.sub("[^A-Za-z0-9]+", " ", parts).lower().split()
            path /= "-".join([name, *words]) + ".json"
        path.write_text(text + "\n", encoding="utf-8")
    return destination != "-"
