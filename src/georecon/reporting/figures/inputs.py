"""What each figure is drawn from: files, labels, units, as a specification from the configuration.

A specification holds paths relative to the working folder, so that an executed notebook names no
machine. A notebook that is not in ``SPECIFICATIONS`` gets the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from georecon import paths
from georecon.data.cards import Target
from georecon.experiments.experiments import Experiments
from georecon.experiments.specs import Column
from georecon.files import sha256_file

Spec = dict[str, Any]


def figure_names(notebooks: Path) -> list[str]:
    """Names of the figures: one notebook each."""
    return sorted(path.stem for path in notebooks.glob("*.ipynb"))


def notebook_digest(notebooks: Path, figure: str) -> str:
    """What a figure's job depends on besides code and data: its notebook's content."""
    return sha256_file(notebooks / f"{figure}.ipynb")[:16]


def figure_spec(experiments: Experiments, figure: str) -> Spec:
    """Everything a figure shows: methods with their labels, files, panels with their units."""
    methods = {name: experiments.methods.entry(name).label for name in experiments.methods.names()}
    return {"methods": methods, **SPECIFICATIONS.get(figure, _tables)(experiments)}


def figure_files(spec: Spec) -> list[str]:
    """All files that a figure with this specification reads."""
    found = [run["file"] for run in spec.get("runs", {}).values()]
    found += [table["file"] for table in spec.get("tables", [])]
    found += [
        file
        for group in spec.get("groups", [])
        for panel in group["panels"]
        for files in group_files(group, panel["target"]).values()
        for file in files.values()
    ]
    return list(dict.fromkeys(found))


def group_files(group: Spec, target: str) -> dict[str, dict[int, str]]:
    """Files of one target by method and seed."""
    return {
        method: {
            seed: group["pattern"].format(target=target, method=method, seed=seed)
            for seed in group["seeds"]
        }
        for method in group["methods"]
    }


def configured(figure: str, edition: str) -> tuple[Spec, Path]:
    """Specification as the checkout's configuration has it, and the folder its paths start from.

    For a notebook opened by hand, where no workflow gives it parameters.
    """
    root = Path(__file__).resolve().parents[4]
    return figure_spec(Experiments.load(root / "config", {"edition": edition}), figure), root


def _table_file(experiments: Experiments, table: str) -> str:
    return experiments.runs.folder(paths.TABLE, table=table) + ".json"


def _tables(experiments: Experiments) -> Spec:
    return {
        "tables": [
            {"name": name, "file": _table_file(experiments, name)}
            for name in experiments.tables.names()
        ]
    }


def _method_tables(experiments: Experiments) -> dict[str, list[Column]]:
    """Tables with one row a method, with their fine-tuning columns that have data here."""
    found = {}
    for table in experiments.tables.names():
        columns = [
            column
            for column in experiments.tables.columns(table)
            if column.source == "finetune" and not experiments.tables.missing(table, column)
        ]
        if experiments.tables.compares_methods(table) and columns:
            found[table] = columns
    return found


def _pretraining(experiments: Experiments) -> Spec:
    names = [
        name for name in experiments.methods.names() if experiments.methods.is_pretrained(name)
    ]
    labels = {name: experiments.methods.entry(name).label for name in names}
    for table, entry in experiments.config.tables.items():
        if entry.rows.sweep is not None:
            rows = experiments.tables.rows(table)
            base = experiments.methods.entry(entry.rows.sweep.method).label
            labels |= {
                row.method: f"{base}, {row.label}" for row in rows if row.method not in labels
            }
    return {
        "runs": {
            name: {"label": label, "file": f"{experiments.runs.pretrain_folder(name)}/metrics.csv"}
            for name, label in labels.items()
        }
    }


def _groups(experiments: Experiments, file: str) -> list[Spec]:
    """One group of panels for each table of methods: a panel for each of its targets."""
    groups = []
    for table, columns in _method_tables(experiments).items():
        dataset = experiments.data.dataset_of(columns[0].part)
        card = experiments.data.card(dataset)
        forces = card.forces
        rows = [row.method for row in experiments.tables.rows(table) if not row.baseline]
        groups.append(
            {
                "set": columns[0].part,
                "title": card.title.split(",")[0],
                "pattern": paths.FINETUNE.replace("{edition}", experiments.edition).replace(
                    "{dataset}", dataset
                )
                + f"/{file}",
                "methods": list(dict.fromkeys(rows)),
                "seeds": list(experiments.config.finetune.seeds),
                "column": "val_force_mae" if forces else "val_mae",
                "quantity": "force" if forces else "property",
                "panels": [
                    _panel(name, card.target(name), forces=forces)
                    for name in dict.fromkeys(column.target for column in columns)
                ],
            }
        )
    return groups


def _panel(name: str, target: Target, *, forces: bool) -> Spec:
    return {
        "target": name,
        "title": target.title or name,
        "unit": target.force_unit if forces else target.unit,
        "table_unit": target.table_force_unit if forces else target.table_unit,
    }


def _finetuning(experiments: Experiments) -> Spec:
    return {"groups": _groups(experiments, "curve.csv")}


def _predictions(experiments: Experiments) -> Spec:
    groups = _groups(experiments, "predictions.parquet")
    return {"groups": [group for group in groups if group["quantity"] == "property"]}


def _errors(experiments: Experiments) -> Spec:
    found = []
    for table in _method_tables(experiments):
        panels: dict[str, dict[str, str]] = {}
        for row in experiments.tables.rows(table):
            if not row.baseline:
                panels.setdefault(row.quantity or "", {})[row.method] = row.key
        found.append(
            {
                "name": table,
                "file": _table_file(experiments, table),
                "panels": [{"quantity": name, "rows": rows} for name, rows in panels.items()],
            }
        )
    return {"tables": found}


def _smoothness(experiments: Experiments) -> Spec:
    names = [
        name
        for name in experiments.tables.names()
        if experiments.tables.compares_methods(name)
        and any(c.source == "smoothness" for c in experiments.tables.columns(name))
    ][:1]
    tables: list[Spec] = []
    for name in names:
        panels: dict[str, Spec] = {}
        estimates = [c for c in experiments.tables.columns(name) if c.metric != "unconverged"]
        for column in estimates:
            panel = {"title": column.title, "unit": column.unit, "columns": {}}
            columns = panels.setdefault(column.title, panel)["columns"]
            columns[column.key] = column.displacement
        tables.append(
            {
                "name": name,
                "file": _table_file(experiments, name),
                "rows": {row.key: row.method for row in experiments.tables.rows(name)},
                "maps": list(dict.fromkeys(c.map for c in experiments.tables.columns(name))),
                "panels": list(panels.values()),
            }
        )
    methods = [method for table in tables for method in table["rows"].values()]
    return {
        "tables": tables,
        "runs": {
            method: {"file": experiments.tables.smoothness_file(method)} for method in methods
        },
    }


def _ablations(experiments: Experiments) -> Spec:
    found = []
    for table, entry in experiments.config.tables.items():
        sweep = entry.rows.sweep
        if sweep is None:
            continue
        columns = experiments.tables.columns(table)
        losses = {
            c.key: c.label.removeprefix("loss, ") for c in columns if c.label.startswith("loss, ")
        }
        loss = {"title": "held-out reconstruction loss", "measure": "", "columns": losses}
        panels = [loss] if losses else []
        panels += [
            {
                "title": column.label,
                "measure": "MAE" if column.source == "finetune" else "",
                "columns": {column.key: ""},
            }
            for column in columns
            if column.key not in losses
        ]
        found.append(
            {
                "name": table,
                "file": _table_file(experiments, table),
                "method": sweep.method,
                "parameter": sweep.parameter,
                "own": experiments.config.methods[sweep.method].params[sweep.parameter],
                "rows": {
                    row.key: value
                    for row, value in zip(experiments.tables.rows(table), sweep.values, strict=True)
                },
                "panels": panels,
            }
        )
    return {"tables": found}


SPECIFICATIONS: dict[str, Callable[[Experiments], Spec]] = {
    "pretraining_curves": _pretraining,
    "finetuning_curves": _finetuning,
    "predictions": _predictions,
    "errors_by_method": _errors,
    "smoothness": _smoothness,
    "ablations": _ablations,
}
