"""Published values in their places beside ours: a block of their own, never among our cells.

A value is put under one of our columns only where target, test part, quantity and metric are the
same, and is converted only where its unit is known. What differs otherwise (data, split, encoder)
does not move a value, it stands in the row's note.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from georecon.errors import ConfigError, GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.experiments.specs import Column
from georecon.keys import Json, choice
from georecon.reporting.published import (
    PublishedColumn,
    PublishedRow,
    PublishedTable,
    load_published,
)
from georecon.units import convert, quantity_of

_load = functools.cache(load_published)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedCell:
    """A published value under one of our columns, in its unit."""

    column: str
    value: float
    std: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedLine:
    """A row of the block.

    Attributes:
        label: of the row, with quantity and unit where rows have them; ``method`` without.
        unit: of its values where the columns have none.
        cells: its values.
        grade, source, read_where: of them.
        note: what is particular about it, in sentences.
        settings: what differs from our rows: data and split, in sentences.
    """

    label: str
    method: str
    unit: str
    cells: tuple[PublishedCell, ...]
    grade: str
    source: str
    read_where: str
    note: str
    settings: str


def published_json(experiments: Experiments, folder: Path, table: str) -> list[Json]:
    """The block of a table, for its rule's parameters; empty where it shows none.

    Args:
        experiments: of the resolved configuration.
        folder: ``reports/published``.
        table: its name.

    Raises:
        ConfigError: the table names a file that is not there.
        DataError: a file has a value that cannot be shown.
    """
    return [asdict(line) for line in published_lines(experiments, folder, table)]


def check_published(experiments: Experiments, folder: Path) -> None:
    """Read every file and place every value before any job.

    Raises:
        SystemExit: one cannot be shown; the message alone is printed.
    """
    try:
        for table in experiments.tables.names():
            published_json(experiments, folder, table)
    except GeoreconError as error:
        print(f"georecon: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def published_lines(experiments: Experiments, folder: Path, table: str) -> Iterator[PublishedLine]:
    """Rows of published values below a table, quantity by quantity, in the order of the files."""
    known, names = _load(folder), experiments.config.tables[table].published
    for k, name in enumerate(names):
        if name not in known:
            raise ConfigError(f"tables.{table}.published.{k}: {choice(name, known)}")
    grades = experiments.config.published
    columns = [c for c in experiments.tables.columns(table) if c.source == "finetune"]
    for quantity, (prefix, unit) in _quantities(experiments, table).items():
        for name in names:
            place = _Place(experiments, known[name], columns, quantity, unit)
            for row in known[name].rows if grades else ():
                line = place.line(row, prefix) if row.grade in grades else None
                if line is not None:
                    yield line


def _quantities(experiments: Experiments, table: str) -> dict[str, tuple[str, str]]:
    """Label before a method's and unit of each quantity that rows show; one without a name else."""
    found: dict[str, tuple[str, str]] = {}
    for row in experiments.tables.rows(table):
        if row.kind == "method" and (row.quantity or "") not in found:
            prefix = row.label.removesuffix(experiments.methods.entry(row.method).label)
            found[row.quantity or ""] = (prefix if row.quantity else "", row.unit)
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the values of a published table belong, for one quantity of our table."""

    experiments: Experiments
    published: PublishedTable
    columns: list[Column]
    quantity: str
    unit: str

    def line(self, row: PublishedRow, prefix: str) -> PublishedLine | None:
        """A row of the block; None if none of its values has a place here."""
        cells, strange = [], []
        for column in self.columns:
            name = self._name(column)
            if name is None or name not in row.values:
                continue
            source, unit = self.published.columns[name], column.unit or self.unit
            if not _convertible(source, unit):
                strange.append(f"{column.label} {row.values[name]:g} {source.unit}, not {unit}")
                continue
            value, std = row.values[name], row.std.get(name)
            value = _in_unit(value, source.unit, unit)
            std = None if std is None else _in_unit(std, source.unit, unit)
            cells.append(PublishedCell(column=column.key, value=value, std=std))
        if not cells and not strange:
            return None
        return PublishedLine(
            label=prefix + row.label,
            method=row.label,
            unit=self.unit,
            cells=tuple(cells),
            grade=row.grade,
            source=row.source,
            read_where=row.read_where,
            note=" ".join(self._sentences(row, strange)),
            settings=" ".join(self._settings(row)),
        )

    def _name(self, column: Column) -> str | None:
        """Name of the values that belong under a column, or None."""
        if (column.metric or "mae") != self.published.metric:
            return None
        own = (column.test_part or "", self.quantity or column.quantity or "")
        for name, source in self.published.columns.items():
            placed = source.target or source.part
            same = source.target in ("", column.target) and (source.part, source.quantity) == own
            if placed and same:
                return name
        return None

    def _sentences(self, row: PublishedRow, strange: list[str]) -> Iterator[str]:
        """What a reader must know of this row before comparing."""
        published = self.published
        if row.note:
            yield _sentence(row.note)
        guessed = {c.unit for n, c in published.columns.items() if c.presumed and n in row.values}
        if guessed:
            yield _sentence(f"unit presumed: {', '.join(sorted(guessed))}")
        if strange:
            yield _sentence(f"not converted: {'; '.join(strange)}")

    def _settings(self, row: PublishedRow) -> Iterator[str]:
        """Other data and another split than ours: the same for the rows of a published table."""
        published, data = self.published, self.experiments.data
        if published.spread:
            yield f"± there: {published.spread}."
        part = next(column.part for column in self.columns if self._name(column) in row.values)
        ours = data.dataset_of(part)
        if ours != published.dataset:
            cards = self.experiments.config.datasets
            theirs = cards[published.dataset].title if published.dataset in cards else ""
            name = theirs.split(",")[0] or published.dataset
            here = data.card(ours).title.split(",")[0]
            yield f"Values of {name}, other data than this table's {here}: not to be compared."
        sections = self.experiments.config.finetune.sets
        train = sections[part].split.train if part in sections else None
        words = f"Split there: {published.split}"
        if train is not None and published.train not in (None, train):
            words += f"; here {train:,} training"
        yield _sentence(words)


def _in_unit(value: float, given: str, unit: str) -> float:
    """A value in another unit, with one digit more than it was published with."""
    if given == unit:
        return value
    digits = len(repr(value).replace(".", "").lstrip("0"))
    return float(f"{float(convert(value, given, unit)):.{digits + 1}g}")


def _convertible(source: PublishedColumn, unit: str) -> bool:
    """Whether a value may be shown in a unit; one of a presumed unit only in that very one."""
    if source.unit == unit:
        return True
    try:
        return not source.presumed and quantity_of(source.unit) == quantity_of(unit)
    except ConfigError:  # a unit of ours that converts to none
        return False


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if not text.endswith(".") else text
