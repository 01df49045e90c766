"""``georecon tensorboard EDITION -o FOLDER``: curves of an edition as TensorBoard's event files.

The CSV files beside the runs stay what numbers come from; this is another view of them. It needs
the extra ``curves`` (the package tensorboard, whose own writer is used).
"""

from __future__ import annotations

import argparse
import calendar
import csv
import importlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from georecon import paths
from georecon.errors import DataError, GeoreconError
from georecon.records.chain import Graph, read_graph
from georecon.records.read import Record

CURVES = {"pretrain": "metrics", "finetune": "curve"}
"""Stages with a curve, each with its name in their records."""


def write_events(graph: Graph, root: Path, folder: Path) -> int:
    """Write the curves of all trainings, each into a folder that is called like its run's.

    Args:
        graph: of the edition.
        root: working folder.
        folder: a new or empty folder.

    Returns:
        Number of trainings.

    Raises:
        DataError: the folder has something in it, tensorboard is not installed, there is no
            training, or a curve is none.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(folder, None, "is not empty; name a folder that is, or a new one")
    try:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError as error:
        raise DataError(
            folder, None, f"not written: {error}; `pip install tensorboard` brings it"
        ) from None
    records = [r for r in graph.records.values() if r.outputs.get(CURVES.get(r.stage, ""))]
    if not records:
        where = paths.RESULTS.format(edition=graph.edition)
        raise DataError(where, None, f"no training of edition {graph.edition!r} is there")
    curves = [list(_rows(root, r.outputs[CURVES[r.stage]].path)) for r in records]
    for record, rows in zip(records, curves, strict=True):
        place = folder.joinpath(*PurePosixPath(record.path).parent.parts[2:])
        with closing(writer(str(place))) as events:
            _write(events, record, rows)
    return len(records)


def _write(events: Any, record: Record, rows: list[tuple[int, Mapping[str, float]]]) -> None:
    """One training; every point has the time of its end, as no other is known."""
    try:
        ended = calendar.timegm(time.strptime(record.ended, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        ended = 0
    for step, values in rows:
        for name, value in values.items():
            events.add_scalar(name, value, step, walltime=ended)
    settings = json.dumps(record.settings, indent=2, sort_keys=True)
    text = "".join(f"    {line}\n" for line in settings.splitlines())  # a block of Markdown
    events.add_text("settings", text, walltime=ended)


def _rows(root: Path, name: str) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Steps of a curve with their finite measures.

    Raises:
        DataError: missing, or not a curve.
    """
    try:
        with open(root / name, newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                values = {key: float(text) for key, text in row.items() if key != "step" and text}
                yield int(row["step"]), {k: v for k, v in values.items() if math.isfinite(v)}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(name, None, f"is no curve ({error})") from None


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 if event files were written."""
    parser = argparse.ArgumentParser(
        prog="georecon tensorboard",
        description="Curves of an edition as TensorBoard's event files.",
    )
    parser.add_argument("edition", help="with results in this folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    try:
        count = write_events(read_graph(root, options.edition), root, options.output)
    except (GeoreconError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.output}: curves of {count} trainings; `tensorboard --logdir {options.output}`")
    return 0
