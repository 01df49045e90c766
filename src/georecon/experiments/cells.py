"""Which runs each cell of each table is made of, and the captions that say so.

A function of the resolved configuration, like :mod:`georecon.experiments.runs`; the Snakefile, the
tables and the figures all ask here, so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from georecon import paths
from georecon.errors import ConfigError
from georecon.experiments.runs import Runs


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of a table: a method, and the quantity it shows where columns leave that open."""

    key: str
    label: str
    method: str
    unit: str = ""
    quantity: str | None = None
    baseline: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a table: where its numbers come from."""

    key: str
    label: str
    unit: str
    spec: dict[str, Any]


def _unit(entry: dict[str, Any], quantity: str, prefix: str) -> str:
    """Unit of a target's property or energy, or of its forces; "table_" for that of tables."""
    unit: str = entry[f"{prefix}force_unit" if quantity == "force" else f"{prefix}unit"]
    return unit


class Experiments(Runs):
    """Runs and table cells of one resolved configuration."""

    def rows(self, table: str) -> list[Row]:
        """Rows of a table."""
        spec = self.config["tables"][table]["rows"]
        if "sweep" in spec:
            sweep = spec["sweep"]
            return [
                Row(
                    key=str(value),
                    label=sweep["label"].format(value=value),
                    method=self.variant(sweep, value),
                )
                for value in sweep["values"]
            ]
        named = spec.get("methods", "all")
        methods = self.methods() if named == "all" else list(named)
        rows = []
        for quantity in spec.get("quantities", [None]):
            prefix = f"{quantity}_" if quantity else ""
            unit = self._quantity_unit(table, quantity) if quantity else ""
            words = f"{quantity.capitalize()} [{unit}], " if quantity else ""
            if "baseline" in spec:
                rows.append(
                    Row(
                        key=f"{prefix}baseline",
                        label=words + spec["baseline"],
                        method=methods[0],
                        unit=unit,
                        quantity=quantity,
                        baseline=True,
                    )
                )
            rows += [
                Row(
                    key=f"{prefix}{name}",
                    label=words + self.method(name)["label"],
                    method=name,
                    unit=unit,
                    quantity=quantity,
                )
                for name in methods
            ]
        return rows

    def _quantity_unit(self, table: str, quantity: str) -> str:
        column = self.config["tables"][table]["columns"][0]
        targets = self.card(self.dataset_of(column["set"]))["targets"]
        return str(_unit(next(iter(targets.values())), quantity, "table_"))

    def columns(self, table: str) -> list[Column]:
        """Columns of a table."""
        found = []
        for spec in self.config["tables"][table].get("columns", []):
            if spec["source"] == "finetune":
                found += self._target_columns(spec, self.config["tables"][table]["rows"])
            elif spec["source"] == "smoothness":
                found += self._smoothness_columns(spec)
            else:
                found.append(
                    Column(
                        key=spec["metric"],
                        label=spec["label"],
                        unit=spec.get("unit", ""),
                        spec=spec,
                    )
                )
        return found

    def _target_columns(self, spec: dict[str, Any], rows: dict[str, Any]) -> list[Column]:
        dataset = self.dataset_of(spec["set"])
        card = self.card(dataset)
        named = self.targets(dataset) if spec["targets"] == "all" else spec["targets"]
        found = []
        for target in named:
            entry = card["targets"][target]
            quantity = spec.get("quantity")
            several = "quantities" in rows  # then the unit stands in the row's label
            unit = "" if several else _unit(entry, quantity or "energy", "table_")
            title, metric = entry.get("title", target), spec.get("metric", "")
            parts = self.parts(dataset, target)
            for part in parts or [None]:
                # A part says nothing where it is the only one, the target where it is.
                names = [target] * (len(named) > 1 or len(parts) < 2) + [part] * (len(parts) > 1)
                words = [title if name == target else str(name).replace("_", " ") for name in names]
                found.append(
                    Column(
                        key="_".join(filter(None, (*map(str, names), quantity, metric))),
                        label=" ".join(filter(None, (*words, quantity, metric.upper()))),
                        unit=unit,
                        spec={**spec, "target": target, "part": part},
                    )
                )
        return found

    def _smoothness_columns(self, spec: dict[str, Any]) -> list[Column]:
        """One column for each map (``map: all``) and displacement; labels say what varies."""
        settings = self.config["smoothness"]
        maps = settings["maps"] if spec["map"] == "all" else [spec["map"]]
        sizes = settings["displacements"]
        return [
            Column(
                key=f"{spec['metric']}{'_ratio' if 'ratio_to' in spec else ''}"
                f"{'' if name == 'mean' else '_' + name}_{size}",
                label=spec["label"]
                + ("" if len(maps) == 1 else f", {name.replace('_', ' ')}")
                + ("" if len(sizes) == 1 else f" at {size} Å"),
                unit=spec.get("unit", ""),
                spec={**spec, "map": name, "displacement": size},
            )
            for name in maps
            for size in sizes
        ]

    def missing(self, table: str, column: Column) -> str | None:
        """Why a column has no data in this edition, or None."""
        reason = self.config["tables"][table].get("missing")
        if reason is None and "set" in column.spec:
            reason = self.config["sets"][column.spec["set"]].get("missing")
            part = column.spec.get("part")
            if reason is None and part is not None:
                dataset = self.dataset_of(column.spec["set"])
                reason = self.parts(dataset, column.spec["target"])[part]
        return reason

    def cell(self, table: str, row: Row, column: Column) -> dict[str, Any]:
        """What one cell is made of.

        Returns:
            ``reason`` if it stays empty, else ``files`` (one JSON a seed), ``key`` (path of keys
            in each),
            ``unit`` of the stored value and, for ratios, ``divide_by``: the files of the
            denominator.
        """
        reason = self.missing(table, column)
        if reason is not None:
            return {"reason": reason}
        source = column.spec["source"]
        if source == "finetune":
            return self._finetune_cell(row, column)
        if not self.is_pretrained(row.method) and source == "pretrain":
            return {"reason": "not pre-trained"}
        seed = self.config["pretrain"]["seed"]
        if source == "pretrain":
            file = f"{self.pretrain_folder(row.method)}/run.json"
            return {
                "files": {seed: file},
                "key": ["final", column.spec["metric"]],
                "unit": column.unit,
            }
        file = self.folder(paths.SMOOTHNESS, method=row.method, seed=seed) + "/metrics.json"
        estimate = f"{column.spec['map']}/{column.spec['displacement']}"
        key = ["estimates", estimate, column.spec["metric"]]
        cell = {"files": {seed: file}, "key": key, "unit": column.unit}
        if "ratio_to" in column.spec:
            base = self.folder(paths.SMOOTHNESS, method=column.spec["ratio_to"], seed=seed)
            cell["divide_by"] = {seed: f"{base}/metrics.json"}
        return cell

    def _finetune_cell(self, row: Row, column: Column) -> dict[str, Any]:
        dataset = self.dataset_of(column.spec["set"])
        target = column.spec["target"]
        entry = self.card(dataset)["targets"][target]
        files = {
            seed: self.folder(
                paths.FINETUNE, dataset=dataset, target=target, method=row.method, seed=seed
            )
            + "/metrics.json"
            for seed in self.config["finetune"]["seeds"]
        }
        quantity = row.quantity or column.spec.get("quantity") or "property"
        kind = "force" if quantity == "force" else "property"
        unit = _unit(entry, quantity, "")
        metric = column.spec.get("metric", "mae")
        part = column.spec["part"]
        place = ["parts", part, kind] if part else [kind]
        name = f"baseline_{metric}" if row.baseline else metric
        return {"files": files, "key": [*place, name], "unit": unit}

    def table_spec(self, table: str) -> dict[str, Any]:
        """A whole table, ready to be filled: title, caption, rows, columns, cells."""
        entry = self.config["tables"][table]
        force = self.card(self.dataset_of("force"))["title"].split(",")[0]
        columns = self.columns(table)
        return {
            "table": table,
            "edition": self.edition,
            "title": entry["title"].format(force_title=force),
            "caption": f"{entry['caption']} {self.conditions(table)}",
            "rows": [
                {"key": row.key, "label": row.label, "method": row.method, "unit": row.unit}
                for row in self.rows(table)
            ],
            "columns": [{"key": c.key, "label": c.label, "unit": c.unit} for c in columns],
            "cells": [
                {"row": row.key, "column": column.key, **self.cell(table, row, column)}
                for row in self.rows(table)
                for column in columns
            ],
        }

    def conditions(self, table: str) -> str:
        """Edition, data, steps and seeds behind a table, in sentences for its caption."""
        parts = [f"Edition {self.edition}: encoder {self._encoder_words()}."]
        columns = self.columns(table)
        if any(
            column.spec["source"] != "finetune" or not self.missing(table, column)
            for column in columns
        ):
            train = self.config["pretrain"]["train"]
            title = self.card(self.dataset_of("pretrain"))["title"]
            parts.append(
                f"Pre-training: {title}, {train['steps']} steps of {train['batch_size']} "
                f"molecules, seed {self.config['pretrain']['seed']}."
            )
            if self.config["pretrain"]["exclude_leaks"]:
                parts.append("Structures of the test sets were removed from pre-training.")
        sets = {
            c.spec["set"]
            for c in columns
            if c.spec["source"] == "finetune" and not self.missing(table, c)
        }
        parts += [self._finetune_words(name) for name in sorted(sets)]
        if sets:
            seeds = ", ".join(map(str, self.config["finetune"]["seeds"]))
            parts.append(f"Cells: mean ± standard deviation over fine-tuning seeds {seeds}.")
        return " ".join(parts)

    def _encoder_words(self) -> str:
        e = self.config["encoder"]
        return f"{e['channels']} channels, {e['layers']} layers, {e['heads']} heads, {e['rbf']} RBF"

    def _finetune_words(self, set_name: str) -> str:
        section = self.config["finetune"][set_name]
        split, train = section["split"], section["train"]
        title = self.card(self.dataset_of(set_name))["title"]
        sizes = "the dataset's own training sizes, all other frames test"
        if split.get("rule") == "files":
            sizes = f"{split['train']} training, {split['val']} validation, other files test"
        elif "train" in split:
            test = "all other" if split.get("test") is None else split["test"]
            sizes = f"{split['train']} training, {split['val']} validation, {test} test"
        return f"Fine-tuning on {title}: {sizes}; {train['steps']} steps of {train['batch_size']}."

    def table_files(self, table: str) -> list[str]:
        """All files that the cells of a table are read from."""
        cells = (
            self.cell(table, row, column)
            for row in self.rows(table)
            for column in self.columns(table)
        )
        found = [
            file
            for cell in cells
            for group in ("files", "divide_by")
            for file in cell.get(group, {}).values()
        ]
        return list(dict.fromkeys(found))

    def table_leaks(self, table: str) -> list[str]:
        """Leak reports of the test sets behind a table, whose counts its caption gives."""
        found = []
        for column in self.columns(table):
            if column.spec["source"] == "finetune" and not self.missing(table, column):
                dataset = self.dataset_of(column.spec["set"])
                found.append(self.leak(dataset, column.spec["target"]))
        return list(dict.fromkeys(found))


def cell_spec(experiments: Experiments, cell: str) -> tuple[dict[str, Any], str]:
    """What a cell is made of (``Experiments.cell`` with its place), and its unit.

    Raises:
        ConfigError: there is no such cell, or this edition has no data for it.
    """
    table, row, column = cell.split("/")
    if table not in experiments.config["tables"]:
        allowed = ", ".join(experiments.config["tables"])
        raise ConfigError(f"cell {cell}: no table {table!r}; allowed: {allowed}")
    spec = experiments.table_spec(table)
    for kind, key in (("row", row), ("column", column)):
        keys = [entry["key"] for entry in spec[f"{kind}s"]]
        if key not in keys:
            raise ConfigError(f"cell {cell}: no {kind} {key!r}; allowed: {', '.join(keys)}")
    (found,) = (c for c in spec["cells"] if (c["row"], c["column"]) == (row, column))
    if "reason" in found:
        raise ConfigError(f"cell {cell} is empty: {found['reason']}")
    units = {entry["key"]: entry["unit"] for entry in [*spec["rows"], *spec["columns"]]}
    return found, units[column] or units[row]


def cell_files(experiments: Experiments, cell: str) -> list[str]:
    """Files that a cell is read from."""
    spec, _ = cell_spec(experiments, cell)
    return [*spec["files"].values(), *spec.get("divide_by", {}).values()]
