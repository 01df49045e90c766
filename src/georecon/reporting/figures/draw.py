"""The figures, each drawn from files of results alone: ``draw`` is what the notebooks call.

Only matplotlib's object layer is used (no pyplot, no seaborn): a notebook starts in a second.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.backends.backend_agg
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from georecon.files import atomic_path, read_json
from georecon.reporting.figures.inputs import configured, group_files
from georecon.reporting.figures.read import mean_norms, read_columns, read_predictions, table_cells
from georecon.reporting.figures.style import (
    FAINT,
    INK,
    SCRATCH,
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
POINTS = 1500
"""Points of a scatter plot, per method and panel; errors are taken over all."""
CODE_LINES: dict[str, tuple[str, str, Any]] = {
    "val_reconstruct": ("right code", "#D55E00", "-"),
    "val_reconstruct_shuffled": ("other code", "#0072B2", (0, (4, 2))),
    "val_reconstruct_zero": ("no code", "#000000", (0, (1, 1.5))),
}
"""Held-out reconstruction loss by what the decoder is given: label, colour, line."""

Spec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finished figure; a notebook shows it as a picture."""

    figure: Figure
    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png


def draw(figure: str, edition: str, spec: Spec | None = None, outputs: Sequence[str] = ()) -> Drawn:
    """Draw a figure and write it.

    Args:
        figure: key of ``FIGURES``.
        edition: edition, named in the footer.
        spec: from ``georecon.reporting.figures.inputs.figure_spec``; None takes it from the
            configuration.
        outputs: files to write, PDF or PNG by their suffix.
    """
    base = Path()
    if spec is None:
        spec, base = configured(figure, edition)
    with matplotlib.rc_context(STYLE):
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


def pretraining_curves(spec: Spec, base: Path) -> Figure:
    """Losses of each method, and what each decoder does without the right code."""
    curves = {name: read_columns(base / run["file"]) for name, run in spec["runs"].items()}
    methods = [name for name in curves if name in spec["methods"]]
    coded = [name for name, curve in curves.items() if "val_reconstruct_zero" in curve]
    if not curves:
        return nothing("No method is pre-trained in this edition.")
    figure, panels = grid(len(methods) + len(coded), columns=3, height=1.55)
    for axes, name in zip(panels, methods, strict=False):
        curve, ink = curves[name], colour(spec["methods"], name)
        axes.plot(
            curve["step"], curve["train_loss"], color=ink, linestyle=(0, (1, 1)), linewidth=0.9
        )
        axes.plot(curve["step"], curve["val_score"], color=ink, marker=".")
        axes.set_ylabel("loss")
        log_axis(axes)
    for axes, name in zip(panels[len(methods) :], coded, strict=True):
        for column, (_, ink, line) in CODE_LINES.items():
            if column in curves[name]:
                axes.plot(curves[name]["step"], curves[name][column], linestyle=line, color=ink)
        axes.set_ylabel("reconstruction loss")
    for axes, name in zip(panels, [*methods, *coded], strict=True):
        axes.set_title(spec["runs"][name]["label"])
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


def finetuning_curves(spec: Spec, base: Path) -> Figure:
    """Validation error by step: mean over seeds as a line, lowest to highest seed as a band."""
    panels = [(group, panel) for group in spec["groups"] for panel in group["panels"]]
    if not panels:
        return nothing("Nothing is fine-tuned in this edition.")
    figure, axes_list = grid(len(panels), columns=4, height=1.35)
    for axes, (group, panel) in zip(axes_list, panels, strict=True):
        for method, files in group_files(group, panel["target"]).items():
            curves = [read_columns(base / file) for file in files.values()]
            steps = curves[0]["step"]
            for curve in curves:  # early stopping: as far as all seeds go
                steps = np.intersect1d(steps, curve["step"])
            values = np.array([c[group["column"]][np.isin(c["step"], steps)] for c in curves])
            values = convert(values, panel["unit"], panel["table_unit"])
            ink = colour(spec["methods"], method)
            axes.plot(
                steps,
                values.mean(axis=0),
                color=ink,
                marker=marker(spec["methods"], method),
                markersize=2.2,
            )
            if len(curves) > 1:
                axes.fill_between(
                    steps, values.min(axis=0), values.max(axis=0), color=ink, alpha=0.2, linewidth=0
                )
        forces = group["quantity"] == "force"
        axes.set_title(f"{group['title']} {panel['title']}" if forces else panel["title"])
        axes.set_ylabel(("force MAE" if forces else "MAE") + unit_text(panel["table_unit"]))
        log_axis(axes)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axes in axes_list[-4:]:
        axes.set_xlabel("fine-tuning step")
    shown = {method for group in spec["groups"] for method in group["methods"]}
    method_legend(figure, spec["methods"], shown, line="-")
    return figure


def predictions(spec: Spec, base: Path) -> Figure:
    """Predicted versus true property of the test molecules; errors over all molecules and seeds."""
    panels = [(group, panel) for group in spec["groups"] for panel in group["panels"]]
    if not panels:
        return nothing("No property is fine-tuned in this edition.")
    figure, axes_list = grid(len(panels), columns=4, height=1.75)
    for axes, (group, panel) in zip(axes_list, panels, strict=True):
        lines, relative = [], False
        for method, files in group_files(group, panel["target"]).items():
            errors, true, predicted = [], np.zeros(0), np.zeros(0)
            for file in files.values():
                label, guess, baseline = read_predictions(base / file)
                errors.append(np.abs(guess - label).mean())
                if np.ptp(baseline) > 1e-6 * max(1.0, float(np.abs(baseline).max())):
                    relative = True
                    label, guess = label - baseline, guess - baseline
                true, predicted = np.append(true, label), np.append(predicted, guess)
            every = max(1, math.ceil(len(true) / POINTS))
            ink = colour(spec["methods"], method)
            axes.scatter(
                true[::every],
                predicted[::every],
                s=2.0,
                color=ink,
                alpha=0.35,
                linewidths=0,
                rasterized=True,
            )
            mae = float(convert(np.mean(errors), panel["unit"], panel["table_unit"]))
            lines.append((ink, f"{mae:.0f}" if mae >= 100 else f"{mae:.3g}"))
        _diagonal(axes)
        _error_list(axes, lines, "MAE" + unit_text(panel["table_unit"]))
        axes.set_title(
            panel["title"] + (" less atomic references" if relative else ""), fontsize=7.0
        )
        axes.set_xlabel("true" + unit_text(panel["unit"]))
        axes.set_ylabel("predicted" + unit_text(panel["unit"]))
    method_legend(
        figure, spec["methods"], {m for g in spec["groups"] for m in g["methods"]}, line="none"
    )
    return figure


def _diagonal(axes: Axes) -> None:
    """Line of perfect prediction over equal axes that hold the true values with a margin."""
    low, high = axes.get_xlim()
    margin = 0.08 * (high - low)
    axes.plot(
        [low - margin, high + margin],
        [low - margin, high + margin],
        color=INK,
        linewidth=0.6,
        zorder=3,
    )
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(low - margin, high + margin)
    axes.set_box_aspect(1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))


def _error_list(axes: Axes, lines: list[tuple[str, str]], head: str) -> None:
    """Errors in the methods' colours, in the corner that points seldom reach."""
    for number, (ink, text) in enumerate([(INK, head), *lines]):
        axes.annotate(
            text,
            (0, 1),
            (3, -3 - 7.5 * number),
            xycoords="axes fraction",
            textcoords="offset points",
            va="top",
            color=ink,
            fontsize=6.0,
        )


def errors_by_method(spec: Spec, base: Path) -> Figure:
    """Every cell of the tables of methods relative to the model without pre-training."""
    panels = [(read_json(base / t["file"]), panel) for t in spec["tables"] for panel in t["panels"]]
    if not panels:
        return nothing("No table of methods has data in this edition.")
    figure, axes_list = grid(len(panels), columns=1, height=1.5)
    widest = max(len(table["columns"]) for table, _ in panels)
    figure.set_figwidth(WIDTH if widest > 4 else WIDTH * 0.6)
    shown: set[str] = set()
    for axes, (table, panel) in zip(axes_list, panels, strict=True):
        cells, rows = table_cells(table), panel["rows"]
        columns = [  # without those that this edition has no data for
            column
            for column in table["columns"]
            if any((key, column["key"]) in cells for key in rows.values())
        ]
        for number, column in enumerate(columns):
            unit = cells.get((rows.get(SCRATCH, ""), column["key"]))
            if unit is None:
                axes.text(
                    number,
                    1.0,
                    "no scratch\nmodel",
                    ha="center",
                    va="center",
                    color=FAINT,
                    fontsize=6,
                )
                continue
            for place, (method, key) in enumerate(rows.items()):
                cell = cells.get((key, column["key"]))
                if cell is None:
                    continue
                shown.add(method)
                x = number + (place - (len(rows) - 1) / 2) * min(0.2, 0.7 / len(rows))
                axes.errorbar(
                    x,
                    cell["value"] / unit["value"],
                    yerr=(cell["std"] or 0.0) / unit["value"],
                    color=colour(spec["methods"], method),
                    marker=marker(spec["methods"], method),
                    linestyle="none",
                    elinewidth=0.8,
                    capsize=1.5,
                )
        axes.axhline(1.0, color=INK, linewidth=0.6, zorder=1)
        labels = [column["label"].replace(" ", "\n") for column in columns]
        axes.set_xticks(range(len(columns)), labels)
        axes.set_xlim(-0.6, max(len(columns), 1) - 0.4)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("error relative\nto scratch")
        title = table["title"].split(":")[0]
        axes.set_title(f"{title}, {panel['quantity']}" if panel["quantity"] else title)
    method_legend(figure, spec["methods"], shown, line="none")
    return figure


def smoothness(spec: Spec, base: Path) -> Figure:
    """Estimates of the table, one panel each, and those of maps that the table leaves out."""
    if not spec["tables"]:
        return nothing("No table of smoothness in this edition.")
    entry = spec["tables"][0]
    cells = table_cells(read_json(base / entry["file"]))
    panels = []
    for panel in entry["panels"]:
        points: dict[str, list[tuple[float, float]]] = {}
        for row, method in entry["rows"].items():
            for column, size in panel["columns"].items():
                if (row, column) in cells:
                    points.setdefault(method, []).append((size, cells[row, column]["value"]))
        panels.append((panel["title"], panel["unit"], points))
    metrics = {method: read_json(base / run["file"]) for method, run in spec["runs"].items()}
    panels += [
        (f"mean norm, {name.replace('_', ' ')} code", "1/Å", points)
        for name, points in mean_norms(metrics).items()
        if name not in entry["maps"]
    ]
    figure, axes_list = grid(len(panels), columns=3, height=1.6)
    for axes, (title, unit, points) in zip(axes_list, panels, strict=True):
        _estimates(axes, spec, points)
        axes.set_title(title)
        axes.set_ylabel(("estimate" if unit else "ratio") + unit_text(unit))
    method_legend(figure, spec["methods"], entry["rows"].values(), line="none")
    return figure


def _estimates(axes: Axes, spec: Spec, points: dict[str, list[tuple[float, float]]]) -> None:
    """Bars by method, or lines over the displacement where there are several of them."""
    methods = spec["methods"]
    if max(map(len, points.values()), default=0) > 1:
        for method, line in points.items():
            ink, mark = colour(methods, method), marker(methods, method)
            axes.plot(*zip(*sorted(line), strict=True), color=ink, marker=mark)
        axes.set_xlabel("displacement σ [Å]")
        log_axis(axes, "x")
        log_axis(axes)
        return
    for place, (method, line) in enumerate(points.items()):
        value = line[0][1]
        axes.bar(place, value, width=0.62, color=colour(methods, method))
        axes.annotate(
            f"{value:.3g}",
            (place, value),
            (0, 1.5),
            fontsize=6,
            textcoords="offset points",
            ha="center",
            va="bottom",
        )
    axes.margins(y=0.15)
    axes.set_xticks([])


def ablations(spec: Spec, base: Path) -> Figure:
    """Columns of each ablation's table against the swept value; a line marks the method's own."""
    if not spec["tables"]:
        return nothing("No ablation in this edition.")
    width = max(len(entry["panels"]) for entry in spec["tables"])
    rows = len(spec["tables"])
    figure = Figure(figsize=(WIDTH, 1.6 * rows + 0.45), layout="constrained")
    handles: dict[str, Any] = {}
    for number, entry in enumerate(spec["tables"]):
        table = read_json(base / entry["file"])
        units = {column["key"]: column["unit"] for column in table["columns"]}
        for place, panel in enumerate(entry["panels"]):
            axes = figure.add_subplot(rows, width, number * width + place + 1)
            ink = colour(spec["methods"], entry["method"])
            handles |= _sweep_panel(axes, entry, panel, table_cells(table), ink)
            axes.set_title(panel["title"], fontsize=7.0)
            unit = unit_text(units[next(iter(panel["columns"]))])
            axes.set_ylabel(f"{panel['measure']}{unit}".strip())
            axes.set_xlabel(PARAMETERS.get(entry["parameter"], entry["parameter"]), fontsize=6.5)
    handles["the method's own value"] = Line2D([], [], color=FAINT, linewidth=0.8, linestyle=":")
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=5)
    return figure


def _sweep_panel(
    axes: Axes, entry: Spec, panel: Spec, cells: dict[tuple[str, str], dict[str, Any]], ink: str
) -> dict[str, Any]:
    """One panel of an ablation; returns its lines by label."""
    values = np.array(list(entry["rows"].values()), dtype=float)
    axes.axvline(entry["own"], color=FAINT, linewidth=0.8, linestyle=":")
    handles = {}
    for line, (column, label) in enumerate(panel["columns"].items()):
        found = [cells.get((row, column)) for row in entry["rows"]]
        keep = np.array([cell is not None for cell in found])
        mean = np.array([cell["value"] for cell in found if cell])
        bars = np.array([cell["std"] or 0.0 for cell in found if cell])
        style, tone = (("D-", ink), ("o--", "#0072B2"), ("s:", "#000000"))[line % 3]
        drawn = axes.errorbar(
            values[keep],
            mean,
            yerr=bars if bars.any() else None,
            fmt=style,
            color=tone,
            capsize=1.5,
            elinewidth=0.8,
            markersize=3,
        )
        if label:
            handles[label] = drawn
    if values.min() > 0 and values.max() / values.min() > 5:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values], fontsize=5.8)
    axes.minorticks_off()
    axes.margins(x=0.12, y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    return handles


FIGURES: dict[str, Callable[[Spec, Path], Figure]] = {
    "pretraining_curves": pretraining_curves,
    "finetuning_curves": finetuning_curves,
    "predictions": predictions,
    "errors_by_method": errors_by_method,
    "smoothness": smoothness,
    "ablations": ablations,
}
