"""Specifications of figures: which files each shows, with labels and units.

``as_json`` gives the plain values that a rule hands to a notebook as the parameter ``spec``, and
``from_json`` reads them there. Fields are written in their order, so the order is part of the
executed notebooks. A specification holds paths relative to the working folder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from georecon import keys


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureSpec(ABC):
    """What every figure has: the methods' labels, which fix colours and markers by their order."""

    methods: Mapping[str, str]

    @abstractmethod
    def files(self) -> list[str]:
        """Files that the figure reads; one may come twice."""

    def as_json(self) -> keys.Json:
        """For a rule's parameters and a notebook's."""
        found: keys.Json = keys.as_json(self)
        return found

    @classmethod
    def from_json(cls, document: object) -> Self:
        """From what :meth:`as_json` gave.

        Raises:
            ConfigError: unknown or missing keys, or values of another type.
        """
        return keys.from_json(cls, document, "spec")


# ---- tables --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFile:
    """A table's name and its JSON file."""

    name: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TablesSpec(FigureSpec):
    """All tables: for a notebook without a specification of its own."""

    tables: tuple[TableFile, ...]

    def files(self) -> list[str]:
        """The tables."""
        return [table.file for table in self.tables]


# ---- pre-training --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainingRun:
    """A pre-training run's metrics.csv and its label."""

    label: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainingSpec(FigureSpec):
    """Pre-training runs by method; a sweep's variants come after the methods."""

    runs: Mapping[str, PretrainingRun]

    def files(self) -> list[str]:
        """Metrics of the runs."""
        return [run.file for run in self.runs.values()]


# ---- fine-tuning ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetPanel:
    """A panel of one target: its title, unit of the stored label and of the table."""

    target: str
    title: str
    unit: str
    table_unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Fine-tuning runs of one dataset.

    Attributes:
        set: the part in ``sets``.
        title: of the dataset, in panels of forces.
        pattern: path of a run's file, with {target}, {method} and {seed}.
        methods, seeds: of the runs.
        column: of a curve's file, in the label's unit.
        quantity: "force" or "property".
        panels: one a target.
    """

    set: str
    title: str
    pattern: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    column: str
    quantity: str
    panels: tuple[TargetPanel, ...]

    def files(self, target: str) -> dict[str, list[str]]:
        """Files of one target by method, one a seed."""
        return {
            method: [
                self.pattern.format(target=target, method=method, seed=seed) for seed in self.seeds
            ]
            for method in self.methods
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuningSpec(FigureSpec):
    """Groups of panels; each target's panel shows all methods and seeds."""

    groups: tuple[Group, ...]

    def files(self) -> list[str]:
        """Files of all runs."""
        return [file for _, _, runs in self.panels() for files in runs.values() for file in files]

    def panels(self) -> list[tuple[Group, TargetPanel, dict[str, list[str]]]]:
        """Each panel with its group and its files by method."""
        return [
            (group, panel, group.files(panel.target))
            for group in self.groups
            for panel in group.panels
        ]

    def shown(self) -> set[str]:
        """Methods that any panel shows."""
        return {method for group in self.groups for method in group.methods}


# ---- errors by method ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorsPanel:
    """Rows of a table by method, for one quantity ("" where the table has but one)."""

    quantity: str
    rows: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorsTable(TableFile):
    """A table of methods, a panel for each of its quantities."""

    panels: tuple[ErrorsPanel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorsSpec(FigureSpec):
    """Tables of methods that have data in this edition."""

    tables: tuple[ErrorsTable, ...]

    def files(self) -> list[str]:
        """The tables."""
        return [table.file for table in self.tables]


# ---- smoothness ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class SmoothnessPanel:
    """One estimate: title, unit, and the displacement [Å] of each of its columns."""

    title: str
    unit: str
    columns: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class SmoothnessTable(TableFile):
    """A table of smoothness: method of each row, maps that its columns show, panels."""

    rows: Mapping[str, str]
    maps: tuple[str, ...]
    panels: tuple[SmoothnessPanel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsFile:
    """A method's metrics.json of smoothness."""

    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SmoothnessSpec(FigureSpec):
    """The first table of smoothness, if any, and the metrics of its methods."""

    tables: tuple[SmoothnessTable, ...]
    runs: Mapping[str, MetricsFile]

    def files(self) -> list[str]:
        """Metrics, then the table."""
        metrics = [run.file for run in self.runs.values()]
        return metrics + [table.file for table in self.tables]


# ---- ablations -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationPanel:
    """One measure: title, what is measured, and the label of each column's line ("" for none)."""

    title: str
    measure: str
    columns: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationTable(TableFile):
    """A table that sweeps one parameter.

    Attributes:
        method, parameter: what is swept.
        own: the method's own value.
        rows: value of each row.
        panels: one a measure.
    """

    method: str
    parameter: str
    own: float
    rows: Mapping[str, float]
    panels: tuple[AblationPanel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationsSpec(FigureSpec):
    """All tables that sweep a parameter."""

    tables: tuple[AblationTable, ...]

    def files(self) -> list[str]:
        """The tables."""
        return [table.file for table in self.tables]
