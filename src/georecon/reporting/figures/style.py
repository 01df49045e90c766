"""How the figures look: colours and markers of methods, sizes, axes, legends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from georecon.files import atomic_path
from georecon.units import UNIT_DISPLAY

WIDTH = 6.9
"""Width of a figure over both columns of a page [inch]."""
SCRATCH = "scratch"
INK = "#333333"
FAINT = "#999999"
# Okabe and Ito's palette; grey is for what has seen no pre-training.
COLOURS = {SCRATCH: "#7F7F7F", "coord": "#0072B2", "georecon": "#D55E00", "frad": "#009E73"}
SPARE_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = {SCRATCH: "s", "coord": "o", "georecon": "D", "frad": "^"}
SPARE_MARKERS = ("v", "P", "X", "<")
STYLE: dict[str, str | float | bool] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}


def save_pdf(figure: Figure, path: Path) -> None:
    """Write a figure as PDF without dates: the same data gives the same bytes."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})


def colour(methods: Iterable[str], method: str) -> str:
    """Colour of a method: its own, or the next spare one in the order of ``methods``."""
    return _style(COLOURS, SPARE_COLOURS, methods, method)


def marker(methods: Iterable[str], method: str) -> str:
    """Marker of a method, chosen like its colour."""
    return _style(MARKERS, SPARE_MARKERS, methods, method)


def _style(
    own: Mapping[str, str], spare: Sequence[str], methods: Iterable[str], method: str
) -> str:
    others = [name for name in methods if name not in own]
    return own.get(method) or spare[others.index(method) % len(spare)]


def grid(count: int, *, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Figure with ``count`` panels of the given height [inch] in rows of ``columns``."""
    columns = min(columns, max(count, 1))
    rows = math.ceil(count / columns)
    width = WIDTH if columns > 2 else WIDTH * (0.5 if columns == 1 else 0.72)
    layout = ConstrainedLayoutEngine(h_pad=0.06)
    figure = Figure(figsize=(width, height * rows + 0.45), layout=layout)
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def nothing(what: str) -> Figure:
    """Figure that says why it shows nothing."""
    figure = Figure(figsize=(WIDTH / 2, 1.0), layout="constrained")
    figure.text(0.5, 0.5, what, ha="center", va="center", color=FAINT)
    return figure


def method_legend(
    figure: Figure, labels: Mapping[str, str], shown: Iterable[str], *, line: str
) -> None:
    """One legend above all panels: colour and marker of each method shown."""
    shown = set(shown)
    handles = [
        Line2D(
            [],
            [],
            color=colour(labels, name),
            marker=marker(labels, name),
            linestyle=line,
            label=label,
        )
        for name, label in labels.items()
        if name in shown
    ]
    if handles:
        columns = min(len(handles), 6 if figure.get_figwidth() > 0.7 * WIDTH else 4)
        figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def unit_text(unit: str) -> str:
    """Unit for an axis label: " [eV]", or nothing for a pure number."""
    return f" [{UNIT_DISPLAY.get(unit, unit)}]" if unit and unit != "1" else ""


def log_axis(axes: Axes, which: str = "y") -> None:
    """Logarithmic axis with plain numbers at a few round ticks."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = sorted(getattr(axes, f"get_{which}lim")())
    decades = math.log10(high / low) if low > 0 else 1.0
    subs: tuple[float, ...] = (
        (1.0,) if decades > 2.2 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0)
    )
    if decades < 0.5:
        subs = tuple(float(n) for n in range(1, 10))
        subs = (*subs, 1.5) if decades < 0.25 else subs
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
