"""What each figure is drawn from, as a specification that follows from the configuration.

A notebook that is not in ``SPECIFICATIONS`` gets the tables. A figure whose specification has no
file in an edition is not made there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from georecon import paths
from georecon.experiments.experiments import Experiments
from georecon.experiments.specs import Column, Row
from georecon.files import sha256_file
from georecon.reporting.figures.specs import FigureSpec, Mark, RunFile, ScanFrames, TableFile

PARAMETERS = {"sigma_rec": "reconstruction noise [Å]", "depth": "decoder depth [layers]"}
"""Words for the swept parameters; others are called as in the configuration."""
_KELVIN = re.compile(r"(\d+)K")


def notebook_names(notebooks: Path) -> list[str]:
    """Names of all notebooks."""
    return sorted(path.stem for path in notebooks.glob("*.ipynb"))


def figure_names(experiments: Experiments, notebooks: Path) -> list[str]:
    """Names of the figures that an edition has data for: one notebook each."""
    return [n for n in notebook_names(notebooks) if figure_spec(experiments, n).files()]


def notebook_digest(notebooks: Path, figure: str) -> str:
    """What a figure's job depends on besides code and data: its notebook's content."""
    return sha256_file(notebooks / f"{figure}.ipynb")[:16]


def figure_spec(experiments: Experiments, figure: str) -> FigureSpec:
    """Everything a figure shows: methods with their labels, files, panels with their units."""
    methods = experiments.methods
    labels = {n: methods.entry(n).label for n in methods.names() if not methods.missing(n)}
    found = SPECIFICATIONS.get(figure, _all_tables)(experiments, FigureSpec(methods=labels))
    titles = [table.title for table in found.tables]
    tables = (  # two tables are never taken for one
        replace(t, title=f"{t.title} ({t.name})") if titles.count(t.title) > 1 else t
        for t in found.tables
    )
    return replace(found, tables=tuple(tables))


def configured(figure: str, edition: str) -> tuple[FigureSpec, Path]:
    """Specification as the checkout's configuration has it, and the folder its paths start from.

    For a notebook opened by hand, where no workflow gives it parameters.
    """
    root = Path(__file__).resolve().parents[4]
    return figure_spec(Experiments.load(root / "config", {"edition": edition}), figure), root


# ---- runs ----------------------------------------------------------------------------------------


def _pretraining(e: Experiments, spec: FigureSpec) -> FigureSpec:
    """Losses of the first seed: methods, then the variants of sweeps."""
    labels = {name: label for name, label in spec.methods.items() if e.methods.is_pretrained(name)}
    for table, entry in e.config.tables.items():
        if entry.rows.sweep is not None:
            base = e.methods.entry(entry.rows.sweep.method).label
            rows = (row for row in e.tables.rows(table) if row.method not in labels)
            labels |= {row.method: f"{base}, {row.label}" for row in rows}
    seed = e.config.finetune.seeds[0]
    runs = (
        RunFile(
            path=f"{e.runs.pretrain_folder(name, seed)}/metrics.csv",
            method=name,
            seed=seed,
            label=label,
        )
        for name, label in labels.items()
    )
    return replace(spec, runs=tuple(runs))


def _method_tables(e: Experiments) -> dict[str, list[Column]]:
    """Tables with one row a method, with their fine-tuning columns that have data here."""
    found = {}
    for table in e.tables.names():
        columns = [
            column
            for column in e.tables.columns(table)
            if column.source == "finetune" and not e.tables.missing(table, column)
        ]
        if e.tables.compares_methods(table) and columns:
            found[table] = columns
    return found


def _finetuned(e: Experiments, spec: FigureSpec, file: str) -> Iterator[RunFile]:
    """A file of each fine-tuning run behind the tables of methods: a panel for each target."""
    tables = _method_tables(e)
    parts = {column.part for columns in tables.values() for column in columns}
    seen: set[tuple[str, str]] = set()
    for table, columns in tables.items():
        shown = {row.method for row in e.tables.rows(table) if row.kind == "method"}
        for part, name in dict.fromkeys((column.part, column.target) for column in columns):
            if (part, name) in seen:  # two tables of the same runs
                continue
            seen.add((part, name))
            dataset = e.data.dataset_of(part)
            card = e.data.card(dataset)
            target = card.target(name)
            title = target.title or name
            if sum(e.data.dataset_of(other) == dataset for other in parts) > 1:
                title += f", {e.config.sets[part].words(part)}"
            for method in filter(shown.__contains__, spec.methods):
                for seed in e.tables.seeds(table):
                    folder = e.runs.finetune_folder(part, name, method, seed)
                    yield RunFile(
                        path=f"{folder}/{file}",
                        method=method,
                        seed=seed,
                        label=spec.methods[method],
                        panel=f"{card.title.split(',')[0]} {title}" if card.forces else title,
                        column="val_force_mae" if card.forces else "val_mae",
                        unit=target.force_unit if card.forces else target.unit,
                        shown_unit=target.table_force_unit if card.forces else target.table_unit,
                    )


def _curves(e: Experiments, spec: FigureSpec) -> FigureSpec:
    return replace(spec, runs=tuple(_finetuned(e, spec, "curve.csv")))


def _predictions(e: Experiments, spec: FigureSpec) -> FigureSpec:
    runs = _finetuned(e, spec, "predictions.parquet")
    return replace(spec, runs=tuple(run for run in runs if run.column == "val_mae"))


def _norms(e: Experiments, spec: FigureSpec) -> FigureSpec:
    """Estimates of single molecules, of all methods and seeds of the first table of smoothness."""
    tables = [name for name in e.tables.names() if _shows(e, name, "smoothness")]
    seeds = e.tables.seeds(tables[0]) if tables else ()
    runs = (
        RunFile(path=e.tables.smoothness_file(name, k), method=name, seed=k, label=label)
        for name, label in spec.methods.items()
        for k in seeds
    )
    return replace(spec, runs=tuple(runs))


def _dynamics(e: Experiments, spec: FigureSpec) -> FigureSpec:
    """Total energy over time, of the dynamics behind the first table of all methods with them."""
    tables = [name for name in e.tables.names() if _shows(e, name, "nve")]
    section = e.config.nve
    if not tables or section is None:
        return spec
    column = next(c for c in e.tables.columns(tables[0]) if c.source == "nve")
    if e.tables.missing(tables[0], column):
        return spec
    card = e.data.card(e.data.dataset_of(column.part))
    title = card.target(column.target).title or column.target
    place = {"part": column.part, "target": column.target}
    runs = (
        RunFile(
            path=f"{e.runs.folder(paths.NVE, **place, method=method, seed=seed)}/curve.csv",
            method=method,
            seed=seed,
            label=label,
            panel=f"{card.title.split(',')[0]} {title} from {section.temperature_K:g} K",
            until_fs=section.steps * section.timestep_fs,
        )
        for method, label in spec.methods.items()
        for seed in e.tables.seeds(tables[0])
    )
    return replace(spec, runs=tuple(runs))


def _scans(e: Experiments, spec: FigureSpec) -> FigureSpec:
    """Predictions along the dihedral scans of force sets that tables of all methods show."""
    runs, scans = [], {}
    for table, columns in _method_tables(e).items():
        for column in columns:
            dataset = e.data.dataset_of(column.part)
            card, entry = e.data.card(dataset), e.data.card(dataset).target(column.target)
            panel = card.title.split(",")[0]
            panel += f" {column.target}" if len(e.data.targets(dataset)) > 1 else ""
            if entry.scan is None or entry.scan.part != column.test_part or panel in scans:
                continue
            seeds = e.tables.seeds(table)
            scans[panel] = ScanFrames(
                panel=panel,
                theory=card.theory,
                store=f"{e.data.store(dataset, column.target)}/manifest.json",
                split=e.data.split(column.part, column.target, seeds[0]),
                part=entry.scan.part,
                turned=entry.scan.turned,
                slices=entry.scan.slices,
            )
            runs += [
                RunFile(
                    path=f"{folder}/predictions.parquet",
                    method=method,
                    seed=seed,
                    label=spec.methods[method],
                    panel=panel,
                    unit=entry.unit,
                    shown_unit=entry.table_unit,
                )
                for method, seed in itertools.product(spec.methods, seeds)
                for folder in (e.runs.finetune_folder(column.part, column.target, method, seed),)
            ]
    return replace(spec, runs=tuple(runs), scans=tuple(scans.values()))


# ---- tables --------------------------------------------------------------------------------------


def _shows(e: Experiments, table: str, source: str) -> bool:
    """Whether a table of all methods has columns of a stage."""
    columns = e.tables.columns(table)
    return e.tables.compares_methods(table) and any(c.source == source for c in columns)


def _table(e: Experiments, table: str, **more: object) -> TableFile:
    title = e.tables.title(table).split(":")[0]
    path = e.runs.folder(paths.TABLE, table=table) + ".json"
    return replace(TableFile(name=table, path=path, title=title), **more)  # type: ignore[arg-type]


def _all_tables(e: Experiments, spec: FigureSpec) -> FigureSpec:
    return replace(spec, tables=tuple(_table(e, name) for name in e.tables.names()))


def _method_rows(e: Experiments, spec: FigureSpec, table: str) -> dict[str, Mark]:
    """Rows of methods with the quantity they show; not those that predict without learning."""
    rows: list[Row] = e.tables.rows(table)
    return {
        row.key: Mark(name=row.method, line=row.quantity or "", unit=row.unit)
        for row in rows
        if row.kind == "method" and row.method in spec.methods
    }


def _compared(e: Experiments, spec: FigureSpec, reference: str) -> FigureSpec:
    """Tables of methods that compare them with one of them."""
    tables = tuple(
        _table(
            e,
            name,
            rows=_method_rows(e, spec, name),
            columns={c.key: Mark(name=c.label, unit=c.unit) for c in columns},
        )
        for name, columns in _method_tables(e).items()
        if reference in e.config.tables[name].rows.compare and len(spec.methods) > 1
    )
    return replace(spec, tables=tables)


def _errors(e: Experiments, spec: FigureSpec) -> FigureSpec:
    return _compared(e, spec, "scratch")


def _paired(e: Experiments, spec: FigureSpec) -> FigureSpec:
    return _compared(e, spec, "coord")


def _smoothness(e: Experiments, spec: FigureSpec) -> FigureSpec:
    """The first table of smoothness: a panel for each estimate, displacements along the axis."""
    names = [name for name in e.tables.names() if _shows(e, name, "smoothness")]
    tables = (
        _table(
            e,
            name,
            axis="displacement σ [Å]",
            rows=_method_rows(e, spec, name),
            columns={
                c.key: Mark(name=_estimate(e, c), x=c.displacement, unit=c.unit)
                for c in e.tables.columns(name)
                if c.source == "smoothness" and c.metric != "unconverged"
            },
        )
        for name in names[:1]
    )
    return replace(spec, tables=tuple(tables))


def _estimate(e: Experiments, column: Column) -> str:
    """Title of an estimate's panel; the map where there are several."""
    several = len(e.config.smoothness.maps) > 1
    return f"{column.title}, {column.map.replace('_', ' ')} code" if several else column.title


def _ablations(e: Experiments, spec: FigureSpec) -> FigureSpec:
    """Tables that sweep a parameter: losses share a panel, each other column has its own."""
    tables = []
    for name, entry in e.config.tables.items():
        if (sweep := entry.rows.sweep) is None:
            continue
        own = e.config.methods[sweep.method].params[sweep.parameter]
        assert isinstance(own, int | float)  # the swept values, which are numbers, take its place
        rows = zip(e.tables.rows(name), sweep.values, strict=True)
        columns = e.tables.columns(name)
        tables.append(
            _table(
                e,
                name,
                title=entry.title.split(": ")[-1],
                axis=PARAMETERS.get(sweep.parameter, sweep.parameter),
                own=float(own),
                rows={row.key: Mark(name=sweep.method, x=value) for row, value in rows},
                columns={
                    c.key: _ablation_mark(c) for c in columns if not e.tables.missing(name, c)
                },
            )
        )
    return replace(spec, tables=tuple(tables))


def _ablation_mark(column: Column) -> Mark:
    if column.label.startswith("loss, "):
        line = column.label.removeprefix("loss, ")
        return Mark(name="held-out reconstruction loss", line=line)
    measure = " MAE" if column.source == "finetune" and not column.metric else ""
    return Mark(name=f"{column.label}{measure}", unit=column.unit)


def _temperatures(e: Experiments, spec: FigureSpec) -> FigureSpec:
    """Tables of methods whose test parts are called after their temperature, two at least."""
    tables = []
    for name, columns in _method_tables(e).items():
        several = len({c.target for c in columns}) > 1
        marks = {
            c.key: Mark(
                name=f"{c.target} " * several + (c.metric or "mae").upper(), x=float(kelvin[1])
            )
            for c in columns
            if (kelvin := _KELVIN.fullmatch(c.test_part or ""))
        }
        if len({mark.x for mark in marks.values()}) > 1:
            rows = _method_rows(e, spec, name)
            tables.append(_table(e, name, axis="temperature [K]", rows=rows, columns=marks))
    return replace(spec, tables=tuple(tables))


def _label_numbers(e: Experiments, spec: FigureSpec) -> FigureSpec:
    """Tables whose columns are of one dataset with more and more labels."""
    tables = []
    for name in e.tables.names():
        columns = [c for c in e.tables.columns(name) if c.source == "finetune"]
        sizes = {c.part: e.config.finetune.sets[c.part].split.train for c in columns
                 if c.part in e.config.finetune.sets}  # fmt: skip
        one = len({e.data.dataset_of(part) for part in sizes}) == 1
        if not one or len(set(sizes.values())) < 3 or None in sizes.values():
            continue
        marks = {
            c.key: Mark(
                name=e.data.card(e.data.dataset_of(c.part)).target(c.target).title or c.target,
                x=float(sizes[c.part] or 0),
                unit=c.unit,
            )
            for c in columns
        }
        rows = _method_rows(e, spec, name)
        tables.append(_table(e, name, axis="training labels", rows=rows, columns=marks))
    return replace(spec, tables=tuple(tables))


SPECIFICATIONS: dict[str, Callable[[Experiments, FigureSpec], FigureSpec]] = {
    "pretraining_curves": _pretraining,
    "finetuning_curves": _curves,
    "predictions": _predictions,
    "errors_by_method": _errors,
    "paired_differences": _paired,
    "smoothness": _smoothness,
    "lipschitz_distribution": _norms,
    "ablations": _ablations,
    "error_by_temperature": _temperatures,
    "label_efficiency": _label_numbers,
    "dihedral_scan": _scans,
    "energy_drift": _dynamics,
}
