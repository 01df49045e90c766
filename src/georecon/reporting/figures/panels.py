"""One panel of a figure each: statistics over seeds and molecules, drawn with seaborn.

seaborn computes what a band or bar shows from the single values: nothing here is random, so the
same results give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from georecon.reporting.figures.read import Cells, Points
from georecon.reporting.figures.specs import AblationPanel, AblationTable
from georecon.reporting.figures.style import (
    FAINT,
    INK,
    SCRATCH,
    colour,
    log_axis,
    marker,
)

POINTS = 1500
"""Points of a scatter plot, per method and panel; errors are taken over all."""
SWEEP_LINES = (("D", "-", None), ("o", "--", "#0072B2"), ("s", ":", "#000000"))
"""Lines of an ablation's panel: marker, line, colour (None: the method's)."""
_TICKS_WIDTH, _DIGIT = 90.0, 3.6  # between the outer ticks of a sweep, and of a digit there [pt]


def seed_curves(axes: Axes, steps: np.ndarray, values: np.ndarray, ink: str, mark: str) -> None:
    """Mean over seeds as a line, lowest to highest as a band; steps (S,), values (seeds, S)."""
    seaborn.lineplot(
        x=np.tile(steps, len(values)),
        y=values.ravel(),
        errorbar=("pi", 100),
        err_kws={"alpha": 0.2, "linewidth": 0},
        color=ink,
        marker=mark,
        markersize=2.2,
        markeredgecolor=ink,
        legend=False,
        ax=axes,
    )


def true_and_predicted(axes: Axes, true: np.ndarray, predicted: np.ndarray, ink: str) -> None:
    """Scatter of at most ``POINTS`` evenly chosen molecules, (M,) each."""
    every = max(1, math.ceil(len(true) / POINTS))
    seaborn.scatterplot(
        x=true[::every],
        y=predicted[::every],
        s=2.0,
        color=ink,
        alpha=0.35,
        linewidth=0,
        rasterized=True,
        legend=False,
        ax=axes,
    )


def diagonal(axes: Axes) -> None:
    """Line of perfect prediction over equal axes that hold the true values with a margin."""
    low, high = axes.get_xlim()
    margin = 0.08 * (high - low)
    ends = [low - margin, high + margin]
    axes.plot(ends, ends, color=INK, linewidth=0.6, zorder=3)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_box_aspect(1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))


def error_list(axes: Axes, lines: list[tuple[str, str]], head: str) -> None:
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


def relative_errors(
    axes: Axes,
    cells: Cells,
    rows: Mapping[str, str],
    columns: list[str],
    labels: Mapping[str, str],
) -> set[str]:
    """Every cell over the mean of the column's model without pre-training, with deviations.

    Args:
        axes: the panel.
        cells: of the table.
        rows: method to row.
        columns: keys of columns, from left to right.
        labels: method to label, for its colour and marker.

    Returns:
        The methods shown.
    """
    places: list[int] = []
    ratios: list[float] = []
    methods: list[str] = []
    for number, column in enumerate(columns):
        scratch = cells.get((rows.get(SCRATCH, ""), column))
        if scratch is None:
            axes.annotate(
                "no scratch\nmodel",
                (number, 1.0),
                ha="center",
                va="center",
                color=FAINT,
                fontsize=6,
            )
            continue
        for method, row in rows.items():
            for value in _values(cells, row, column):
                places.append(number)
                ratios.append(value / scratch.value)
                methods.append(method)
    if places:
        seaborn.pointplot(
            x=places,
            y=ratios,
            hue=methods,
            native_scale=True,
            hue_order=list(rows),
            palette={method: colour(labels, method) for method in rows},
            markers=[marker(labels, method) for method in rows],
            dodge=min(0.2, 0.7 / len(rows)) * (len(rows) - 1) or False,
            linestyle="none",
            markersize=3.5,
            markeredgewidth=1,
            errorbar="sd",
            capsize=0.008 * len(columns),
            err_kws={"linewidth": 0.8},
            legend=False,
            ax=axes,
        )
    return set(methods)


def _values(cells: Cells, row: str, column: str) -> tuple[float, ...]:
    """A cell's values of seeds; none for an empty cell."""
    cell = cells.get((row, column))
    return cell.values if cell else ()


def estimates(axes: Axes, labels: Mapping[str, str], points: Points) -> None:
    """Bars by method, or lines over the displacement where there are several of them."""
    if max(map(len, points.values()), default=0) > 1:
        for method, line in points.items():
            ink, mark = colour(labels, method), marker(labels, method)
            axes.plot(*zip(*sorted(line), strict=True), color=ink, marker=mark)
        axes.set_xlabel("displacement σ [Å]")
        log_axis(axes, "x")
        log_axis(axes)
        return
    methods = list(points)
    if methods:
        seaborn.barplot(
            x=methods,
            y=[line[0][1] for line in points.values()],
            hue=methods,
            palette={method: colour(labels, method) for method in methods},
            saturation=1,
            width=0.62,
            legend=False,
            ax=axes,
        )
    for bars in axes.containers:
        assert isinstance(bars, BarContainer)
        axes.bar_label(bars, fmt="{:.3g}", padding=1.5, fontsize=6)
    axes.margins(y=0.15)
    axes.set_xticks([])


def spaced_labels(values: np.ndarray, *, log: bool) -> list[str]:
    """Labels of ticks, empty where one would touch the last one before it."""
    places = np.log(values) if log else values
    across = (places - places.min()) / (np.ptp(places) or 1.0) * _TICKS_WIDTH
    texts = [f"{value:g}" for value in values]
    shown, end = {}, -math.inf
    for k in np.argsort(places, kind="stable"):
        half = _DIGIT * len(texts[k]) / 2
        if across[k] - half >= end + _DIGIT:
            shown[int(k)], end = texts[k], across[k] + half
    return [shown.get(k, "") for k in range(len(texts))]


def sweep(
    axes: Axes, entry: AblationTable, panel: AblationPanel, cells: Cells, ink: str
) -> dict[str, Line2D]:
    """One measure of an ablation against the swept value, with deviations over seeds.

    Returns:
        Its lines by label.
    """
    values = np.array(list(entry.rows.values()), dtype=float)
    axes.axvline(entry.own, color=FAINT, linewidth=0.8, linestyle=":")
    handles = {}
    for number, (column, label) in enumerate(panel.columns.items()):
        pairs = [
            (place, value)
            for row, place in entry.rows.items()
            for value in _values(cells, row, column)
        ]
        mark, line, own_ink = SWEEP_LINES[number % len(SWEEP_LINES)]
        tone = own_ink or ink
        if pairs:
            seaborn.lineplot(
                x=[float(place) for place, _ in pairs],
                y=[value for _, value in pairs],
                errorbar="sd",
                err_style="bars",
                err_kws={"capsize": 1.5, "elinewidth": 0.8},
                color=tone,
                marker=mark,
                linestyle=line,
                markersize=3,
                markeredgecolor=tone,
                legend=False,
                ax=axes,
            )
        if label:
            handles[label] = Line2D([], [], color=tone, marker=mark, linestyle=line, markersize=3)
    if values.min() > 0 and values.max() / values.min() > 5:
        axes.set_xscale("log")
    axes.margins(x=0.12, y=0.12)
    axes.set_xticks(values, spaced_labels(values, log=axes.get_xscale() == "log"), fontsize=5.8)
    axes.minorticks_off()
    axes.yaxis.set_major_locator(MaxNLocator(4))
    return handles
