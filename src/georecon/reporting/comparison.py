"""Methods of a table compared: paired differences, wins, mean ranks, and which best is certain.

Errors of single molecules come from the ``predictions.parquet`` beside each ``metrics.json``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from georecon.data.force_sums import ForceSums
from georecon.data.per_atom import PER_ATOM, atoms_of
from georecon.errors import DataError
from georecon.experiments.specs import CellSpec, Row, TableSpec
from georecon.experiments.tables import predictions
from georecon.keys import Json
from georecon.reporting.significance import Errors, Interval, mean_ranks, over_seeds, paired
from georecon.units import factor

_SAME = 1e-6  # relative: the same mean, summed in another order


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Error of a row less that of a reference, in the unit of the column.

    Attributes:
        row, reference, column: keys.
        value: mean over seeds; negative where the row is better.
        low, high: ends of its interval; None for fewer than three seeds.
        n: number of seeds.
    """

    row: str
    reference: str
    column: str
    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Wins:
    """In how many columns a row is better or worse than a reference.

    Attributes:
        row, reference: keys.
        columns: compared in all.
        better, worse: by the mean.
        surely_better, surely_worse: of these, with an interval that excludes zero.
    """

    row: str
    reference: str
    columns: int
    better: int
    worse: int
    surely_better: int
    surely_worse: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The smallest error of a column, by an interval that excludes zero before the second."""

    row: str
    column: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All of it; ``ranks`` is the mean rank of a row over the columns that have all methods."""

    differences: tuple[Difference, ...]
    wins: tuple[Wins, ...]
    ranks: Mapping[str, float]
    best: tuple[Best, ...]

    def as_json(self) -> Json:
        """For a table's JSON."""
        return {
            "differences": [asdict(one) for one in self.differences],
            "wins": [asdict(one) for one in self.wins],
            "ranks": dict(self.ranks),
            "best": [asdict(one) for one in self.best],
        }

    @classmethod
    def from_json(cls, document: Any) -> Comparison:
        """From what :meth:`as_json` gave."""
        return cls(
            differences=tuple(Difference(**entry) for entry in document["differences"]),
            wins=tuple(Wins(**entry) for entry in document["wins"]),
            ranks=document["ranks"],
            best=tuple(Best(**entry) for entry in document["best"]),
        )


class _Run(NamedTuple):
    """What there is of a row in a column: number by seed, single errors if they can be had."""

    values: Mapping[int, float]
    errors: Mapping[int, Errors] | None


def compare(
    spec: TableSpec, values: Mapping[tuple[str, str], Mapping[int, float]], root: Path = Path()
) -> Comparison:
    """Every method of a table compared with ``spec.compare``, column by column.

    Args:
        spec: of the table.
        values: number by seed of each filled cell, by row and column, in the unit of the column.
        root: folder that the paths of ``spec`` start from.

    Raises:
        DataError: runs that would be compared have other seeds or were tested on other molecules,
            or predictions are not those behind the table's number.
    """
    groups = list(_groups(spec.rows))
    differences: list[Difference] = []
    best: list[Best] = []
    errors: list[list[dict[str, float]]] = [[] for _ in groups]
    for column in spec.columns:
        cells = {cell.row: cell for cell in spec.cells if cell.column == column.key}
        reader = _Reader(spec, root)
        for number, rows in enumerate(groups):
            runs = {
                row.key: reader.run(cells[row.key], values[row.key, column.key])
                for row in rows
                if comparable(cells[row.key]) and (row.key, column.key) in values
            }
            if not runs:
                continue
            where = f"{spec.table}/{column.key}"
            means = {key: float(np.mean([*run.values.values()])) for key, run in runs.items()}
            errors[number].append(means)
            references = [row.key for name in spec.compare for row in rows if row.method == name]
            differences += _differences(runs, references, column.key, where)
            best += [Best(row=key, column=column.key) for key in _best(runs, means, where)]
    ranks: dict[str, float] = {}
    for columns in errors:
        ranks |= mean_ranks(columns)
    return Comparison(
        differences=tuple(differences),
        wins=tuple(_wins(differences)),
        ranks=ranks,
        best=tuple(best),
    )


def _groups(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows of methods that show the same quantity."""
    methods = [row for row in rows if row.kind == "method"]
    for quantity in dict.fromkeys(row.quantity for row in methods):
        yield [row for row in methods if row.quantity == quantity]


def comparable(cell: CellSpec) -> bool:
    """Whether a cell is an error, not a loss of pre-training, an estimate or a ratio."""
    return (
        cell.reason is None
        and not cell.divide_by
        and cell.key[-1].removesuffix(PER_ATOM).endswith(("mae", "rmse"))
    )


def tested(cell: CellSpec) -> bool:
    """Whether it is an error over all test molecules, which ``predictions.parquet`` holds.

    Not one on validation molecules, nor on a part of the test set: which molecules that has stands
    in the split.
    """
    return comparable(cell) and cell.key[:-1] in (("property",), ("force",))


class _Reader:
    """Reads the predictions behind the cells of one column, each file once."""

    def __init__(self, spec: TableSpec, root: Path) -> None:
        self.spec, self.root = spec, root
        self.read: dict[str, Predictions] = {}

    def run(self, cell: CellSpec, values: Mapping[int, float]) -> _Run:
        """What there is of a cell, given its number by seed."""
        if not tested(cell):  # its seeds alone are compared
            return _Run(values, None)
        kind, metric = cell.key
        scale = factor(cell.unit, self.spec.unit(cell)) if cell.unit else 1.0
        errors = {}
        for seed, file in cell.files.items():
            path = predictions(file)
            if path not in self.read:
                self.read[path] = read_predictions(self.root / path, path)
            found = single_errors(self.read[path], kind, metric, path)
            found = found._replace(errors=found.errors * scale)
            mean = float(found.errors.mean())
            if not math.isclose(mean, values[seed], rel_tol=_SAME, abs_tol=1e-300):
                text = f"its {kind} {metric} is not that of {file}: predictions of another run"
                raise DataError(path, None, text)
            errors[seed] = found
        return _Run(values, errors)


def _difference(first: _Run, second: _Run, where: str) -> tuple[float, Interval | None]:
    """Mean difference over seeds, and the interval where there are enough of them."""
    if set(first.values) != set(second.values):
        seeds = f"{sorted(first.values)} against {sorted(second.values)}"
        raise DataError(where, None, f"has seeds {seeds}; a paired comparison needs the same")
    by_seed = [number - second.values[seed] for seed, number in first.values.items()]
    if first.errors is None or second.errors is None:
        found = over_seeds(by_seed)
    else:
        try:
            found = paired(first.errors, second.errors)
        except DataError as error:
            raise DataError(where, None, error.reason) from None
    return float(np.mean(by_seed)), found


def _differences(
    runs: Mapping[str, _Run], references: Sequence[str], column: str, where: str
) -> Iterator[Difference]:
    for reference in references:
        for row, run in runs.items():
            if row == reference or reference not in runs:
                continue
            value, found = _difference(run, runs[reference], f"{where}, {row} against {reference}")
            yield Difference(
                row=row,
                reference=reference,
                column=column,
                value=value,
                low=found.low if found else None,
                high=found.high if found else None,
                n=len(run.values),
            )


def _best(runs: Mapping[str, _Run], means: Mapping[str, float], where: str) -> list[str]:
    """The row of the smallest error, if the interval of its difference to the second says so."""
    order = sorted(means, key=means.__getitem__)
    if len(order) < 2:
        return []
    first, second = order[:2]
    _, found = _difference(runs[first], runs[second], f"{where}, {first} against {second}")
    return [first] if found and found.high < 0.0 else []


def _wins(differences: Iterable[Difference]) -> Iterator[Wins]:
    pairs: dict[tuple[str, str], list[Difference]] = {}
    for one in differences:
        pairs.setdefault((one.row, one.reference), []).append(one)
    for (row, reference), found in pairs.items():
        yield Wins(
            row=row,
            reference=reference,
            columns=len(found),
            better=sum(one.value < 0.0 for one in found),
            worse=sum(one.value > 0.0 for one in found),
            surely_better=sum(one.high is not None and one.high < 0.0 for one in found),
            surely_worse=sum(one.low is not None and one.low > 0.0 for one in found),
        )


# ---- errors of single molecules ------------------------------------------------------------------


class Predictions(NamedTuple):
    """What is needed here of a ``predictions.parquet``, (M,): one row for each test molecule.

    ``forces`` are the sums over each frame, None for a set without forces.
    """

    id: NDArray[np.int64]
    label: NDArray[np.float64]
    prediction: NDArray[np.float64]
    forces: ForceSums | None


def read_predictions(path: Path, name: str) -> Predictions:
    """Predictions of a run, of its columns those that are needed here.

    Args:
        path: of the file.
        name: for messages.

    Raises:
        DataError: no such file, or not one that evaluation writes.
    """
    import pyarrow
    import pyarrow.parquet

    of_molecules = ["id", "label", "prediction"]
    of_forces = ["components", "force_absolute", "force_square"]
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if "components" not in file.schema_arrow.names:
                of_forces = []
            table = file.read(columns=of_molecules + of_forces)
            ids, label, prediction = (table[name].to_numpy() for name in of_molecules)
            sums = [table[name].to_numpy() for name in of_forces]
            return Predictions(ids, label, prediction, ForceSums(*sums) if sums else None)
    except (OSError, ValueError, KeyError, IndexError, pyarrow.ArrowException) as error:
        text = f"not readable as predictions ({str(error)[:120]}); rerun its evaluation"
        raise DataError(name, None, text) from None


def single_errors(read: Predictions, kind: str, metric: str, name: str) -> Errors:
    """Error of each molecule or frame, whose mean is the metric over all of them.

    A metric over components (forces of molecules of several sizes) or a root mean square is no
    mean over molecules; each then gets what it adds to first order, the metric's influence
    function (Hampel 1974).

    Args:
        read: predictions of one run.
        kind: "property" or "force".
        metric: "mae" or "rmse", of energies also with ``PER_ATOM`` at its end.
        name: of the file, for messages.

    Raises:
        DataError: there are no predictions of this kind.
    """
    ids, label = read.id, read.label
    if kind == "property":
        error = np.abs(read.prediction - label)
        if metric.endswith(PER_ATOM):
            atoms = atoms_of(read.forces.components) if read.forces else None
            if atoms is None:
                raise DataError(
                    name, None, "has molecules without forces: their atoms are not known"
                )
            error, metric = error / atoms, metric.removesuffix(PER_ATOM)
        sums, counts = error if metric == "mae" else error**2, np.ones(len(error))
    else:
        known = read.forces.components > 0 if read.forces else np.zeros(0, dtype=np.bool_)
        if read.forces is None or not known.any():
            raise DataError(name, None, f"has no {kind} predictions, only those of properties")
        ids, label, counts = ids[known], label[known], read.forces.components[known].astype(float)
        sums = (read.forces.absolute if metric == "mae" else read.forces.square)[known]
    mean = sums.sum() / counts.sum()
    influence = (sums - mean * counts) / counts.mean()
    if metric == "rmse":
        root = math.sqrt(mean)
        mean, influence = root, influence / (2.0 * root) if root else influence
    return Errors(ids, label, mean + influence)
