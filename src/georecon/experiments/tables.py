"""Which runs each cell of each table is made of.

A function of the resolved configuration, like :mod:`georecon.experiments.runs`; the Snakefile, the
tables and the figures all ask here, so that they cannot disagree.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from georecon import paths
from georecon.data.cards import Target
from georecon.data.per_atom import PER_ATOM
from georecon.errors import ConfigError
from georecon.experiments.captions import conditions
from georecon.experiments.columns import measured_columns
from georecon.experiments.data import Data
from georecon.experiments.methods import Methods
from georecon.experiments.runs import Runs
from georecon.experiments.sample import draw
from georecon.experiments.sections import Config, Sweep, Table, TableColumn
from georecon.experiments.specs import CellSpec, Column, Row, TableSpec

VALIDATION = "validation"
"""Metric: the error on validation molecules at the step whose weights were kept."""


_METRIC_WORDS = {VALIDATION: "validation MAE", "relative": "relative RMSE"}


def predictions(metrics: str) -> str:
    """The predictions that the ``metrics.json`` of a fine-tuning run was computed from."""
    return metrics.removesuffix("metrics.json") + "predictions.parquet"


def _unit(entry: Target, quantity: str, *, shown: bool) -> str:
    """Unit of a target's property or energy, or of its forces; stored, or as tables show it."""
    if quantity == "force":
        return entry.table_force_unit if shown else entry.force_unit
    return entry.table_unit if shown else entry.unit


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables of a resolved configuration."""

    config: Config
    methods: Methods
    data: Data
    runs: Runs

    def names(self) -> list[str]:
        """All tables, in the order of tables.yaml."""
        return list(self.config.tables)

    def compares_methods(self, table: str) -> bool:
        """Whether a table compares all methods, not variants of one."""
        rows = self.config.tables[table].rows
        return rows.sweep is None and rows.methods == "all"

    # ---- rows --------------------------------------------------------------------------------

    def rows(self, table: str) -> list[Row]:
        """Rows of a table."""
        entry = self.config.tables[table]
        spec = entry.rows
        if spec.sweep is not None:
            return [self._sweep_row(spec.sweep, value) for value in spec.sweep.values]
        methods = self.methods.names() if spec.methods == "all" else list(spec.methods)
        rows = []
        for quantity in spec.quantities or (None,):
            prefix = f"{quantity}_" if quantity else ""
            unit = self._quantity_unit(entry, quantity) if quantity else ""
            name = (quantity or "").replace("_", " ").capitalize()
            words = f"{name} [{unit}], " if quantity else ""
            rows += [
                Row(
                    key=f"{prefix}{kind}",
                    label=words + label,
                    method=methods[0],
                    unit=unit,
                    quantity=quantity,
                    kind=kind,
                )
                for kind, label in (("baseline", spec.baseline), ("naive", spec.naive))
                if label
            ]
            rows += [
                Row(
                    key=f"{prefix}{name}",
                    label=words + self.methods.entry(name).label,
                    method=name,
                    unit=unit,
                    quantity=quantity,
                )
                for name in methods
            ]
        return rows

    def _sweep_row(self, sweep: Sweep, value: float) -> Row:
        label = sweep.label.replace("{value}", str(value))
        return Row(key=str(value), label=label, method=self.methods.variant(sweep, value))

    def _quantity_unit(self, entry: Table, quantity: str) -> str:
        card = self.data.card(self.data.dataset_of(entry.columns[0].set))
        first = next(iter((card.targets or {}).values()), None) or Target()
        return entry.units.get(quantity) or _unit(first, quantity, shown=True)

    # ---- columns -----------------------------------------------------------------------------

    def columns(self, table: str) -> list[Column]:
        """Columns of a table."""
        found: list[Column] = []
        entry = self.config.tables[table]
        for spec in entry.columns:
            if spec.source == "finetune":
                dataset = self.data.dataset_of(spec.set)
                sets = {one.set for one in entry.columns if one.set}
                same = [name for name in sets if self.data.dataset_of(name) == dataset]
                in_rows = bool(entry.rows.quantities)
                found += [
                    replace(column, unit=entry.units.get(spec.quantity or "", column.unit))
                    for column in self._target_columns(
                        spec, in_rows=in_rows, of_several=len(same) > 1
                    )
                ]
            else:
                found += measured_columns(self.config, spec)
        return found

    def _target_columns(
        self, spec: TableColumn, *, in_rows: bool, of_several: bool
    ) -> list[Column]:
        """A column for each target, or each test part of it.

        Args:
            spec: of the configuration.
            in_rows: quantities are rows, so the unit stands in the row's label.
            of_several: the table has columns of other parts on the same dataset, so each says
                its part.
        """
        part_key = (spec.set,) if of_several else ()
        part_words = (self.config.sets[spec.set].words(spec.set),) if of_several else ()
        dataset = self.data.dataset_of(spec.set)
        card = self.data.card(dataset)
        named = self.data.targets(dataset) if spec.targets == "all" else list(spec.targets)
        found = []
        for target in named:
            # of another dataset's target: a column without data
            known = card.targets or {}
            entry = known.get(target) or next(iter(known.values()), None) or Target()
            entry = entry if target in known else replace(entry, title="")
            unit = "" if in_rows else _unit(entry, spec.quantity or "energy", shown=True)
            title = entry.title or target
            parts = self.data.parts(dataset, target)
            wanted: list[str | None] = [*(spec.parts or parts)]
            for part in wanted or [None]:
                # A part says nothing where it is the only one, the target where it is.
                names = [target] * (len(named) > 1 or len(parts) < 2) + [part] * (len(parts) > 1)
                words = [title if name == target else str(name).replace("_", " ") for name in names]
                key = (*part_key, *map(str, names), spec.quantity, spec.metric)
                shown = _METRIC_WORDS.get(spec.metric, spec.metric.upper())
                label = (*words, spec.quantity, shown, *(f"({name})" for name in part_words))
                found.append(
                    Column(
                        key="_".join(filter(None, key)),
                        label=" ".join(filter(None, label)),
                        unit=unit,
                        source=spec.source,
                        metric=spec.metric,
                        part=spec.set,
                        target=target,
                        test_part=part,
                        quantity=spec.quantity,
                    )
                )
        return found

    def missing(self, table: str, column: Column) -> str | None:
        """Why a column has no data in this edition, or None."""
        reason = self.config.tables[table].missing
        if reason is None and column.part:
            reason = self.config.sets[column.part].missing
            dataset = self.data.dataset_of(column.part)
            if reason is None and column.target not in self.data.targets(dataset):
                reason = f"{self.data.card(dataset).title.split(',')[0]} has no {column.target}"
            elif reason is None and column.source == "nve" and not self.data.has_forces(dataset):
                reason = f"{self.data.card(dataset).title.split(',')[0]} has no forces"
            elif reason is None:
                reason = self.data.missing(dataset, column.target, column.test_part)
        return reason

    # ---- cells -------------------------------------------------------------------------------

    def filled(self) -> list[str]:
        """All cells that have data, as ``<table>/<row>/<column>``."""
        specs = [(table, self.spec(table)) for table in self.names()]
        return [
            f"{table}/{cell.row}/{cell.column}"
            for table, spec in specs
            for cell in spec.cells
            if cell.reason is None
        ]

    def again(self) -> list[str]:
        """Cells that are trained again: the one that is named, or those that are drawn."""
        config = self.config
        if config.cell:
            return [config.cell]
        if config.depth != "rerun":
            return []
        return draw(self.filled(), config.sample or 1, config.sample_seed or 0)

    def cell(self, table: str, row: Row, column: Column) -> CellSpec:
        """What one cell is made of."""
        reason = self.missing(table, column)
        by_forces = {"force", "energy_per_atom"} & {row.quantity, column.quantity}
        if reason is None and column.test_part and by_forces:
            dataset = self.data.dataset_of(column.part)
            reason = self.data.no_forces(dataset, column.target, column.test_part)
        reason = reason or self.methods.missing(row.method)
        if reason is None and column.ratio_to is not None:
            reason = self.methods.missing(column.ratio_to)
        if reason is None and column.source == "pretrain":
            reason = self._no_pretraining(row.method)
        if reason is not None:
            return CellSpec(row=row.key, column=column.key, reason=reason)
        if column.source == "finetune":
            return self._finetune_cell(table, row, column)
        seeds = self.seeds(table)
        if column.source == "nve":
            place = {"part": column.part, "target": column.target, "method": row.method}
            folders = {k: self.runs.folder(paths.NVE, **place, seed=k) for k in seeds}
            return CellSpec(
                row=row.key,
                column=column.key,
                files={k: f"{folder}/metrics.json" for k, folder in folders.items()},
                key=(column.metric,),
                unit=column.unit,
            )
        if column.source == "pretrain":
            return CellSpec(
                row=row.key,
                column=column.key,
                files={k: f"{self.runs.pretrain_folder(row.method, k)}/run.json" for k in seeds},
                key=("final", column.metric),
                unit=column.unit,
            )
        other = column.ratio_to
        return CellSpec(
            row=row.key,
            column=column.key,
            files={k: self.smoothness_file(row.method, k) for k in seeds},
            key=("estimates", f"{column.map}/{column.displacement}", column.metric),
            unit=column.unit,
            divide_by={k: self.smoothness_file(other, k) for k in seeds} if other else {},
        )

    def _no_pretraining(self, method: str) -> str | None:
        """Why a method has no losses of pre-training, or None."""
        if self.methods.is_pretrained(method):
            return None
        if self.methods.encoder_file(method) is not None:
            return "not pre-trained here, the encoder comes from a file"
        return "not pre-trained"

    def seeds(self, table: str) -> tuple[int, ...]:
        """Seeds of a table's runs."""
        return self.config.tables[table].seeds or self.config.finetune.seeds

    def smoothness_file(self, method: str, seed: int) -> str:
        """Estimates of a method's encoder."""
        return self.runs.folder(paths.SMOOTHNESS, method=method, seed=seed) + "/metrics.json"

    def _finetune_cell(self, table: str, row: Row, column: Column) -> CellSpec:
        dataset, target = self.data.dataset_of(column.part), column.target
        files = {
            seed: self.runs.finetune_folder(column.part, target, row.method, seed) + "/metrics.json"
            for seed in self.seeds(table)
        }
        quantity = row.quantity or column.quantity or "property"
        kind = "force" if quantity == "force" else "property"
        unit = _unit(self.data.card(dataset).target(target), quantity, shown=False)
        if column.metric == VALIDATION:
            runs = {seed: file.replace("metrics.json", "run.json") for seed, file in files.items()}
            key = ("final", "val_force_mae" if kind == "force" else "val_mae")
            return CellSpec(row=row.key, column=column.key, files=runs, key=key, unit=unit)
        metric = column.metric or "mae"
        metric += PER_ATOM if quantity == "energy_per_atom" else ""
        name = metric if row.kind == "method" else f"{row.kind}_{metric}"
        return CellSpec(
            row=row.key,
            column=column.key,
            files=files,
            key=(*(("parts", column.test_part) if column.test_part else ()), kind, name),
            unit=unit,
        )

    def spec(self, table: str) -> TableSpec:
        """A whole table, ready to be filled: title, caption, rows, columns, cells."""
        entry = self.config.tables[table]
        rows, columns = self.rows(table), self.columns(table)
        shown = self._shown_parts(table)
        methods = [self.methods.entry(name) for name in dict.fromkeys(row.method for row in rows)]
        words = conditions(self.config, self.data, columns, shown, self.seeds(table), methods)
        return TableSpec(
            table=table,
            edition=self.config.edition,
            title=self.title(table),
            caption=f"{entry.caption} {words}",
            rows=tuple(rows),
            columns=tuple(columns),
            cells=tuple(self.cell(table, row, column) for row in rows for column in columns),
            compare=entry.rows.compare,
        )

    def title(self, table: str) -> str:
        """Title of a table, with that of its first column's dataset."""
        entry = self.config.tables[table]
        sets = [column.set for column in entry.columns if column.set]
        title = self.data.card(self.data.dataset_of(sets[0])).title if sets else ""
        return entry.title.replace("{title}", title.split(",")[0])

    def _shown_parts(self, table: str) -> list[str]:
        """Parts whose fine-tuned errors a table shows."""
        return sorted(
            {
                column.part
                for column in self.columns(table)
                if column.source == "finetune" and not self.missing(table, column)
            }
        )

    def files(self, table: str) -> list[str]:
        """All files that the cells of a table are read from."""
        files: list[str] = []
        for row, column in itertools.product(self.rows(table), self.columns(table)):
            cell = self.cell(table, row, column)
            files += cell.all_files()
            tested = column.source == "finetune" and column.metric != VALIDATION
            if tested and self.config.tables[table].rows.compare:
                files += [predictions(file) for file in cell.files.values()]
        return list(dict.fromkeys(files))

    def run_records(self) -> list[str]:
        """Records of all runs that the edition's tables are made of, each once."""
        files = [file for table in self.names() for file in self.files(table)]
        return list(dict.fromkeys(f"{file.rsplit('/', 1)[0]}/run.json" for file in files))

    def leaks(self, table: str) -> list[str]:
        """Leak reports of the test sets behind a table, whose counts its caption gives."""
        found = []
        for column in self.columns(table):
            if column.source == "finetune" and not self.missing(table, column):
                found.append(self.runs.leak(column.part, column.target))
        return list(dict.fromkeys(found))

    def trajectories(self, table: str) -> list[str]:
        """Descriptions of computed trajectories behind a table: how many frames are independent."""
        found = []
        for column in self.columns(table):
            if column.source == "finetune" and not self.missing(table, column):
                dataset = self.data.dataset_of(column.part)
                found += self.data.trajectories(dataset, column.target)
        return list(dict.fromkeys(found))

    def named_cell(self, name: str) -> tuple[CellSpec, str]:
        """The cell ``<table>/<row>/<column>`` and the unit it is shown in.

        Raises:
            ConfigError: there is no such cell, or this edition has no data for it.
        """
        table, row, column = name.split("/")
        if table not in self.config.tables:
            allowed = ", ".join(self.config.tables)
            raise ConfigError(f"cell {name}: no table {table!r}; allowed: {allowed}")
        spec = self.spec(table)
        known = {"row": [r.key for r in spec.rows], "column": [c.key for c in spec.columns]}
        for kind, key in (("row", row), ("column", column)):
            if key not in known[kind]:
                allowed = ", ".join(known[kind])
                raise ConfigError(f"cell {name}: no {kind} {key!r}; allowed: {allowed}")
        (found,) = (cell for cell in spec.cells if (cell.row, cell.column) == (row, column))
        if found.reason is not None:
            raise ConfigError(f"cell {name} is empty: {found.reason}")
        return found, spec.unit(found)
