"""The figures, each drawn from files of results alone: ``draw`` is what the notebooks call.

Statistics over seeds and molecules are drawn with seaborn (``panels.py``), which a notebook
imports once; all else with matplotlib's object layer.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import matplotlib
import matplotlib.backends.backend_agg
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from georecon.files import atomic_path
from georecon.keys import Json
from georecon.reporting.figures import panels
from georecon.reporting.figures.inputs import configured
from georecon.reporting.figures.read import (
    Points,
    mean_norms,
    read_columns,
    read_predictions,
    read_table,
)
from georecon.reporting.figures.specs import (
    AblationsSpec,
    ErrorsSpec,
    FigureSpec,
    FinetuningSpec,
    PretrainingSpec,
    SmoothnessSpec,
)
from georecon.reporting.figures.style import (
    FAINT,
    INK,
    STYLE,
    WIDTH,
    colour,
    grid,
    log_axis,
    marker,
    method_legend,
    nothing,
    save_pdf,
    unit_text,
)
from georecon.units import convert

PARAMETERS = {"sigma_rec": "reconstruction noise [Å]", "depth": "decoder depth [layers]"}
CODE_LINES: dict[str, tuple[str, str, str | tuple[float, tuple[float, ...]]]] = {
    "val_reconstruct": ("right code", "#D55E00", "-"),
    "val_reconstruct_shuffled": ("other code", "#0072B2", (0, (4, 2))),
    "val_reconstruct_zero": ("no code", "#000000", (0, (1, 1.5))),
}
"""Held-out reconstruction loss by what the decoder is given: label, colour, line."""

S = TypeVar("S", bound=FigureSpec)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finished figure; a notebook shows it as a picture."""

    figure: Figure
    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png


def draw(figure: str, edition: str, spec: Json | None = None, outputs: Sequence[str] = ()) -> Drawn:
    """Draw a figure and write it.

    Args:
        figure: key of ``FIGURES``.
        edition: edition, named in the footer.
        spec: ``figure_spec(...).as_json()`` of ``georecon.reporting.figures.inputs``; None takes
            it from the configuration.
        outputs: files to write, PDF or PNG by their suffix.

    Raises:
        ConfigError: the specification is not one of this figure.
    """
    base = Path()
    if spec is None:
        found, base = configured(figure, edition)
        spec = found.as_json()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever matplotlibrc the user has
        matplotlib.rcParams.update(STYLE)
        drawn = FIGURES[figure](spec, base)
        drawn.supxlabel(
            f"georecon, {edition} edition", fontsize=5.5, color=FAINT, x=0.995, ha="right"
        )
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")  # laid out once, not for every file
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", metadata={"Software": None})
        for output in map(Path, outputs):
            if output.suffix == ".png":
                with atomic_path(output) as temporary:
                    temporary.write_bytes(buffer.getvalue())
            else:
                save_pdf(drawn, output)
    return Drawn(drawn, buffer.getvalue())


# ---- the figures ---------------------------------------------------------------------------------


def pretraining_curves(spec: PretrainingSpec, base: Path) -> Figure:
    """Losses of each method, and what each decoder does without the right code."""
    curves = {name: read_columns(base / run.file) for name, run in spec.runs.items()}
    methods = [name for name in curves if name in spec.methods]
    coded = [name for name, curve in curves.items() if "val_reconstruct_zero" in curve]
    if not curves:
        return nothing("No method is pre-trained in this edition.")
    figure, axes_list = grid(len(methods) + len(coded), columns=3, height=1.55)
    for axes, name in zip(axes_list, methods, strict=False):
        curve, ink = curves[name], colour(spec.methods, name)
        axes.plot(
            curve["step"], curve["train_loss"], color=ink, linestyle=(0, (1, 1)), linewidth=0.9
        )
        axes.plot(curve["step"], curve["val_score"], color=ink, marker=".")
        axes.set_ylabel("loss")
        log_axis(axes)
    for axes, name in zip(axes_list[len(methods) :], coded, strict=True):
        for column, (_, ink, line) in CODE_LINES.items():
            if column in curves[name]:
                axes.plot(curves[name]["step"], curves[name][column], linestyle=line, color=ink)
        axes.set_ylabel("reconstruction loss")
    for axes, name in zip(axes_list, [*methods, *coded], strict=True):
        axes.set_title(spec.runs[name].label)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    handles = [
        Line2D([], [], color=INK, linestyle=(0, (1, 1)), linewidth=0.9, label="training"),
        Line2D([], [], color=INK, marker=".", label="held out"),
    ]
    if coded:
        handles += [
            Line2D([], [], color=ink, linestyle=line, label=f"held out, {label}")
            for label, ink, line in CODE_LINES.values()
        ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, columnspacing=1.2)
    return figure


def finetuning_curves(spec: FinetuningSpec, base: Path) -> Figure:
    """Validation error by step: mean over seeds as a line, lowest to highest seed as a band."""
    drawn = spec.panels()
    if not drawn:
        return nothing("Nothing is fine-tuned in this edition.")
    figure, axes_list = grid(len(drawn), columns=4, height=1.35)
    for axes, (group, panel, runs) in zip(axes_list, drawn, strict=True):
        for method, files in runs.items():
            curves = [read_columns(base / file) for file in files]
            steps = curves[0]["step"]
            for curve in curves:  # early stopping: as far as all seeds go
                steps = np.intersect1d(steps, curve["step"])
            values = np.array([c[group.column][np.isin(c["step"], steps)] for c in curves])
            values = convert(values, panel.unit, panel.table_unit)
            ink, mark = colour(spec.methods, method), marker(spec.methods, method)
            panels.seed_curves(axes, steps, values, ink, mark)
        forces = group.quantity == "force"
        axes.set_title(f"{group.title} {panel.title}" if forces else panel.title)
        axes.set_ylabel(("force MAE" if forces else "MAE") + unit_text(panel.table_unit))
        log_axis(axes)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axes in axes_list[-4:]:
        axes.set_xlabel("fine-tuning step")
    method_legend(figure, spec.methods, spec.shown(), line="-")
    return figure


def predictions(spec: FinetuningSpec, base: Path) -> Figure:
    """Predicted versus true property of the test molecules; errors over all molecules and seeds."""
    drawn = spec.panels()
    if not drawn:
        return nothing("No property is fine-tuned in this edition.")
    figure, axes_list = grid(len(drawn), columns=4, height=1.75)
    for axes, (_, panel, runs) in zip(axes_list, drawn, strict=True):
        lines, relative = [], False
        for method, files in runs.items():
            errors, true, predicted = [], np.zeros(0), np.zeros(0)
            for file in files:
                label, guess, baseline = read_predictions(base / file)
                errors.append(np.abs(guess - label).mean())
                if np.ptp(baseline) > 1e-6 * max(1.0, float(np.abs(baseline).max())):
                    relative = True
                    label, guess = label - baseline, guess - baseline
                true, predicted = np.append(true, label), np.append(predicted, guess)
            ink = colour(spec.methods, method)
            panels.true_and_predicted(axes, true, predicted, ink)
            mae = float(convert(np.mean(errors), panel.unit, panel.table_unit))
            lines.append((ink, f"{mae:.0f}" if mae >= 100 else f"{mae:.3g}"))
        panels.diagonal(axes)
        panels.error_list(axes, lines, "MAE" + unit_text(panel.table_unit))
        axes.set_title(panel.title + (" less atomic references" if relative else ""), fontsize=7.0)
        axes.set_xlabel("true" + unit_text(panel.unit))
        axes.set_ylabel("predicted" + unit_text(panel.unit))
    method_legend(figure, spec.methods, spec.shown(), line="none")
    return figure


def errors_by_method(spec: ErrorsSpec, base: Path) -> Figure:
    """Every cell of the tables of methods relative to the model without pre-training."""
    drawn = [(read_table(base / t.file), panel) for t in spec.tables for panel in t.panels]
    if not drawn:
        return nothing("No table of methods has data in this edition.")
    figure, axes_list = grid(len(drawn), columns=1, height=1.5)
    widest = max(len(table.columns) for table, _ in drawn)
    figure.set_figwidth(WIDTH if widest > 4 else WIDTH * 0.6)
    shown: set[str] = set()
    for axes, (table, panel) in zip(axes_list, drawn, strict=True):
        cells, rows = table.cells, panel.rows
        columns = [  # without those that this edition has no data for
            column
            for column in table.columns
            if any((key, column.key) in cells for key in rows.values())
        ]
        keys = [column.key for column in columns]
        shown |= panels.relative_errors(axes, cells, rows, keys, spec.methods)
        axes.axhline(1.0, color=INK, linewidth=0.6, zorder=1)
        labels = [column.label.replace(" ", "\n") for column in columns]
        axes.set_xticks(range(len(columns)), labels)
        axes.set_xlim(-0.6, max(len(columns), 1) - 0.4)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("error relative\nto scratch")
        title = table.title.split(":")[0]
        axes.set_title(f"{title}, {panel.quantity}" if panel.quantity else title)
    method_legend(figure, spec.methods, shown, line="none")
    return figure


def smoothness(spec: SmoothnessSpec, base: Path) -> Figure:
    """Estimates of the table, one panel each, and those of maps that the table leaves out."""
    if not spec.tables:
        return nothing("No table of smoothness in this edition.")
    entry = spec.tables[0]
    cells = read_table(base / entry.file).cells
    drawn = []
    for panel in entry.panels:
        points: Points = {}
        for row, method in entry.rows.items():
            for column, size in panel.columns.items():
                if (row, column) in cells:
                    points.setdefault(method, []).append((size, cells[row, column].value))
        drawn.append((panel.title, panel.unit, points))
    files = {method: base / run.file for method, run in spec.runs.items()}
    drawn += [
        (f"mean norm, {name.replace('_', ' ')} code", "1/Å", points)
        for name, points in mean_norms(files).items()
        if name not in entry.maps
    ]
    figure, axes_list = grid(len(drawn), columns=3, height=1.6)
    for axes, (title, unit, points) in zip(axes_list, drawn, strict=True):
        panels.estimates(axes, spec.methods, points)
        axes.set_title(title)
        axes.set_ylabel(("estimate" if unit else "ratio") + unit_text(unit))
    method_legend(figure, spec.methods, entry.rows.values(), line="none")
    return figure


def ablations(spec: AblationsSpec, base: Path) -> Figure:
    """Columns of each ablation's table against the swept value; a line marks the method's own."""
    if not spec.tables:
        return nothing("No ablation in this edition.")
    width = 3  # more panels in a line have no room for the values under them
    lines = [math.ceil(len(entry.panels) / width) for entry in spec.tables]
    figure = Figure(figsize=(WIDTH, 1.6 * sum(lines) + 0.45), layout="constrained")
    handles: dict[str, Line2D] = {}
    for number, entry in enumerate(spec.tables):
        table = read_table(base / entry.file)
        units = {column.key: column.unit for column in table.columns}
        first = sum(lines[:number]) * width + 1
        for place, panel in enumerate(entry.panels):
            axes = figure.add_subplot(sum(lines), width, first + place)
            ink = colour(spec.methods, entry.method)
            handles |= panels.sweep(axes, entry, panel, table.cells, ink)
            axes.set_title(panel.title, fontsize=7.0)
            unit = unit_text(units[next(iter(panel.columns))])
            axes.set_ylabel(f"{panel.measure}{unit}".strip())
            axes.set_xlabel(PARAMETERS.get(entry.parameter, entry.parameter), fontsize=6.5)
    handles["the method's own value"] = Line2D([], [], color=FAINT, linewidth=0.8, linestyle=":")
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=5)
    return figure


def _from_json(
    kind: type[S], drawing: Callable[[S, Path], Figure]
) -> Callable[[Json, Path], Figure]:
    """The same drawing of a specification that comes as JSON, as a notebook has it."""
    return lambda document, base: drawing(kind.from_json(document), base)


FIGURES: dict[str, Callable[[Json, Path], Figure]] = {
    "pretraining_curves": _from_json(PretrainingSpec, pretraining_curves),
    "finetuning_curves": _from_json(FinetuningSpec, finetuning_curves),
    "predictions": _from_json(FinetuningSpec, predictions),
    "errors_by_method": _from_json(ErrorsSpec, errors_by_method),
    "smoothness": _from_json(SmoothnessSpec, smoothness),
    "ablations": _from_json(AblationsSpec, ablations),
}
