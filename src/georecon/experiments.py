"""Which runs an edition has, with which settings, and which runs each table cell is made of.

Everything here is a function of the resolved configuration; the Snakefile, the tables and the plan
all ask here, so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from georecon import paths
from georecon.data.elements import ATOMIC_NUMBER
from georecon.data.preprocess import card_source, source_files
from georecon.errors import ConfigError
from georecon.provenance import code_digest

SCRATCH = "scratch"


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


class Experiments:
    """Runs and table cells of one resolved configuration."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.edition: str = config["edition"]

    # ---- methods -----------------------------------------------------------------------------

    def methods(self) -> list[str]:
        """Methods that get a row in tables of all methods, in the order of methods.yaml."""
        return list(self.config["methods"])

    def variants(self) -> dict[str, dict[str, Any]]:
        """Ablation variants by name, ``<method>__<sweep><value>``, and what they change."""
        found: dict[str, dict[str, Any]] = {}
        for table in self.config["tables"].values():
            sweep = table["rows"].get("sweep")
            for value in sweep["values"] if sweep else []:
                name = self._variant(sweep, value)
                if name != sweep["method"]:
                    found[name] = {"method": sweep["method"], sweep["parameter"]: value}
        return found

    def _variant(self, sweep: dict[str, Any], value: Any) -> str:
        """Name of a sweep's run; the method itself where the value is the method's own."""
        method: str = sweep["method"]
        own = self.config["methods"][method]["params"][sweep["parameter"]]
        return method if value == own else f"{method}__{sweep['name']}{value}"

    def method(self, name: str) -> dict[str, Any]:
        """Entry of a method or variant: label and, unless from scratch, objective and params."""
        variant = dict(self.variants().get(name, {"method": name}))
        base = variant.pop("method")
        if base not in self.config["methods"]:
            known = [*self.config["methods"], *self.variants()]
            raise ConfigError(f"method is {name!r}; allowed: {', '.join(known)}")
        entry: dict[str, Any] = self.config["methods"][base]
        return entry | {"params": {**entry.get("params", {}), **variant}}

    def is_pretrained(self, method: str) -> bool:
        """Whether the method has a pre-trained encoder."""
        entry = self.method(method)
        return "objective" in entry

    # ---- datasets ----------------------------------------------------------------------------

    def dataset_of(self, set_name: str) -> str:
        """Dataset that plays a part ("property", "force", …) in this edition."""
        dataset: str = self.config["sets"][set_name]["dataset"]
        return dataset

    def card(self, dataset: str) -> dict[str, Any]:
        """Dataset card."""
        card: dict[str, Any] = self.config["datasets"][dataset]
        return card

    def set_of(self, dataset: str) -> str:
        """Part that a fine-tuning dataset plays."""
        for name, entry in self.config["sets"].items():
            if name != "pretrain" and entry["dataset"] == dataset:
                return str(name)
        raise ConfigError(f"dataset {dataset!r} plays no part in edition {self.edition!r}")

    def targets(self, dataset: str) -> list[str]:
        """Targets of a dataset: properties, or molecules of a force set."""
        return list(self.card(dataset)["targets"])

    def has_forces(self, dataset: str) -> bool:
        """Whether the dataset is a force set: one store a molecule, energies and forces."""
        return self.card(dataset)["kind"] == "forces"

    def reading_card(self, dataset: str) -> dict[str, Any]:
        """The part of a card that its store depends on: recipes and titles are not in it."""
        card = self.card(dataset)
        source, entry = card_source(card)
        names = (
            "name",
            "store_per_file",
            "expected_molecules",
            "units",
            "ranges",
            "default_source",
        )
        return {name: card[name] for name in names} | {"sources": {source: entry}}

    def raw_names(self, dataset: str, target: str | None) -> list[str]:
        """Names of the raw files that a store is made from."""
        files = source_files(self.card(dataset), target)
        return list(dict.fromkeys(file["name"] for file in files.values()))

    def card_file(self, dataset: str, name: str) -> dict[str, Any]:
        """Entry of a raw file in its dataset card."""
        _, source = card_source(self.card(dataset))
        for file in source["files"].values():
            if file["name"] == name:
                return dict(file)
        names = ", ".join(file["name"] for file in source["files"].values())
        raise ConfigError(f"dataset {dataset} has no raw file {name!r}; allowed: {names}")

    def store(self, dataset: str, target: str) -> str:
        """Folder of the store that holds a target's labels."""
        base = paths.STORE.format(dataset=dataset)
        return f"{base}/{target}" if self.has_forces(dataset) else base

    def split(self, dataset: str, target: str) -> str:
        """Split file of a target."""
        name = self.config["finetune"][self.set_of(dataset)]["split"]["name"]
        name = f"{target}_{name}" if self.has_forces(dataset) else name
        return paths.SPLIT.format(dataset=dataset, split=name)

    def pretrain_split(self) -> str:
        """Split file of the pre-training set; what it leaves out depends on the edition."""
        name = f"pretrain_{self.edition}"
        return paths.SPLIT.format(dataset=self.dataset_of("pretrain"), split=name)

    def split_sizes(self, dataset: str, target: str) -> dict[str, Any]:
        """Sizes and seed of a fine-tuning split; MD22's sizes are those of its own protocol."""
        split = dict(self.config["finetune"][self.set_of(dataset)]["split"])
        name = split.pop("name")
        fraction = split.pop("val_fraction", None)
        if fraction is not None:
            total = self.card(dataset)["targets"][target]["train_val"]
            split["val"] = round(fraction * total)
            split["train"] = total - split["val"]
        return {"name": name, "rule": "random", "test": None, "seed": 1, **split}

    def split_plan(self, dataset: str, name: str) -> dict[str, Any]:
        """How the split ``resources/splits/<dataset>/<name>.npz`` is made.

        Returns:
            ``rule`` ("pvd", "random" or "pretrain"), ``store``, sizes, and ``exclude``: splits
            whose validation and test parts pre-training must not see.
        """
        path = paths.SPLIT.format(dataset=dataset, split=name)
        if path == self.pretrain_split():
            same = [
                self.split(self.dataset_of(part), self.targets(dataset)[0])
                for part in self.finetune_sets()
                if self.dataset_of(part) == dataset
            ]
            return {
                "rule": "pretrain",
                "store": paths.STORE.format(dataset=dataset),
                "exclude": same,
                "val": self.config["pretrain"]["validation"],
                "seed": 1,
            }
        for target in self.targets(dataset):
            if path == self.split(dataset, target):
                sizes = self.split_sizes(dataset, target)
                return {"store": self.store(dataset, target), "exclude": [], **sizes}
        raise ConfigError(f"edition {self.edition!r} has no split {path}")

    def finetune_sets(self) -> list[str]:
        """Parts that have data in this edition, pre-training apart."""
        return [
            name
            for name, entry in self.config["sets"].items()
            if name != "pretrain" and "missing" not in entry
        ]

    def leak(self, dataset: str, target: str) -> str:
        """Leak report of a target's test set against this edition's pre-training set."""
        split = self.split(dataset, target).removesuffix(".npz").rsplit("/", 1)[-1]
        return self.folder(paths.LEAK, dataset=dataset, split=split)

    # ---- runs --------------------------------------------------------------------------------

    def folder(self, pattern: str, **wildcards: Any) -> str:
        """Results folder of this edition from a pattern of :mod:`georecon.paths`."""
        return pattern.format(edition=self.edition, **wildcards)

    def pretrain_folder(self, method: str) -> str:
        """Folder of a method's pre-trained encoder."""
        return self.folder(paths.PRETRAIN, method=method, seed=self.config["pretrain"]["seed"])

    def pretrain_settings(self, method: str, seed: int) -> dict[str, Any]:
        """All that a pre-training run's numbers depend on, data apart."""
        entry = self.method(method)
        return {
            "name": f"pretrain {method} seed {seed}",
            "method": method,
            "objective": entry["objective"],
            "params": entry["params"],
            "encoder": self.config["encoder"],
            "train": self.config["pretrain"]["train"],
            "seed": seed,
            "code": code_digest("pretrain", [f"objectives/{entry['objective']}.py"]),
        }

    def finetune_settings(
        self, dataset: str, target: str, method: str, seed: int
    ) -> dict[str, Any]:
        """All that a fine-tuning run's numbers depend on, data and encoder apart."""
        section = self.config["finetune"][self.set_of(dataset)]
        entry = self.card(dataset)["targets"][target]
        return {
            "name": f"finetune {dataset}/{target} {method} seed {seed}",
            "dataset": dataset,
            "target": target,
            "method": method,
            "label": entry["label"],
            "recipe": self.recipe(dataset, target),
            "encoder": self.config["encoder"],
            "train": section["train"],
            "evaluation_batch": section["evaluation_batch"],
            "seed": seed,
            "code": code_digest("finetune"),
        }

    def recipe(self, dataset: str, target: str) -> dict[str, Any]:
        """How a target is learned, from its entry in the dataset card."""
        card = self.card(dataset)
        entry = card["targets"][target]
        atomref = card["atomrefs"][entry["atomref"]] if entry.get("atomref") else {}
        recipe = {
            "head": entry.get("head", "scalar"),
            "loss": entry.get("loss", "mse"),
            "standardize": entry.get("standardize", True),
            "atomref": {ATOMIC_NUMBER[symbol]: value for symbol, value in atomref.items()},
            "noise_sigma": self.config["finetune"][self.set_of(dataset)]["noise_sigma"],
            "noise_weight": entry["denoise_weight"],
        }
        if self.has_forces(dataset):
            recipe |= {
                "energy_weight": entry["energy_weight"],
                "force_weight": entry["force_weight"],
            }
        return recipe

    def smoothness_settings(self, method: str, seed: int) -> dict[str, Any]:
        """All that a smoothness estimate depends on, data and encoder apart."""
        section = self.config["smoothness"]
        names = ("molecules", "maps", "displacements", "iterations")
        return {
            "name": f"smoothness {method} seed {seed}",
            "method": method,
            "encoder": self.config["encoder"],
            **{name: section[name] for name in names},
            "seed": seed,
            "code": code_digest("smoothness"),
        }

    # ---- tables ------------------------------------------------------------------------------

    def rows(self, table: str) -> list[Row]:
        """Rows of a table."""
        spec = self.config["tables"][table]["rows"]
        if "sweep" in spec:
            sweep = spec["sweep"]
            return [
                Row(
                    key=str(value),
                    label=sweep["label"].format(value=value),
                    method=self._variant(sweep, value),
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
            key = f"{target}_{quantity}" if quantity else target
            label = entry.get("title", target) + (f" {quantity}" if quantity else "")
            found.append(Column(key=key, label=label, unit=unit, spec={**spec, "target": target}))
        return found

    def _smoothness_columns(self, spec: dict[str, Any]) -> list[Column]:
        """One column for each displacement; the label says which where there are several."""
        sizes = self.config["smoothness"]["displacements"]
        return [
            Column(
                key=f"{spec['metric']}{'_ratio' if 'ratio_to' in spec else ''}_{size}",
                label=spec["label"] if len(sizes) == 1 else f"{spec['label']} at {size} Å",
                unit=spec.get("unit", ""),
                spec={**spec, "displacement": size},
            )
            for size in sizes
        ]

    def missing(self, table: str, column: Column) -> str | None:
        """Why a column has no data in this edition, or None."""
        reason = self.config["tables"][table].get("missing")
        if reason is None and "set" in column.spec:
            reason = self.config["sets"][column.spec["set"]].get("missing")
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
        name = "baseline_mae" if row.baseline else "mae"
        return {"files": files, "key": [kind, name], "unit": unit}

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
        if "train" in split:
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
