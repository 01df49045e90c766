"""What each figure is drawn from: files, labels, units, as a specification from the configuration.

A notebook that is not in ``SPECIFICATIONS`` gets the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from georecon import paths
from georecon.data.cards import Target
from georecon.experiments.experiments import Experiments
from georecon.experiments.specs import Column
from georecon.files import sha256_file
from georecon.reporting.figures.specs import (
    AblationPanel,
    AblationsSpec,
    AblationTable,
    ErrorsPanel,
    ErrorsSpec,
    ErrorsTable,
    FigureSpec,
    FinetuningSpec,
    Group,
    MetricsFile,
    PretrainingRun,
    PretrainingSpec,
    SmoothnessPanel,
    SmoothnessSpec,
    SmoothnessTable,
    TableFile,
    TablesSpec,
    TargetPanel,
)


def figure_names(notebooks: Path) -> list[str]:
    """Names of the figures: one notebook each."""
    return sorted(path.stem for path in notebooks.glob("*.ipynb"))


def notebook_digest(notebooks: Path, figure: str) -> str:
    """What a figure's job depends on besides code and data: its notebook's content."""
    return sha256_file(notebooks / f"{figure}.ipynb")[:16]


def figure_spec(experiments: Experiments, figure: str) -> FigureSpec:
    """Everything a figure shows: methods with their labels, files, panels with their units."""
    return SPECIFICATIONS.get(figure, _tables)(experiments)


def figure_files(spec: FigureSpec) -> list[str]:
    """All files that a figure with this specification reads, each once."""
    return list(dict.fromkeys(spec.files()))


def configured(figure: str, edition: str) -> tuple[FigureSpec, Path]:
    """Specification as the checkout's configuration has it, and the folder its paths start from.

    For a notebook opened by hand, where no workflow gives it parameters.
    """
    root = Path(__file__).resolve().parents[4]
    return figure_spec(Experiments.load(root / "config", {"edition": edition}), figure), root


def _labels(experiments: Experiments) -> dict[str, str]:
    """Label of each method."""
    return {name: experiments.methods.entry(name).label for name in experiments.methods.names()}


def _table_file(experiments: Experiments, table: str) -> str:
    return experiments.runs.folder(paths.TABLE, table=table) + ".json"


def _tables(experiments: Experiments) -> TablesSpec:
    tables = tuple(
        TableFile(name=name, file=_table_file(experiments, name))
        for name in experiments.tables.names()
    )
    return TablesSpec(methods=_labels(experiments), tables=tables)


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


def _pretraining(experiments: Experiments) -> PretrainingSpec:
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
    seed = experiments.config.finetune.seeds[0]
    runs = {
        name: PretrainingRun(
            label=label, file=f"{experiments.runs.pretrain_folder(name, seed)}/metrics.csv"
        )
        for name, label in labels.items()
    }
    return PretrainingSpec(methods=_labels(experiments), runs=runs)


def _groups(experiments: Experiments, file: str) -> tuple[Group, ...]:
    """One group of panels for each table of methods: a panel for each of its targets."""
    groups = []
    for table, columns in _method_tables(experiments).items():
        dataset = experiments.data.dataset_of(columns[0].part)
        card = experiments.data.card(dataset)
        forces = card.forces
        folder = paths.FINETUNE.replace("{edition}", experiments.edition)
        rows = [row.method for row in experiments.tables.rows(table) if row.kind == "method"]
        targets = dict.fromkeys(column.target for column in columns)
        groups.append(
            Group(
                set=columns[0].part,
                title=card.title.split(",")[0],
                pattern=folder.replace("{part}", columns[0].part) + f"/{file}",
                methods=tuple(dict.fromkeys(rows)),
                seeds=experiments.config.finetune.seeds,
                column="val_force_mae" if forces else "val_mae",
                quantity="force" if forces else "property",
                panels=tuple(_panel(name, card.target(name), forces=forces) for name in targets),
            )
        )
    return tuple(groups)


def _panel(name: str, target: Target, *, forces: bool) -> TargetPanel:
    return TargetPanel(
        target=name,
        title=target.title or name,
        unit=target.force_unit if forces else target.unit,
        table_unit=target.table_force_unit if forces else target.table_unit,
    )


def _finetuning(experiments: Experiments) -> FinetuningSpec:
    groups = _groups(experiments, "curve.csv")
    return FinetuningSpec(methods=_labels(experiments), groups=groups)


def _predictions(experiments: Experiments) -> FinetuningSpec:
    groups = _groups(experiments, "predictions.parquet")
    properties = tuple(group for group in groups if group.quantity == "property")
    return FinetuningSpec(methods=_labels(experiments), groups=properties)


def _errors(experiments: Experiments) -> ErrorsSpec:
    found = []
    for table in _method_tables(experiments):
        panels: dict[str, dict[str, str]] = {}
        for row in experiments.tables.rows(table):
            if row.kind == "method":
                panels.setdefault(row.quantity or "", {})[row.method] = row.key
        found.append(
            ErrorsTable(
                name=table,
                file=_table_file(experiments, table),
                panels=tuple(
                    ErrorsPanel(quantity=name, rows=rows) for name, rows in panels.items()
                ),
            )
        )
    return ErrorsSpec(methods=_labels(experiments), tables=tuple(found))


def _smoothness(experiments: Experiments) -> SmoothnessSpec:
    tables = tuple(
        _smoothness_table(experiments, name)
        for name in experiments.tables.names()
        if experiments.tables.compares_methods(name)
        and any(c.source == "smoothness" for c in experiments.tables.columns(name))
    )[:1]
    methods = [method for table in tables for method in table.rows.values()]
    seed = experiments.config.finetune.seeds[0]
    runs = {
        method: MetricsFile(file=experiments.tables.smoothness_file(method, seed))
        for method in methods
    }
    return SmoothnessSpec(methods=_labels(experiments), tables=tables, runs=runs)


def _smoothness_table(experiments: Experiments, table: str) -> SmoothnessTable:
    columns = experiments.tables.columns(table)
    estimates: dict[str, list[Column]] = {}  # by title: one panel over all displacements
    for column in columns:
        if column.metric != "unconverged":
            estimates.setdefault(column.title, []).append(column)
    return SmoothnessTable(
        name=table,
        file=_table_file(experiments, table),
        rows={row.key: row.method for row in experiments.tables.rows(table)},
        maps=tuple(dict.fromkeys(column.map for column in columns)),
        panels=tuple(
            SmoothnessPanel(
                title=title,
                unit=same[0].unit,
                columns={column.key: column.displacement for column in same},
            )
            for title, same in estimates.items()
        ),
    )


def _ablations(experiments: Experiments) -> AblationsSpec:
    found = []
    for table, entry in experiments.config.tables.items():
        sweep = entry.rows.sweep
        if sweep is None:
            continue
        own = experiments.config.methods[sweep.method].params[sweep.parameter]
        assert isinstance(own, int | float)  # the swept values, which are numbers, take its place
        rows = experiments.tables.rows(table)
        found.append(
            AblationTable(
                name=table,
                file=_table_file(experiments, table),
                method=sweep.method,
                parameter=sweep.parameter,
                own=own,
                rows={row.key: value for row, value in zip(rows, sweep.values, strict=True)},
                panels=_ablation_panels(experiments.tables.columns(table)),
            )
        )
    return AblationsSpec(methods=_labels(experiments), tables=tuple(found))


def _ablation_panels(columns: Sequence[Column]) -> tuple[AblationPanel, ...]:
    """All losses in one panel, then a panel for each other column."""
    losses = {
        c.key: c.label.removeprefix("loss, ") for c in columns if c.label.startswith("loss, ")
    }
    loss = AblationPanel(title="held-out reconstruction loss", measure="", columns=losses)
    others = [
        AblationPanel(
            title=column.label,
            measure="MAE" if column.source == "finetune" else "",
            columns={column.key: ""},
        )
        for column in columns
        if column.key not in losses
    ]
    return (loss, *others) if losses else tuple(others)


SPECIFICATIONS: dict[str, Callable[[Experiments], FigureSpec]] = {
    "pretraining_curves": _pretraining,
    "finetuning_curves": _finetuning,
    "predictions": _predictions,
    "errors_by_method": _errors,
    "smoothness": _smoothness,
    "ablations": _ablations,
}
