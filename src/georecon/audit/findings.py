"""What an audit can find, and the verdicts that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from georecon.errors import GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.records.chain import Graph, Link
from georecon.records.read import Record
from georecon.records.untrusted import MISFORMED
from georecon.reporting.expected import Expected

REPRODUCED, DIFFERS = "reproduced", "differs"
NOT_COMPARABLE, MISSING = "not comparable", "missing"
OPENED = ("run", "metrics", "predictions", "curve", "split", "leak", "store", "raw")
"""Kinds of files of a chain that a reader of verdicts can open."""
STUMBLES: tuple[type[Exception], ...] = (GeoreconError, OSError, RuntimeError, *MISFORMED)
"""What computing from files that anybody may have written ends in, where they are not sound."""
CODE = Path(__file__).resolve().parents[3]
"""The checkout that this code is of."""

KINDS: dict[str, str] = {
    "value differs": DIFFERS,
    "table edited": DIFFERS,
    "table unreadable": DIFFERS,
    "page edited": DIFFERS,
    "metrics differ": DIFFERS,
    "file changed": DIFFERS,
    "file unreadable": DIFFERS,
    "file of nobody": DIFFERS,
    "other file used": DIFFERS,
    "other raw file": DIFFERS,
    "other source": DIFFERS,
    "predictions differ": DIFFERS,
    "curve differs": DIFFERS,
    "run copied": DIFFERS,
    "record edited": DIFFERS,
    "record unreadable": DIFFERS,
    "record of another run": DIFFERS,
    "store differs": DIFFERS,
    "labels differ": DIFFERS,
    "weights differ": DIFFERS,
    "estimates differ": DIFFERS,
    "start differs": DIFFERS,
    "rerun differs": DIFFERS,
    "file missing": MISSING,
    "record missing": MISSING,
    "settings differ": NOT_COMPARABLE,
    "other inputs": NOT_COMPARABLE,
    "unequal conditions": NOT_COMPARABLE,
    "test set seen": NOT_COMPARABLE,
    "split differs": NOT_COMPARABLE,
    "leak report differs": NOT_COMPARABLE,
    "other code": NOT_COMPARABLE,
    "no such commit": NOT_COMPARABLE,
    "commit of other code": NOT_COMPARABLE,
    "other lock file": NOT_COMPARABLE,
    "mixed packages": NOT_COMPARABLE,
    "uncommitted code": NOT_COMPARABLE,
    "unknown commit": NOT_COMPARABLE,
    "mixed kernels": NOT_COMPARABLE,
    "other packages": NOT_COMPARABLE,
    "other configuration": NOT_COMPARABLE,
}
"""Kinds of findings, each with the verdict of the cells it touches."""

_NOBODY = "nobody else can have the code that made them"
NOTES = {
    "uncommitted code": _NOBODY,
    "unknown commit": _NOBODY,
    "mixed kernels": "they were rounded in different ways, by different kernels or processors",
    "other packages": "they were made with other packages than the lock file of their code names",
    "other configuration": "the commit that they name has other settings or public numbers",
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
        bundle: the folder is an unpacked bundle: raw files, arrays, test outputs and mostly
            fine-tuned weights are not in it, and its code is another installation's.
        code: checkout whose commits and lock file the records are held against.
        expected: the paper's public numbers by table.
        scope: links behind cells, tables, figures and pages, by path.
        checked: what was computed again, and how much of it, as sentences.
        unchecked: what could not be checked, and why, likewise.
    """

    root: Path
    experiments: Experiments
    graph: Graph
    bundle: bool
    code: Path = CODE
    expected: Mapping[str, Expected] = field(default_factory=dict)
    scope: dict[str, Link] = field(default_factory=dict)
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Walk from everything that is shown to a reader."""
        graph = self.graph
        shown = ("table", "figure", "summary", "cost", "site", "report")
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

    def cannot(self, what: str) -> None:
        """Note what could not be checked, once."""
        if what not in self.unchecked:
            self.unchecked.append(what)


Check = Callable[[Context], Iterable[Finding]]
