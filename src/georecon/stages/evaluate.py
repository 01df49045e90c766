"""From a fine-tuned model's test outputs to predictions.parquet and metrics.json.

Forces lie once: the predicted ones in the outputs, in the precision that the model computes in, and
their labels in the store, by molecule id. Here only their errors are written, summed over each
frame; all metrics follow from these rows alone. Forces are read in parts of at most ``PART_ATOMS``
atoms, so that a test set of a million frames takes no more memory than its energies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from georecon.data.force_sums import ForceSums, force_sums
from georecon.data.per_atom import PER_ATOM, atoms_of
from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.errors import DataError
from georecon.files import atomic_path, write_json

PART_ATOMS = 200_000
PREDICTED = ("prediction", "baseline", "naive")
PROPERTY_COLUMNS = ("id", "label", *PREDICTED)
PREFIXES = ("", "baseline_", "naive_")
"""Before the names of a prediction's errors, in the order of ``PREDICTED``."""
FORCE_SUMS = tuple(f"{of}force_{power}" for of in PREFIXES for power in ("absolute", "square"))
"""Columns of force sets beside ``components``."""
Columns = dict[str, np.ndarray]
"""Columns of predictions.parquet by name, (M,): one row for each test molecule."""


def evaluate(
    outputs_path: Path,
    split_path: Path,
    predictions_path: Path,
    metrics_path: Path,
    *,
    unit: str,
    store_path: Path,
) -> None:
    """Write every predicted property with its label, and the errors over them and each test part.

    Args:
        outputs_path: ``outputs.safetensors`` of a fine-tuning run.
        split_path: the split of that run, which names the parts of its test set.
        predictions_path: parquet to write, the columns of :func:`prediction_table`.
        metrics_path: JSON to write.
        unit: label unit, recorded; forces are in ``unit``/Å.
        store_path: folder of the run's store, which has the labels of forces.

    Raises:
        DataError: the outputs are not of molecules of the store.
    """
    import pyarrow
    import pyarrow.parquet

    columns = prediction_table(outputs_path, store_path)
    arrays = {name: _arrow_column(values) for name, values in columns.items()}
    table = pyarrow.table(arrays).replace_schema_metadata({"unit": unit})
    with atomic_path(predictions_path) as temporary:
        # of numbers that hardly repeat, dictionaries and bounds only take room
        kept = {"use_dictionary": ["baseline"], "write_statistics": False}
        pyarrow.parquet.write_table(table, temporary, **kept)
    found = all_errors(columns, read_split(split_path).test_parts)
    write_json(metrics_path, {"unit": unit, **found})


def _arrow_column(values: np.ndarray) -> Any:
    """Arrow array of numbers straight from memory.

    ``pyarrow.array`` gives the same array but imports pandas first, half of the job's time
    (docs/performance.md, "Libraries instead of own code").
    """
    import pyarrow

    buffers = [None, pyarrow.py_buffer(np.ascontiguousarray(values))]
    return pyarrow.Array.from_buffers(pyarrow.from_numpy_dtype(values.dtype), len(values), buffers)


# ---- rows --------------------------------------------------------------------------------------


def prediction_table(outputs_path: Path, store_path: Path) -> Columns:
    """Columns of predictions.parquet, one row for each test molecule, in the order of the outputs.

    ``id``, ``label``, ``prediction``, ``baseline`` (the training mean) and ``naive`` (least squares
    on element counts; of force sets the nearest training frame) [label unit]. Of force sets also
    those of :func:`force_columns`.

    Args:
        outputs_path: ``outputs.safetensors`` of a fine-tuning run.
        store_path: folder of its store; not opened without forces.

    Raises:
        DataError: the outputs are not of molecules of the store.
    """
    with safe_open(outputs_path, "np") as file:
        names = [*file.keys()]
        of_molecules = {name: file.get_tensor(name) for name in names if name != "force_prediction"}
    rows = property_columns(of_molecules)
    if "force_prediction" not in names:
        return rows
    parts = list(_force_sums(outputs_path, Store.open(store_path), of_molecules["ids"]))
    model, baseline = (
        ForceSums(*(np.concatenate(arrays) for arrays in zip(*sums, strict=True)))
        for sums in zip(*parts, strict=True)
    )
    naive = (of_molecules[f"naive_force_{name}"] for name in ("absolute", "square"))
    return rows | force_columns(model, baseline, ForceSums(model.components, *naive))


def property_columns(outputs: Mapping[str, np.ndarray]) -> Columns:
    """The columns that every test set has, from a run's outputs by name."""
    return {"id": outputs["ids"], **{name: outputs[name] for name in PROPERTY_COLUMNS[1:]}}


def force_columns(model: ForceSums, baseline: ForceSums, naive: ForceSums) -> Columns:
    """``components``, and ``force_absolute`` and ``force_square`` of each prediction.

    Args:
        model: errors of the predicted forces.
        baseline: of no force at all, which the training mean predicts.
        naive: of the forces of the nearest training frame.
    """
    sums = (values for one in (model, baseline, naive) for values in (one.absolute, one.square))
    return {"components": model.components} | dict(zip(FORCE_SUMS, sums, strict=True))


def _force_sums(path: Path, store: Store, ids: np.ndarray) -> Iterator[tuple[ForceSums, ForceSums]]:
    """Errors of predicted forces and of none, by parts of the test molecules.

    The outputs are opened anew for each part: pages that were read stay in memory as long as they
    are mapped.
    """
    rows = store.rows(ids)
    atoms = store.n_atoms(rows)
    ends = np.cumsum(atoms)
    with safe_open(path, "np") as file:
        shape = file.get_slice("force_prediction").get_shape()
    if shape != [int(atoms.sum()), 3]:
        reason = f"has forces {shape}; {store.path} has {int(atoms.sum())} atoms of its molecules"
        raise DataError(path, None, reason)
    first = start = 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, start + PART_ATOMS, side="right")))
        stop = int(ends[last - 1])
        with safe_open(path, "np") as file:
            predicted = file.get_slice("force_prediction")[start:stop]
        label = store.gather(rows[first:last], ()).forces
        if label is None:
            raise DataError(store.path, None, "has no forces")
        nothing = np.zeros_like(predicted)
        counts = atoms[first:last]
        yield force_sums(label, predicted, counts), force_sums(label, nothing, counts)
        first, start = last, stop


# ---- errors ------------------------------------------------------------------------------------


def all_errors(table: Columns, test_parts: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Errors over all of a table, and over each named part of the test set under ``parts``.

    Args:
        table: columns of :func:`prediction_table`.
        test_parts: ids of each part.
    """
    parts = {}
    for name, ids in test_parts.items():
        chosen = np.isin(table["id"], ids)
        parts[name] = errors({column: values[chosen] for column, values in table.items()})
    return {**errors(table), **({"parts": parts} if parts else {})}


def errors(table: Columns) -> dict[str, Any]:
    """Mean absolute and root mean square errors by kind, beside those without a model.

    Returns:
        For "property" and, where present, "force": ``mae``, ``rmse``, both with ``baseline_`` (the
        training mean) and ``naive_`` before them, and the number of values ``n``. Properties of
        force sets, which are energies, also as ``mae_per_atom`` and ``rmse_per_atom``, and as
        ``relative``: the root mean square about the mean error, for energies matter up to a
        constant.
    """
    if not len(table["id"]):
        return {}
    components = table.get("components", np.zeros(0, dtype=np.int64))
    count, atoms = int(components.sum()), atoms_of(components)
    of_property: dict[str, float] = {"n": len(table["id"])}
    of_force: dict[str, float] = {"n": count}
    for name, prefix in zip(PREDICTED, PREFIXES, strict=True):
        difference = table[name] - table["label"]
        of_property |= _means(difference, prefix, "")
        if count:
            of_property[f"{prefix}relative"] = float(difference.std())
            of_force[f"{prefix}mae"] = float(table[f"{prefix}force_absolute"].sum()) / count
            of_force[f"{prefix}rmse"] = (float(table[f"{prefix}force_square"].sum()) / count) ** 0.5
        if atoms is not None:
            of_property |= _means(difference / atoms, prefix, PER_ATOM)
    return {"property": of_property, **({"force": of_force} if count else {})}


def _means(difference: np.ndarray, prefix: str, suffix: str) -> dict[str, float]:
    return {
        f"{prefix}mae{suffix}": float(np.abs(difference).mean()),
        f"{prefix}rmse{suffix}": float(np.sqrt((difference**2).mean())),
    }
