"""From a fine-tuned model's test outputs to predictions.parquet and metrics.json.

Outputs are read, written and summed in parts of at most ``PART_ATOMS`` atoms, so that a test set of
a million frames takes no more memory than its energies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from georecon.data.per_atom import PER_ATOM, count_atoms
from georecon.data.split import read_split
from georecon.files import atomic_path, write_json

PART_ATOMS = 200_000
PREDICTED = ("prediction", "baseline", "naive")
Columns = dict[str, np.ndarray]
"""Columns of predictions.parquet by name, (rows,)."""


def evaluate(
    outputs_path: Path, split_path: Path, predictions_path: Path, metrics_path: Path, *, unit: str
) -> None:
    """Write every prediction with its label, and the errors over them and over each test part.

    Args:
        outputs_path: ``outputs.safetensors`` of a fine-tuning run.
        split_path: the split of that run, which names the parts of its test set.
        predictions_path: parquet to write: one row per molecule (``energy`` or the property) and,
            for force sets, one row per force component (kind "force").
        metrics_path: JSON to write.
        unit: label unit, recorded; forces are in ``unit``/Å.
    """
    import pyarrow
    import pyarrow.parquet

    sums = ErrorSums(read_split(split_path).test_parts)
    with atomic_path(predictions_path) as temporary:
        writer = None
        for part in _parts(outputs_path):
            sums.add(part)
            columns = {name: _arrow_column(values) for name, values in part.items()}
            table = pyarrow.table(columns).replace_schema_metadata({"unit": unit})
            writer = writer or pyarrow.parquet.ParquetWriter(temporary, table.schema)
            writer.write_table(table)
        assert writer is not None
        writer.close()
    write_json(metrics_path, {"unit": unit, **sums.errors()})


def _arrow_column(values: np.ndarray) -> Any:
    """Arrow array of numbers, or of one text throughout, straight from memory.

    ``pyarrow.array`` gives the same array but imports pandas first, half of the job's time
    (docs/performance.md, "Libraries instead of own code").
    """
    import pyarrow

    if values.dtype.kind == "U":
        return pyarrow.repeat(str(values[0]) if len(values) else "", len(values))
    buffers = [None, pyarrow.py_buffer(np.ascontiguousarray(values))]
    return pyarrow.Array.from_buffers(pyarrow.from_numpy_dtype(values.dtype), len(values), buffers)


# ---- rows --------------------------------------------------------------------------------------


def _parts(path: Path) -> Iterator[Columns]:
    """Rows of a file of outputs: all of kind "property", then those of forces by parts.

    The file is opened anew for each part: pages that were read stay in memory as long as it is
    mapped.
    """
    with safe_open(path, "np") as file:
        names = [*file.keys()]
        molecules = {name: file.get_tensor(name) for name in names if "force" not in name}
    yield _property_rows(molecules)
    if "force_label" not in names:
        return
    ends = np.cumsum(molecules["atoms"])
    first = start = 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, start + PART_ATOMS, side="right")))
        stop = int(ends[last - 1])
        with safe_open(path, "np") as file:
            forces = {name: file.get_slice(name)[start:stop] for name in names if "force" in name}
        rows = _force_rows(molecules["ids"][first:last], molecules["atoms"][first:last], forces)
        if len(rows["id"]):
            yield rows
        first, start = last, stop


def prediction_table(outputs: Mapping[str, np.ndarray]) -> Columns:
    """Columns of predictions.parquet: kind, id, atom, axis, label, prediction, baseline, naive.

    ``baseline`` is the prediction of the training mean; for forces it is zero. ``naive`` is least
    squares on element counts; for force sets the nearest training frame. Molecules of a test file
    without forces (NaN) have no rows of kind "force".
    """
    rows = _property_rows(outputs)
    if "force_label" not in outputs:
        return rows
    forces = _force_rows(outputs["ids"], outputs["atoms"], outputs)
    return {name: np.concatenate([rows[name], forces[name]]) for name in rows}


def _property_rows(outputs: Mapping[str, np.ndarray]) -> Columns:
    size = len(outputs["ids"])
    nothing = np.full(size, -1, dtype=np.int16)
    return {
        "kind": np.full(size, "property"),
        "id": outputs["ids"],
        "atom": nothing,
        "axis": nothing,
        **{name: outputs[name] for name in ("label", *PREDICTED)},
    }


def _force_rows(ids: np.ndarray, counts: np.ndarray, forces: Mapping[str, np.ndarray]) -> Columns:
    atoms = np.concatenate([np.arange(n, dtype=np.int16) for n in counts])
    rows = {
        "kind": np.full(3 * len(atoms), "force"),
        "id": np.repeat(np.repeat(ids, counts), 3),
        "atom": np.repeat(atoms, 3),
        "axis": np.tile(np.arange(3, dtype=np.int16), len(atoms)),
        "label": forces["force_label"].ravel(),
        "prediction": forces["force_prediction"].ravel(),
        "baseline": np.zeros(3 * len(atoms)),
        "naive": forces["force_naive"].ravel(),
    }
    known = ~np.isnan(rows["label"])
    return rows if known.all() else {name: values[known] for name, values in rows.items()}


# ---- errors ------------------------------------------------------------------------------------


def all_errors(table: Columns, test_parts: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Errors over all of a table, and over each named part of the test set under ``parts``."""
    sums = ErrorSums(test_parts)
    sums.add(table)
    return sums.errors()


def errors(table: Columns) -> dict[str, Any]:
    """Mean absolute and root mean square errors by kind, beside those without a model.

    Returns:
        For "property" and, where present, "force": ``mae``, ``rmse``, both with ``baseline_`` (the
        training mean) and ``naive_`` before them, and the number of values ``n``. Properties of
        force sets, which are energies, also as ``mae_per_atom`` and ``rmse_per_atom``, and as
        ``relative``: the root mean square about the mean error, for energies matter up to a
        constant.
    """
    return all_errors(table, {})


class ErrorSums:
    """Errors of a table that comes in parts, over all of it and over named parts of the test set.

    Args:
        test_parts: ids of each.
    """

    def __init__(self, test_parts: Mapping[str, np.ndarray]) -> None:
        self._ids = dict(test_parts)
        self._whole, self._named = _Sums(), {name: _Sums() for name in test_parts}

    def add(self, rows: Columns) -> None:
        """Count further rows; a molecule's forces come all together."""
        self._whole.add(rows)
        for name, sums in self._named.items():
            chosen = np.isin(rows["id"], self._ids[name])
            sums.add({column: values[chosen] for column, values in rows.items()})

    def errors(self) -> dict[str, Any]:
        """Those of :func:`errors`, and of each named part under ``parts``."""
        parts = {name: sums.errors() for name, sums in self._named.items()}
        return {**self._whole.errors(), **({"parts": parts} if parts else {})}


@dataclass(slots=True)
class _Sums:
    """Of forces sums alone are kept; properties are few and kept whole."""

    properties: list[Columns] = field(default_factory=list)
    forces: int = 0
    absolute: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PREDICTED, 0.0))
    square: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PREDICTED, 0.0))
    components: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, rows: Columns) -> None:
        of_force = rows["kind"] == "force"
        if not of_force.all():
            names = ("id", "label", *PREDICTED)
            self.properties.append({name: rows[name][~of_force] for name in names})
        if not of_force.any():
            return
        self.forces += int(of_force.sum())
        label = rows["label"][of_force]
        for name in PREDICTED:
            difference = rows[name][of_force] - label
            self.absolute[name] += float(np.abs(difference).sum())
            self.square[name] += float((difference**2).sum())
        ids, counts = np.unique(rows["id"][of_force], return_counts=True)
        self.components.append((ids, counts))

    def errors(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.properties:
            found["property"] = self._property_errors()
        if self.forces:
            entry: dict[str, float] = {"n": self.forces}
            found["force"] = entry
            for name in PREDICTED:
                entry[f"{_prefix(name)}mae"] = self.absolute[name] / self.forces
                entry[f"{_prefix(name)}rmse"] = (self.square[name] / self.forces) ** 0.5
        return found

    def _property_errors(self) -> dict[str, Any]:
        rows = {
            name: np.concatenate([part[name] for part in self.properties])
            for name in self.properties[0]
        }
        atoms = None
        if self.components:
            ids, counts = (np.concatenate(parts) for parts in zip(*self.components, strict=True))
            atoms = count_atoms(rows["id"], ids, counts)
        entry: dict[str, Any] = {"n": len(rows["id"])}
        for name in PREDICTED:
            difference = rows[name] - rows["label"]
            entry |= _means(difference, _prefix(name), "")
            if self.forces:
                entry[f"{_prefix(name)}relative"] = float(difference.std())
            if atoms is not None:
                entry |= _means(difference / atoms, _prefix(name), PER_ATOM)
        return entry


def _prefix(name: str) -> str:
    return "" if name == "prediction" else f"{name}_"


def _means(difference: np.ndarray, prefix: str, suffix: str) -> dict[str, float]:
    return {
        f"{prefix}mae{suffix}": float(np.abs(difference).mean()),
        f"{prefix}rmse{suffix}": float(np.sqrt((difference**2).mean())),
    }
