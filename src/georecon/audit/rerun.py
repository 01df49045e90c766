"""One cell's runs made again beside the published ones, and both numbers compared.

``snakemake --cores all --config edition=E cell=<table>/<row>/<column> -- rerun`` pre-trains,
fine-tunes and evaluates again under ``results/E/rerun/<cell>`` and says old, new and difference.
On the same processor, packages and number of threads every number is the same: the difference is
0. Elsewhere sums are rounded in another order and training carries that on, so two runs differ as
two seeds do, mostly by less; the standard deviation over seeds is the measure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from georecon import paths
from georecon.errors import DataError
from georecon.experiments.experiments import Experiments
from georecon.files import read_json, sha256_file
from georecon.reporting.tables import fill_cell


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A published number, the recomputed one, and new minus old."""

    old: float | None
    new: float
    difference: float | None

    @classmethod
    def of(cls, old: float | None, new: float) -> Pair:
        """The pair of two numbers."""
        return cls(old=old, new=new, difference=None if old is None else new - old)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A cell's published numbers beside those of its runs made again.

    Attributes:
        cell: ``<table>/<row>/<column>``.
        unit: of its numbers; empty without one.
        std: standard deviation over seeds, as published.
        numbers: "value" and "seed <seed>" of each seed.
        same_files: whether predictions or estimates are the same bytes, by the new file's path.
    """

    cell: str
    unit: str
    std: float | None
    numbers: Mapping[str, Pair]
    same_files: Mapping[str, bool]


def compare(published: Experiments, again: Experiments, cell: str) -> Comparison:
    """Published and recomputed number of a cell.

    Args:
        published: configuration without ``cell``: paths of the published results.
        again: the same with ``cell``: paths of the new ones.
        cell: ``<table>/<row>/<column>``.

    Raises:
        DataError: the cell's table has not been made.
    """
    table = published.runs.folder(paths.TABLE, table=cell.split("/", maxsplit=1)[0]) + ".json"
    if not Path(table).is_file():
        raise DataError(table, None, "is not there: make the table first, then rerun its cell")
    spec, unit = again.tables.named_cell(cell)
    place = (spec.row, spec.column)
    (old,) = (c for c in read_json(table)["cells"] if (c["row"], c["column"]) == place)
    new: Any = fill_cell(spec, unit)
    numbers = {"value": Pair.of(old["value"], new["value"])}
    numbers |= {f"seed {s}": Pair.of(old["values"].get(s), v) for s, v in new["values"].items()}
    return Comparison(
        cell=cell,
        unit=unit,
        std=old["std"],
        numbers=numbers,
        same_files=_same_files(published, again, cell),
    )


def _same_files(published: Experiments, again: Experiments, cell: str) -> dict[str, bool]:
    """Whether predictions or estimates are the same bytes, by the new file's path."""
    old, new = (e.tables.named_cell(cell)[0].all_files() for e in (published, again))
    found = {}
    for first, second in zip(old, new, strict=True):
        pair = [Path(result_file(path)) for path in (first, second)]
        if all(path.is_file() for path in pair):
            found[str(pair[1])] = sha256_file(pair[0]) == sha256_file(pair[1])
    return found


def result_file(file: str) -> str:
    """The file of a run whose bytes its training decides: times and folders are not in it.

    Args:
        file: of the same run, that a cell is read from.
    """
    folder = file.rpartition("/")[0]
    if "/finetune/" in file:
        return f"{folder}/predictions.parquet"
    return f"{folder}/metrics.csv" if file.endswith("run.json") else f"{folder}/metrics.json"


def lines(found: Comparison) -> Iterator[str]:
    """The comparison as a person reads it."""
    unit = f" {found.unit}" if found.unit else ""
    for name, pair in found.numbers.items():
        yield (
            f"{found.cell}, {name}: old {pair.old!r}, new {pair.new!r}, "
            f"difference {pair.difference!r}{unit}"
        )
    same = found.same_files
    if same:
        yield f"{sum(same.values())} of {len(same)} result files are the same byte for byte"
    if found.std is not None:
        yield f"standard deviation over seeds, as published: {found.std!r}{unit}"
