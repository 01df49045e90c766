"""From a fine-tuned model's test outputs to predictions.parquet and metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from georecon.data.per_atom import PER_ATOM, atoms_of
from georecon.data.split import read_split
from georecon.files import atomic_path, write_json


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
    outputs = load_file(outputs_path)
    table = prediction_table(outputs)
    import pyarrow
    import pyarrow.parquet

    columns = {name: _arrow_column(values) for name, values in table.items()}
    arrow = pyarrow.table(columns).replace_schema_metadata({"unit": unit})
    with atomic_path(predictions_path) as temporary:
        pyarrow.parquet.write_table(arrow, temporary)
    write_json(metrics_path, {"unit": unit, **all_errors(table, read_split(split_path).test_parts)})


def _arrow_column(values: np.ndarray) -> Any:
    """Arrow array of numbers or ASCII texts, straight from memory.

    ``pyarrow.array`` gives the same array but imports pandas first, half of the job's time
    (docs/performance.md, "Libraries instead of own code").
    """
    import pyarrow

    if values.dtype.kind != "U":
        buffers = [None, pyarrow.py_buffer(np.ascontiguousarray(values))]
        return pyarrow.Array.from_buffers(
            pyarrow.from_numpy_dtype(values.dtype), len(values), buffers
        )
    ends = np.cumsum([0, *map(len, values.tolist())], dtype=np.int32)
    texts = "".join(values.tolist()).encode("ascii")
    buffers = [None, pyarrow.py_buffer(ends), pyarrow.py_buffer(texts)]
    return pyarrow.Array.from_buffers(pyarrow.string(), len(values), buffers)


def all_errors(
    table: dict[str, np.ndarray], test_parts: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Errors over all of a table, and over each named part of the test set under ``parts``."""
    parts = {
        name: errors({column: values[chosen] for column, values in table.items()})
        for name, ids in test_parts.items()
        for chosen in (np.isin(table["id"], ids),)
    }
    return {**errors(table), **({"parts": parts} if parts else {})}


def prediction_table(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns of predictions.parquet: kind, id, atom, axis, label, prediction, baseline, naive.

    ``baseline`` is the prediction of the training mean; for forces it is zero. ``naive`` is least
    squares on element counts; for force sets the nearest training frame. Molecules of a test file
    without forces (NaN) have no rows of kind "force".
    """
    size = len(outputs["ids"])
    nothing = np.full(size, -1, dtype=np.int16)
    property_part = {
        "kind": np.full(size, "property"),
        "id": outputs["ids"],
        "atom": nothing,
        "axis": nothing,
        "label": outputs["label"],
        "prediction": outputs["prediction"],
        "baseline": outputs["baseline"],
        "naive": outputs["naive"],
    }
    if "force_label" not in outputs:
        return property_part
    counts = outputs["atoms"]
    atoms = np.concatenate([np.arange(n, dtype=np.int16) for n in counts])
    forces = {
        "kind": np.full(3 * len(atoms), "force"),
        "id": np.repeat(np.repeat(outputs["ids"], counts), 3),
        "atom": np.repeat(atoms, 3),
        "axis": np.tile(np.arange(3, dtype=np.int16), len(atoms)),
        "label": outputs["force_label"].ravel(),
        "prediction": outputs["force_prediction"].ravel(),
        "baseline": np.zeros(3 * len(atoms)),
        "naive": outputs["force_naive"].ravel(),
    }
    known = ~np.isnan(forces["label"])
    return {name: np.concatenate([property_part[name], forces[name][known]]) for name in forces}


def errors(table: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean absolute and root mean square errors by kind, beside those without a model.

    Returns:
        For "property" and, where present, "force": ``mae``, ``rmse``, both with ``baseline_`` (the
        training mean) and ``naive_`` before them, and the number of values ``n``. Properties of
        force sets, which are energies, also as ``mae_per_atom`` and ``rmse_per_atom``, and as
        ``relative``: the root mean square about the mean error, for energies matter up to a
        constant.
    """
    found: dict[str, Any] = {}
    forces = table["id"][table["kind"] == "force"]
    for kind in dict.fromkeys(table["kind"].tolist()):
        rows = table["kind"] == kind
        label = table["label"][rows]
        entry: dict[str, Any] = {"n": int(rows.sum())}
        for name in ("prediction", "baseline", "naive"):
            prefix = "" if name == "prediction" else f"{name}_"
            difference = table[name][rows] - label
            entry |= _means(difference, prefix, "")
            if kind == "property" and len(forces):
                entry[f"{prefix}relative"] = float(difference.std())
            if kind == "property" and (atoms := atoms_of(table["id"][rows], forces)) is not None:
                entry |= _means(difference / atoms, prefix, PER_ATOM)
        found[kind] = entry
    return found


def _means(difference: np.ndarray, prefix: str, suffix: str) -> dict[str, float]:
    return {
        f"{prefix}mae{suffix}": float(np.abs(difference).mean()),
        f"{prefix}rmse{suffix}": float(np.sqrt((difference**2).mean())),
    }
