"""One cell's runs made again beside the published ones, and both numbers compared.

``snakemake --cores all --config edition=E cell=<table>/<row>/<column> -- rerun`` pre-trains,
fine-tunes and evaluates again under ``results/E/rerun/<cell>`` and says old, new and difference.
On the same processor, packages and number of threads every number is the same: the difference is
0. Elsewhere sums are rounded in another order and training carries that on, so two runs differ as
two seeds do, mostly by less; the standard deviation over seeds is the measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from georecon import paths
from georecon.errors import DataError
from georecon.experiments.cells import Experiments, cell_files, cell_spec
from georecon.files import read_json, sha256_file
from georecon.reporting.tables import fill_cell


def compare(published: Experiments, again: Experiments, cell: str) -> dict[str, Any]:
    """Published and recomputed number of a cell.

    Args:
        published: configuration without ``cell``: paths of the published results.
        again: the same with ``cell``: paths of the new ones.
        cell: ``<table>/<row>/<column>``.

    Returns:
        ``old``, ``new`` and ``difference`` of the value and of each seed's, the unit, and which
        files came out byte for byte the same.

    Raises:
        DataError: the cell's table has not been made.
    """
    table = published.folder(paths.TABLE, table=cell.split("/", maxsplit=1)[0]) + ".json"
    if not Path(table).is_file():
        raise DataError(table, None, "is not there: make the table first, then rerun its cell")
    spec, unit = cell_spec(again, cell)
    place = (spec["row"], spec["column"])
    (old,) = (c for c in read_json(table)["cells"] if (c["row"], c["column"]) == place)
    new = fill_cell(spec, unit)
    pairs = {"value": (old["value"], new["value"])}
    pairs |= {f"seed {s}": (old["values"].get(s), value) for s, value in new["values"].items()}
    return {
        "cell": cell,
        "unit": unit,
        "std": old["std"],
        "numbers": {name: _numbers(*pair) for name, pair in pairs.items()},
        "same_files": _same_files(published, again, cell),
    }


def _numbers(old: float | None, new: float) -> dict[str, float | None]:
    return {"old": old, "new": new, "difference": None if old is None else new - old}


def _same_files(published: Experiments, again: Experiments, cell: str) -> dict[str, bool]:
    """Whether predictions or estimates are the same bytes, by the new file's path."""
    old, new = cell_files(published, cell), cell_files(again, cell)
    found = {}
    for first, second in zip(old, new, strict=True):
        name = "predictions.parquet" if "/finetune/" in second else "metrics.json"
        pair = [Path(path).with_name(name) for path in (first, second)]
        if all(path.is_file() for path in pair):
            found[str(pair[1])] = sha256_file(pair[0]) == sha256_file(pair[1])
    return found


def lines(comparison: dict[str, Any]) -> Iterator[str]:
    """The comparison as a person reads it."""
    unit = f" {comparison['unit']}" if comparison["unit"] else ""
    for name, numbers in comparison["numbers"].items():
        yield (
            f"{comparison['cell']}, {name}: old {numbers['old']!r}, new {numbers['new']!r}, "
            f"difference {numbers['difference']!r}{unit}"
        )
    same = comparison["same_files"]
    if same:
        yield f"{sum(same.values())} of {len(same)} result files are the same byte for byte"
    if comparison["std"] is not None:
        yield f"standard deviation over seeds, as published: {comparison['std']!r}{unit}"
