"""Values that others have published, from ``reports/published``: one file a table of theirs.

Every value has a unit, a source and a grade, or the file is refused: a number whose unit nobody
knows cannot stand beside one of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from georecon.errors import ConfigError, DataError
from georecon.experiments.sections import GRADES, QUANTITIES
from georecon.experiments.yaml_files import read_mapping
from georecon.keys import Key, choice, from_json
from georecon.units import unit_name

Number = Annotated[float, Key("")]
Text = Annotated[str, Key("", pattern=r"\s*\S.*", words="a text")]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedColumn:
    """What the values of one name are.

    Attributes:
        unit: of them; of this project's names of units once read.
        presumed: nobody says the unit where they were read: they are never converted.
        quantity: "energy" or "force"; empty for a property.
        target, part: of our columns that they belong to: a target and one of its test parts. Empty
            for any; values with neither belong to no column.
    """

    unit: Annotated[str, Key("unit")] = ""
    presumed: Annotated[bool, Key("whether the unit is a guess")] = False
    quantity: Annotated[str, Key("quantity", choices=("", *QUANTITIES))] = ""
    target: Annotated[str, Key("our target")] = ""
    part: Annotated[str, Key("our test part")] = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """A method's values, by the names in ``PublishedTable.columns``.

    Attributes:
        label: the method, as its source calls it.
        values, std: of it; what the spread is of says ``PublishedTable.spread``.
        source: paper, table, repository.
        read_where: the copy or transcript that was read.
        grade: "A" the paper's own table, "B" a transcript of it, "C" extracted by a machine.
        note: a caution; empty without one.
    """

    label: Text
    values: Annotated[Mapping[str, Number], Key("values", filled=True)]
    source: Annotated[str, Key("where it is written")] = ""
    read_where: Annotated[str, Key("what was read")] = ""
    grade: Annotated[str, Key("grade")] = ""
    std: Annotated[Mapping[str, Number], Key("spread")] = field(default_factory=dict)
    note: Annotated[str, Key("a caution")] = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedTable:
    """A table that others have published.

    Attributes:
        dataset: a card of ``config/datasets.yaml``, or a name that is none of them.
        metric: "mae" or "rmse".
        train: training molecules, validation included where ``split`` says so; None if not stated.
        split: how training and test set were made, in words.
        read_on: day on which it was read.
        spread: what ``std`` of its rows is.
        columns: what its values are, by name.
        rows: one a method.
    """

    dataset: Text
    metric: Annotated[str, Key("metric", choices=("mae", "rmse"))]
    train: Annotated[int | None, Key("training molecules", at_least=1)]
    split: Text
    read_on: Text
    spread: Annotated[str, Key("what the spread is of")] = ""
    columns: Annotated[Mapping[str, PublishedColumn], Key("columns", filled=True)]
    rows: Annotated[tuple[PublishedRow, ...], Key("rows", filled=True)]


def load_published(folder: Path) -> dict[str, PublishedTable]:
    """What others have published, by the name of each file.

    Raises:
        ConfigError: a file has an unknown or missing key, or is no YAML.
        DataError: a value without a unit, a source or a grade; names file and record.
    """
    return {path.stem: _read(path) for path in sorted(folder.glob("*.yaml"))}


def _read(path: Path) -> PublishedTable:
    document = read_mapping(path)
    document |= {"read_on": str(document.get("read_on", ""))}  # YAML reads a day as a date
    try:
        table = from_json(PublishedTable, document)
    except ConfigError as error:
        lines = str(error).splitlines()[1:]
        raise ConfigError("\n".join(f"{path}: {line.strip()}" for line in lines)) from None
    for record, reason in _faults(table):
        raise DataError(path, record, reason)
    columns = {
        name: replace(column, unit=unit_name(column.unit)) for name, column in table.columns.items()
    }
    return replace(table, columns=columns)


def _faults(table: PublishedTable) -> Iterator[tuple[str, str]]:
    """Records that cannot be shown, and why."""
    for name, column in table.columns.items():
        if not column.unit:
            yield f"columns.{name}", "has no unit; a value without one is not shown anywhere"
        try:
            unit_name(column.unit)
        except ConfigError as error:
            yield f"columns.{name}", str(error)
    for row in table.rows:
        yield from ((row.label, reason) for reason in _row_faults(table, row))


def _row_faults(table: PublishedTable, row: PublishedRow) -> Iterator[str]:
    if [one.label for one in table.rows].count(row.label) > 1:
        yield "is there twice"
    for key in ("source", "read_where"):
        if not getattr(row, key).strip():
            yield f"has no {key}; every value needs one"
    if row.grade not in GRADES:
        yield f"grade {choice(row.grade, GRADES)}"
    for name, value in (*row.values.items(), *row.std.items()):
        if name not in table.columns:
            yield f"{name} has no unit: columns has {', '.join(table.columns)}"
        if value < 0.0:
            yield f"{name} is {value}; an error is not negative"
    for name in row.std:
        if name not in row.values:
            yield f"has a spread of {name} and no value"
