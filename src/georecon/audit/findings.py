"""What an audit can find, and the verdicts that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from georecon.experiments.experiments import Experiments
from georecon.records.chain import Graph, Link
from georecon.records.read import Record

REPRODUCED, DIFFERS = "reproduced", "differs"
NOT_COMPARABLE, MISSING = "not comparable", "missing"

KINDS: dict[str, str] = {
    "value differs": DIFFERS,
    "table edited": DIFFERS,
    "table unreadable": DIFFERS,
    "metrics differ": DIFFERS,
    "file changed": DIFFERS,
    "file unreadable": DIFFERS,
    "other file used": DIFFERS,
    "predictions differ": DIFFERS,
    "curve differs": DIFFERS,
    "record edited": DIFFERS,
    "record unreadable": DIFFERS,
    "record of another run": DIFFERS,
    "file missing": MISSING,
    "record missing": MISSING,
    "settings differ": NOT_COMPARABLE,
    "other inputs": NOT_COMPARABLE,
    "unequal conditions": NOT_COMPARABLE,
    "test set seen": NOT_COMPARABLE,
    "split differs": NOT_COMPARABLE,
    "leak report differs": NOT_COMPARABLE,
    "other code": NOT_COMPARABLE,
    "uncommitted code": NOT_COMPARABLE,
    "unknown commit": NOT_COMPARABLE,
    "mixed kernels": NOT_COMPARABLE,
}
"""Kinds of findings, each with the verdict of the cells it touches."""

_NOBODY = "nobody else can have the code that made them"
NOTES = {
    "uncommitted code": _NOBODY,
    "unknown commit": _NOBODY,
    "mixed kernels": "they were rounded in different ways, by different kernels or processors",
}
"""Kinds that are said loudly but break no chain: the numbers are what their files say. Each with
what keeps its cells from being compared.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: a key of ``KINDS``.
        path: the file at fault.
        text: what is wrong, in a sentence.
        touches: links whose cells are concerned; by default the file itself.
        cells: cells concerned, found by the audit.
        breaks: whether it breaks a chain, so that the audit fails.
    """

    kind: str
    path: str
    text: str
    touches: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    breaks: bool = True


@dataclass(slots=True)
class Context:
    """What all checks look at.

    Attributes:
        root: working folder.
        experiments: runs and tables of the configuration.
        graph: what was recorded.
        bundle: the folder is an unpacked bundle: raw files, arrays, fine-tuned weights and their
            test outputs are not in it, and its code is another installation's.
        scope: links behind cells, tables, figures and the summary, by path.
    """

    root: Path
    experiments: Experiments
    graph: Graph
    bundle: bool
    scope: dict[str, Link] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Walk from everything that is shown to a reader."""
        graph = self.graph
        shown = ("table", "figure", "summary")
        starts = [link.path for link in graph.cells()]
        starts += [name for name, record in graph.records.items() if record.stage in shown]
        for start in starts:
            if start not in self.scope:
                self.scope |= {link.path: link for link in graph.chain(start)}

    def runs(self, *stages: str) -> Iterator[Record]:
        """Records in scope of the given stages (of all, without any)."""
        for name, record in self.graph.records.items():
            if name in self.scope and (not stages or record.stage in stages):
                yield record


Check = Callable[[Context], Iterable[Finding]]
