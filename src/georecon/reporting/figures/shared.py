"""What the notebooks share: results as DataFrames, colours and markers, units, writing of files.

A notebook reads and draws for itself; nothing here draws a figure.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from georecon.data.dihedrals import dihedral_degrees
from georecon.data.split import read_split
from georecon.data.store import Store
from georecon.errors import DataError
from georecon.files import atomic_path, read_json
from georecon.keys import Json
from georecon.reporting.figures.inputs import configured
from georecon.reporting.figures.specs import FigureSpec, RunFile, ScanFrames
from georecon.units import UNIT_DISPLAY, convert

WIDTH = 6.9
"""Width of a figure over both columns of a page [inch]."""
INK, FAINT = "#333333", "#777777"
# Okabe and Ito's palette; grey is for what has seen no pre-training.
COLOURS = {"scratch": "#7F7F7F", "coord": "#0072B2", "georecon": "#D55E00", "frad": "#009E73"}
SPARE_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = {"scratch": "s", "coord": "o", "georecon": "D", "frad": "^"}
SPARE_MARKERS = ("v", "P", "X", "<")
STYLE: dict[str, str | float | bool] = {
    **{"font.family": "DejaVu Sans", "font.size": 7.0, "text.color": INK},
    **{"axes.titlesize": 7.5, "axes.labelsize": 7.0, "axes.linewidth": 0.6},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": INK},
    **{"axes.labelcolor": INK, "axes.grid": True, "axes.axisbelow": True},
    **{"xtick.labelsize": 6.5, "ytick.labelsize": 6.5, "xtick.color": INK, "ytick.color": INK},
    **{"xtick.major.width": 0.6, "ytick.major.width": 0.6},
    **{"xtick.major.size": 2.5, "ytick.major.size": 2.5},
    **{"xtick.minor.size": 1.5, "ytick.minor.size": 1.5},
    **{"legend.fontsize": 7.0, "legend.frameon": False},
    **{"lines.linewidth": 1.2, "lines.markersize": 3.5},
    **{"grid.color": "#E6E6E6", "grid.linewidth": 0.5},
    **{"figure.dpi": 100, "savefig.dpi": 200, "pdf.fonttype": 42},
}


_PLACE = ("table", "method", "label", "quantity", "column", "panel")
CELL = (*_PLACE, "row", "row_x", "line", "x", "unit", "seed", "value", "mean", "low", "high")
DIFFERENCE = (*_PLACE, "difference", "low", "high", "seeds")
"""Columns of frames from tables, also of one without any line."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished figure as a notebook shows it."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png


class Results:
    """What one figure is drawn from, and how it looks.

    Sets matplotlib's style, whatever settings the user has.

    Args:
        figure: name of the notebook.
        edition: edition, named at the foot of the figure.
        spec: ``figure_spec(...).as_json()``; None takes it from the configuration.

    Attributes:
        labels: label of each method, in the order of tables.
        colours, markers: of each method, colour-blind safe.
    """

    def __init__(self, figure: str, edition: str, spec: Json | None = None) -> None:
        found, self.base = (None, Path()) if spec is not None else configured(figure, edition)
        self.spec = FigureSpec.from_json(spec) if found is None else found
        self.edition, self.labels = edition, dict(self.spec.methods)
        self.colours = _assigned(self.labels, COLOURS, SPARE_COLOURS)
        self.markers = _assigned(self.labels, MARKERS, SPARE_MARKERS)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)

    # ---- results as DataFrames -------------------------------------------------------------------

    def cells(self) -> pandas.DataFrame:
        """A line for each number of the tables: of each seed of each cell that the figure shows.

        Columns ``table``, ``row``, ``method``, ``label``, ``quantity``, ``row_x``, ``column``,
        ``panel``, ``line``, ``x``, ``unit``, ``seed``, ``value``, and of the cell ``mean``,
        ``low`` and ``high``, the ends of the mean's 95 % interval (NaN for fewer than three
        seeds). Empty cells are left out.
        """
        lines = []
        for table in self.spec.tables:
            for cell in read_json(self.base / table.path)["cells"]:
                row, column = table.rows.get(cell["row"]), table.columns.get(cell["column"])
                if row is None or column is None:
                    continue
                place = {"table": table.title, "row": cell["row"], "method": row.name}
                place |= {"label": self.labels.get(row.name, row.name), "quantity": row.line}
                place |= {"row_x": row.x, "column": cell["column"], "panel": column.name}
                place |= {"line": column.line, "x": column.x, "unit": column.unit or row.unit}
                ends = {"mean": cell["value"], "low": cell["low"], "high": cell["high"]}
                for seed, value in cell["values"].items():
                    lines.append(place | {"seed": int(seed), "value": value} | ends)
        return _frame(lines, CELL)

    def differences(self, reference: str) -> pandas.DataFrame:
        """A line for each error of a method less that of a reference, in percent of the latter.

        Paired by seed and test molecule; columns as of :meth:`cells`, and ``difference`` with the
        ends of its 95 % interval ``low`` and ``high`` (NaN for fewer than three seeds) [%].

        Args:
            reference: method that the tables compare the others with.
        """
        lines = []
        for table in self.spec.tables:
            content = read_json(self.base / table.path)
            means = {(cell["row"], cell["column"]): cell["value"] for cell in content["cells"]}
            for one in (content["comparison"] or {"differences": []})["differences"]:
                row, column = table.rows.get(one["row"]), table.columns.get(one["column"])
                other = table.rows.get(one["reference"])
                if row is None or column is None or other is None or other.name != reference:
                    continue
                base = means[one["reference"], one["column"]]
                place = {"table": table.title, "method": row.name, "label": self.labels[row.name]}
                place |= {"quantity": row.line, "column": one["column"], "panel": column.name}
                values = {"difference": one["value"], "low": one["low"], "high": one["high"]}
                percent = {k: None if v is None else 100.0 * v / base for k, v in values.items()}
                lines.append(place | percent | {"seeds": one["n"]})
        return _frame(lines, DIFFERENCE)

    def curves(self) -> pandas.DataFrame:
        """Every line of the runs' CSV files, with ``method``, ``seed``, ``label``, ``panel``.

        Of fine-tuning also ``error``, in the table's unit, and this ``unit``; of dynamics also
        ``until_fs``, how long they were to last.
        """
        frames = []
        for run in self.spec.runs:
            frame = pandas.read_csv(self.base / run.path)
            if run.until_fs:
                frame["until_fs"] = run.until_fs
            if run.column:
                frame["error"] = convert(frame[run.column].to_numpy(), run.unit, run.shown_unit)
            frames.append(frame.assign(**_about(run)))
        return pandas.concat(frames, ignore_index=True)

    def predictions(self) -> pandas.DataFrame:
        """A line for each predicted property of each run: ``label_value``, ``prediction`` and their
        ``error`` (prediction less label), in the table's unit.
        """
        frames = []
        for run in self.spec.runs:
            columns = ["id", "label", "prediction"]
            frame = pandas.read_parquet(self.base / run.path, columns=columns)
            for name in ("label", "prediction"):
                frame[name] = convert(frame[name].to_numpy(), run.unit, run.shown_unit)
            frame = frame.rename(columns={"label": "label_value"})
            frame["error"] = frame["prediction"] - frame["label_value"]
            frames.append(frame.assign(**_about(run)))
        return pandas.concat(frames, ignore_index=True)

    def scans(self) -> pandas.DataFrame:
        """A line for each frame of a dihedral scan and each run that predicts its energy.

        Columns as of :meth:`predictions`, ``theory`` of the reference, ``slice`` and ``angle``
        [whole degrees], ``reference``: energy over the scan's lowest, and ``energy``: predicted,
        less the run's mean error, for a scan's shape does not change with a constant. Of frames at
        the same two angles there is that of the lowest reference energy.

        Raises:
            DataError: the frames have fewer atoms than the configuration names.
        """
        whole, frames = self.predictions(), []
        for scan in self.spec.scans:
            frame = whole[whole["panel"] == scan.panel].merge(self._angles(scan), on="id")
            lowest = frame["label_value"].min()
            shift = frame.groupby(["method", "seed"])["error"].transform("mean")
            frame["reference"] = frame["label_value"] - lowest
            frame["energy"] = frame["prediction"] - shift - lowest
            first = frame.sort_values("reference", kind="stable")
            first = first.drop_duplicates(["method", "seed", "slice", "angle"])
            frame = frame.loc[frame.index.isin(first.index)]
            frames.append(frame.sort_values(["slice", "angle"], kind="stable"))
        return pandas.concat(frames, ignore_index=True)

    def _angles(self, scan: ScanFrames) -> pandas.DataFrame:
        """``id``, ``slice`` and ``angle`` [whole degrees] of a scan's frames."""
        store = Store.open((self.base / scan.store).parent)
        ids = read_split(self.base / scan.split).test_parts[scan.part]
        found = store.gather(store.rows(ids), labels=())
        atoms, named = int(found.n_atoms()[0]), max(*scan.turned, *scan.slices)
        if named >= atoms:
            reason = f"scan of {scan.panel} names atom {named}; allowed: 0 to {atoms - 1}"
            raise DataError(scan.store, None, reason)
        pos = found.pos.reshape(len(ids), atoms, 3).astype(np.float64)
        sides = {"slice": scan.slices, "angle": scan.turned}
        whole = {k: dihedral_degrees(pos, four).round() % 360 for k, four in sides.items()}
        return pandas.DataFrame({"id": ids, **whole, "theory": scan.theory})

    def norms(self) -> pandas.DataFrame:
        """A line for each molecule of each estimate: ``map``, ``displacement`` [Å], ``norm``
        [1/Å].
        """
        frames = []
        for run in self.spec.runs:
            for name, norms in read_json(self.base / run.path)["norms"].items():
                which, size = name.rsplit("/", 1)
                frame = pandas.DataFrame({"norm": norms, "map": which, "displacement": float(size)})
                frames.append(frame.assign(**_about(run)))
        return pandas.concat(frames, ignore_index=True)

    # ---- how it looks ----------------------------------------------------------------------------

    def grid(self, count: int, *, columns: int, height: float) -> tuple[Figure, list[Axes]]:
        """Figure with ``count`` panels of the given height [inch] in rows of ``columns``."""
        columns = min(columns, max(count, 1))
        rows = math.ceil(count / columns) or 1
        width = WIDTH if columns > 2 else WIDTH * (0.6 if columns == 1 else 0.8)
        figure, axes = matplotlib.pyplot.subplots(
            rows,
            columns,
            figsize=(width, height * rows + 0.55),
            layout="constrained",
            squeeze=False,
        )
        for spare in axes.flat[count:]:
            spare.remove()
        if not count:
            figure.text(0.5, 0.5, "No data in this edition.", ha="center", color=FAINT)
        return figure, list(axes.flat[:count])

    def mosaic(self, wide: Sequence[bool], *, height: float) -> tuple[Figure, list[Axes]]:
        """Figure with panels of the given height [inch], two in a row; wide ones have their own."""
        rows: list[list[int]] = []
        for panel, alone in enumerate(wide):
            if alone:
                rows.append([panel, panel])
            elif rows and rows[-1][1] < 0:
                rows[-1][1] = panel
            else:
                rows.append([panel, -1])
        if not rows:
            return self.grid(0, columns=1, height=height)
        size = (WIDTH, height * len(rows) + 0.55)
        figure = matplotlib.pyplot.figure(figsize=size, layout="constrained")
        axes = figure.subplot_mosaic(rows, empty_sentinel=-1)
        return figure, [axes[panel] for panel in range(len(wide))]

    def legend(
        self,
        figure: Figure,
        methods: Iterable[str],
        *,
        line: str = "none",
        first: Sequence[Line2D] = (),
    ) -> None:
        """One legend above all panels: lines given first, colour and marker of each method."""
        shown = set(methods)
        handles = [*first] + [
            Line2D([], [], color=self.colours[name], marker=self.markers[name], linestyle=line,
                   label=label)
            for name, label in self.labels.items()
            if name in shown
        ]  # fmt: skip
        if not handles:
            return
        widths = [0.55 + 0.055 * len(str(handle.get_label())) for handle in handles]  # [inch]
        wide = figure.get_figwidth()
        columns = len(handles) if sum(widths) < wide else max(1, int(wide / max(widths)))
        figure.legend(handles=handles, loc="outside upper center", ncols=columns)

    def finish(self, figure: Figure, outputs: Sequence[str] = (), *, note: str = "") -> Picture:
        """Write a figure and close it.

        Args:
            figure: it.
            outputs: files to write, PDF or PNG by their suffix.
            note: what points, bars and bands are, under the figure.
        """
        foot = f"{note}\ngeorecon, {self.edition} edition" if note else f"{self.edition} edition"
        figure.supxlabel(foot, fontsize=6.0, color=FAINT, x=0.01, ha="left")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, not for every file
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        for output in map(Path, outputs):
            with atomic_path(output) as temporary:
                if output.suffix == ".png":
                    temporary.write_bytes(buffer.getvalue())
                else:
                    figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
        matplotlib.pyplot.close(figure)
        return Picture(buffer.getvalue())


def unit_text(unit: str) -> str:
    """Unit for an axis label: " [eV]", or nothing for a pure number."""
    return f" [{UNIT_DISPLAY.get(unit, unit)}]" if unit and unit != "1" else ""


def log_axis(axes: Axes, which: str = "y") -> None:
    """Logarithmic axis with plain numbers at a few round ticks."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = sorted(getattr(axes, f"get_{which}lim")())
    decades = math.log10(high / low) if low > 0 else 1.0
    subs: tuple[float, ...] = (1.0,) if decades > 2.2 else (1.0, 3.0)
    if decades <= 1.2:
        subs = (1.0, 2.0, 5.0) if decades >= 0.5 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    if decades < 0.25:
        subs = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def value_ticks(axes: Axes, values: Iterable[float]) -> None:
    """Ticks of the x axis at the values that there are, logarithmic where they span decades."""
    places = np.array(sorted(set(values)))
    wide = len(places) > 1 and places[0] > 0 and places[-1] > 5 * places[0]
    axes.set_xscale("log" if wide else "linear")
    axes.margins(x=0.12)
    crowded = len(places) > 4
    texts = [f"{place:g}" for place in places]
    axes.set_xticks(places, texts, rotation=45 if crowded else 0, fontsize=6.0)
    axes.minorticks_off()


def _assigned(names: Iterable[str], own: dict[str, str], spare: Sequence[str]) -> dict[str, str]:
    """What is a method's own, or the next spare one, in the order of the names."""
    names = list(names)
    others = [name for name in names if name not in own]
    return {n: own.get(n) or spare[others.index(n) % len(spare)] for n in names}


def _about(run: RunFile) -> dict[str, Any]:
    place = {"method": run.method, "seed": run.seed, "label": run.label}
    return place | {"panel": run.panel, "unit": run.shown_unit}


def _frame(lines: list[dict[str, Any]], columns: Sequence[str]) -> pandas.DataFrame:
    """Lines as a DataFrame; one without lines has its columns all the same."""
    frame = pandas.DataFrame(lines) if lines else pandas.DataFrame(columns=list(columns))
    numbers = [n for n in ("low", "high", "x", "row_x", "difference") if n in frame]
    return frame.astype(dict.fromkeys(numbers, float))
