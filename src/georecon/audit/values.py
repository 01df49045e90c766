"""Recompute every number from the stored predictions, and the labels from the stores."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from georecon import paths
from georecon.audit.findings import STUMBLES, Context, Finding
from georecon.data.split import Split, read_split
from georecon.data.store import Store
from georecon.errors import DataError, GeoreconError
from georecon.experiments.specs import CellSpec, TableSpec
from georecon.records.chain import Cell
from georecon.records.read import Claim
from georecon.records.untrusted import read_strict_json
from georecon.reporting.comparison import Comparison, compare, tested
from georecon.reporting.significance import over_seeds
from georecon.reporting.tables import lookup
from georecon.stages.evaluate import FORCE_SUMS, PROPERTY_COLUMNS, all_errors, prediction_table
from georecon.units import convert

TOLERANCE = 1e-9
"""Relative; the same numbers summed by another NumPy may differ in the last digits."""
_TYPES = {"id": "int64"} | dict.fromkeys(PROPERTY_COLUMNS[1:], "double")
_FORCE_TYPES = {"components": "int64"} | dict.fromkeys(FORCE_SUMS, "double")
_RATIO = 30
_UNSOUND: tuple[type[Exception], ...] = (SafetensorError, *STUMBLES)
_ROUNDING = 1e-4  # of the ends of an interval: sums in single precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A cell's number over seeds.

    Attributes:
        value: mean; ``std`` sample standard deviation; ``low``, ``high`` ends of its interval.
        n: number of seeds.
        values: by seed.
    """

    value: float
    std: float | None
    low: float | None
    high: float | None
    n: int
    values: Mapping[str, float]

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Estimate:
        """From the value of each seed."""
        numbers = list(values.values())
        interval = over_seeds(numbers)
        return cls(
            value=statistics.fmean(numbers),
            std=statistics.stdev(numbers) if len(numbers) > 1 else None,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            n=len(numbers),
            values=values,
        )

    def numbers(self) -> Mapping[str, float | None]:
        """All of them, as :func:`_numbers_in_table` names those of the table."""
        values = {f"values.{seed}": value for seed, value in self.values.items()}
        ends = {"low": self.low, "high": self.high}
        return {"value": self.value, "std": self.std, **ends, "n": self.n, **values}


@dataclass(slots=True)
class Recomputed:
    """What the stored predictions give.

    Attributes:
        metrics: what each metrics.json should hold, by its path.
        cells: number of each cell, by its place.
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, Estimate] = field(default_factory=dict)


def close(first: Any, second: Any) -> bool:
    """Whether two numbers (or nulls) are the same up to rounding."""
    if first is None or second is None:
        return first is second
    return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=0.0)


def read_predictions(path: Path, name: str) -> tuple[dict[str, np.ndarray], str]:
    """Columns of predictions.parquet and the label unit.

    Raises:
        DataError: not a parquet file of the columns and types that evaluation writes, or a value
            that is not finite.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = (file.metadata.row_group(k) for k in range(file.metadata.num_row_groups))
            size = max(sum(group.total_byte_size for group in groups), file.metadata.num_rows)
            if size > _RATIO * path.stat().st_size:  # real predictions hardly compress
                raise DataError(name, None, f"unpacks to {size} bytes or more, too many to be real")
            table = file.read()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(name, None, f"not readable as Parquet ({str(error)[:120]})") from None
    types = {column.name: str(column.type) for column in table.schema}
    known = types in (_TYPES, _TYPES | _FORCE_TYPES) and len(types) == table.num_columns
    if not known or any(column.null_count for column in table.columns):
        text = f"holds {types}, expected {_TYPES}, with forces also {_FORCE_TYPES}, without nulls"
        raise DataError(name, None, text)
    columns = {key: table[key].to_numpy() for key in types}
    for key, values in columns.items():
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(name, row, f"{key} is {values[row]}, expected a finite number")
    return columns, (table.schema.metadata or {}).get(b"unit", b"").decode("utf-8", "replace")


def check_predictions(context: Context, found: Recomputed) -> Iterator[Finding]:
    """Errors of every fine-tuned run recomputed; test set and labels as split and store say."""
    data = _Data(context.root)
    for record in context.runs("evaluate"):
        inputs, outputs = record.inputs, record.outputs
        if not {"predictions", "metrics"} <= set(outputs):
            continue
        predictions, metrics = outputs["predictions"].path, outputs["metrics"].path
        if not (context.root / predictions).is_file():
            continue  # said by the check of files
        try:
            columns, unit = read_predictions(context.root / predictions, predictions)
        except DataError as error:
            yield Finding(kind="file unreadable", path=predictions, text=str(error))
            continue
        found.metrics[metrics] = {"unit": unit, **all_errors(columns, data.test_parts(inputs))}
        yield from _compare_metrics(context, metrics, found.metrics[metrics])
        if not context.bundle and {"outputs", "store"} <= set(inputs):
            yield from _compare_outputs(context, predictions, inputs, columns)
        run = record.path.replace("evaluate.run", "run")
        yield from _compare_labels(context, data, run, columns)


def _compare_metrics(context: Context, name: str, again: Any) -> Iterator[Finding]:
    try:
        stored = read_strict_json(context.root / name, name)
    except DataError as error:
        yield Finding(kind="file unreadable", path=name, text=str(error))
        return
    was_flat = dict(_flat(stored))
    for place, value in _flat(again):
        was = was_flat.get(place)
        if isinstance(was, bool) or not isinstance(was, int | float) or not close(was, value):
            text = f"{place} is {was!r:.40}, the stored predictions give {value:.12g}"
            yield Finding(kind="metrics differ", path=name, text=text)
    if stored.get("unit") != again["unit"]:
        text = f"unit is {stored.get('unit')!r:.40}, the predictions are in {again['unit']!r:.40}"
        yield Finding(kind="metrics differ", path=name, text=text)


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers of nested objects by dotted key; text is left out."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif not isinstance(value, str):
            yield f"{prefix}{key}", value


class _Data:
    """Splits, and labels of their test sets, each read once: many runs share them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.splits: dict[str, Split] = {}
        self.labels: dict[tuple[str, str, str], np.ndarray] = {}

    def split(self, path: str) -> Split:
        """A split; errors as of ``read_split``."""
        if path not in self.splits:
            self.splits[path] = read_split(self.root / path)
        return self.splits[path]

    def test_parts(self, inputs: Mapping[str, Claim]) -> dict[str, np.ndarray]:
        """Named parts of a run's test set; none where its split cannot be read, which others
        say.
        """
        try:
            return self.split(inputs["split"].path).test_parts
        except (GeoreconError, OSError, KeyError, ValueError):
            return {}

    def test_labels(self, store: str, split: str, label: str) -> np.ndarray:
        """Labels of a split's test molecules, (M,)."""
        key = (store, split, label)
        if key not in self.labels:
            whole = Store.open((self.root / store).parent)
            self.labels[key] = whole.labels[label][whole.rows(self.split(split).test)]
        return self.labels[key]


def _compare_outputs(
    context: Context, path: str, inputs: Mapping[str, Claim], columns: dict[str, np.ndarray]
) -> Iterator[Finding]:
    """Predictions are the test outputs that fine-tuning wrote, and errors of their forces."""
    outputs, store = inputs["outputs"].path, inputs["store"].path
    try:
        wanted = prediction_table(context.root / outputs, (context.root / store).parent)
    except _UNSOUND as error:
        text = f"not test outputs ({error!s:.200})".replace(f"{context.root}/", "")
        yield Finding(kind="file unreadable", path=outputs, text=text)
        return
    if not _same_columns(columns, wanted):
        text = f"does not hold the test outputs of {outputs}"
        yield Finding(kind="predictions differ", path=path, text=text)


def _same_columns(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> bool:
    """Numbers as they are, and sums over frames up to rounding: see ``TOLERANCE``."""
    sums = {*wanted} & {*FORCE_SUMS}
    return (
        {*found} == {*wanted}
        and all(np.array_equal(found[name], wanted[name]) for name in {*wanted} - sums)
        and all(np.allclose(found[name], wanted[name], rtol=TOLERANCE, atol=0.0) for name in sums)
    )


def _compare_labels(
    context: Context, data: _Data, run: str, columns: dict[str, np.ndarray]
) -> Iterator[Finding]:
    """Predictions are of the split's test molecules, in order, with the store's labels."""
    record = context.graph.records.get(run)
    if record is None:
        return
    path, inputs = run.replace("run.json", "predictions.parquet"), record.inputs
    try:
        test = data.split(inputs["split"].path).test
        if not np.array_equal(columns["id"], test):
            text = f"predictions are not of the test molecules of {inputs['split'].path}"
            yield Finding(kind="predictions differ", path=path, text=text)
            return
        if context.bundle:
            return
        places = inputs["store"].path, inputs["split"].path, record.settings["label"]
        labels = data.test_labels(*places)
    except (GeoreconError, OSError, KeyError, ValueError) as error:
        yield Finding(kind="predictions differ", path=path, text=f"test set not readable: {error}")
        return
    if not np.array_equal(columns["label"], labels):
        text = f"its labels are not those of {inputs['store'].path}"
        yield Finding(kind="predictions differ", path=path, text=text)


def recompute_cells(context: Context, found: Recomputed, table: str) -> Iterator[Finding]:
    """Value of every cell of a table from recomputed errors, or from the files of its runs."""
    e = context.experiments
    spec = e.tables.spec(table)
    for cell in spec.cells:
        place = f"{table}/{cell.row}/{cell.column}"
        if cell.reason is not None:
            continue
        try:
            again = Estimate.of(_values(context, found, cell, spec.unit(cell)))
        except DataError as error:
            yield Finding(kind="value differs", path=error.file, text=str(error), touches=(place,))
            continue
        found.cells[place] = again
        yield from _compare_cell(context, place, again)
    yield from _compare_methods(context, found, spec)


def _compare_methods(context: Context, found: Recomputed, spec: TableSpec) -> Iterator[Finding]:
    """The comparison of a table's methods, where all predictions behind it could be read."""
    cells = [cell for cell in spec.cells if cell.reason is None]
    places = {(cell.row, cell.column): f"{spec.table}/{cell.row}/{cell.column}" for cell in cells}
    files = {file for cell in cells if tested(cell) for file in cell.files.values()}
    if (
        not spec.compare
        or not files <= {*found.metrics}
        or not {*places.values()} <= {*found.cells}
    ):
        return
    path = context.experiments.runs.folder(paths.TABLE, table=spec.table) + ".json"
    touches = tuple(places.values())
    try:
        values = {
            place: {int(seed): value for seed, value in found.cells[name].values.items()}
            for place, name in places.items()
        }
        again = compare(spec, values, context.root)
        stored = Comparison.from_json(context.graph.tables[spec.table].get("comparison"))
        text = _unlike(stored, again)
    except (DataError, KeyError, TypeError, ValueError) as error:
        text = f"cannot be compared with the stored results: {error}"
    if text is not None:
        text = f"its comparison of methods {text}"
        yield Finding(kind="value differs", path=path, text=text, touches=touches)


def _unlike(stored: Comparison, again: Comparison) -> str | None:
    """What is other in a comparison than the stored results give; None if nothing is."""
    if (stored.wins, stored.best) != (again.wins, again.best):
        return "has other wins or another best than the stored results give"
    if {*stored.ranks} != {*again.ranks} or any(
        not close(stored.ranks[row], rank) for row, rank in again.ranks.items()
    ):
        return "has other ranks than the stored results give"
    pairs = zip(stored.differences, again.differences, strict=True)
    for was, now in pairs:
        if (was.row, was.reference, was.column) != (now.row, now.reference, now.column):
            return f"has {was.row} against {was.reference} in {was.column} out of its place"
        scale = max(abs(now.value), abs(now.low or 0.0), abs(now.high or 0.0))
        for name in ("value", "low", "high", "n"):
            first, second = getattr(was, name), getattr(now, name)
            if (first is None) != (second is None) or (
                first is not None and not abs(first - second) <= _ROUNDING * scale
            ):
                return (
                    f"has {name} {first!r:.40} of {was.row} against {was.reference} in "
                    f"{was.column}, {second!r} from the stored results"
                )
    return None


def _values(context: Context, found: Recomputed, cell: CellSpec, unit: str) -> dict[str, float]:
    values = {}
    for seed, file in cell.files.items():
        number = lookup(_document(context, found, file), cell.key, file)
        if cell.divide_by:
            other = cell.divide_by[seed]
            number /= lookup(_document(context, found, other), cell.key, other) or math.nan
        elif cell.unit != unit:
            number = float(convert(number, cell.unit, unit))
        values[str(seed)] = number
    return values


def _document(context: Context, found: Recomputed, file: str) -> Any:
    return found.metrics.get(file) or read_strict_json(context.root / file, file)


def _compare_cell(context: Context, place: str, again: Estimate) -> Iterator[Finding]:
    cell = context.graph.links.get(place)
    if not isinstance(cell, Cell):
        return
    numbers, wanted = _numbers_in_table(cell), again.numbers()
    for key in {**wanted, **numbers}:
        was, now = numbers.get(key), wanted.get(key)
        if not (was is None or (isinstance(was, int | float) and not isinstance(was, bool))) or (
            not close(was, now)
        ):
            text = f"{place}: {key} is {was!r:.40} in the table, {now!r} from the stored results"
            path = cell.recorded_in or place
            yield Finding(kind="value differs", path=path, text=text, touches=(place,))
            return


def _numbers_in_table(cell: Cell) -> Mapping[str, object]:
    values = {f"values.{seed}": value for seed, value in cell.values.items()}
    ends = {"low": cell.low, "high": cell.high}
    return {"value": cell.value, "std": cell.std, **ends, "n": cell.n, **values}
