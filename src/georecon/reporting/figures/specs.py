"""Specifications of figures: which files each shows, and what these are called.

``as_json`` gives the plain values that a rule hands to a notebook as the parameter ``spec``, and
``from_json`` reads them there. Fields are written in their order, so the order is part of the
executed notebooks. A specification holds paths relative to the working folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from georecon import keys


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFile:
    """A file of one run.

    Attributes:
        path: of the file.
        method, seed: of the run.
        label: what the run is called.
        panel: title of the panel that shows it.
        column: of the file, for curves.
        unit, shown_unit: of the numbers in the file, and of the table they are in.
        until_fs: how long dynamics were to last [fs]; 0 for other runs.
    """

    path: str
    method: str
    seed: int
    label: str
    panel: str = ""
    column: str = ""
    unit: str = ""
    shown_unit: str = ""
    until_fs: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A row or column of a table as a figure shows it.

    Attributes:
        name: its method, or the title of its panel.
        x: where it stands on an axis; None without one.
        line: of a column among several in one panel; of a row, the quantity it shows.
        unit: of its numbers, where it says it.
    """

    name: str
    x: float | None = None
    line: str = ""
    unit: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFile:
    """A table's JSON file, and those of its rows and columns that are shown; the others are not.

    Attributes:
        name, path: of the table.
        title: what figures call it.
        axis: what ``x`` of its marks is, with its unit.
        own: place on that axis that is marked; None without one.
        rows, columns: by key.
    """

    name: str
    path: str
    title: str = ""
    axis: str = ""
    own: float | None = None
    rows: Mapping[str, Mark] = field(default_factory=dict)
    columns: Mapping[str, Mark] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanFrames:
    """Frames of a dihedral scan, whose energies runs of the same panel predict.

    Attributes:
        panel: what the scan is called.
        theory: level of theory of the reference energies.
        store: ``manifest.json`` of the store with the frames.
        split: of a run, which says what frames are the scan.
        part: the scan among its test parts.
        turned: four atoms whose dihedral angle changes along a curve.
        slices: four atoms whose angle is the same along a curve.
    """

    panel: str
    theory: str
    store: str
    split: str
    part: str
    turned: tuple[int, ...]
    slices: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureSpec:
    """What a figure shows.

    Attributes:
        methods: label of each, in the order of tables; it fixes colours and markers.
        runs, tables: files that it is drawn from.
        scans: frames of the scans that the runs predict.
    """

    methods: Mapping[str, str]
    runs: tuple[RunFile, ...] = ()
    tables: tuple[TableFile, ...] = ()
    scans: tuple[ScanFrames, ...] = ()

    def files(self) -> list[str]:
        """Files that the figure reads, each once; none where the edition has nothing for it."""
        found = [*(run.path for run in self.runs), *(table.path for table in self.tables)]
        found += [file for scan in self.scans for file in (scan.store, scan.split)]
        return list(dict.fromkeys(found))

    def as_json(self) -> keys.Json:
        """For a rule's parameters and a notebook's."""
        found: keys.Json = keys.as_json(self)
        return found

    @classmethod
    def from_json(cls, document: object) -> FigureSpec:
        """From what :meth:`as_json` gave.

        Raises:
            ConfigError: unknown or missing keys, or values of another type.
        """
        return keys.from_json(cls, document, "spec")
