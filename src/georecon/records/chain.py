"""The way of every number: from a table's cell back to raw files, as the library recorded it.

:func:`read_graph` reads the tables, the records (run.json and its kind) and the stores' manifests
of an edition, and nothing else: no file is hashed here and Snakemake's own folder is not read. A
file is a :class:`Link`, a job is a link (kind "run", its path is its record's), and so is a cell.

``cell <- metrics <- run <- outputs <- run <- encoder, split, store <- run <- ... <- raw <- run``
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from georecon import paths
from georecon.commands import command
from georecon.errors import DataError
from georecon.records.read import Claim, Record, known, needed, read_claims
from georecon.records.untrusted import read_strict_json

KINDS = {
    "cell": "number in a table",
    "run": "job, by its record",
    "metrics": "errors or estimates",
    "predictions": "every test prediction with its label",
    "outputs": "test outputs of the fine-tuned model",
    "model": "fine-tuned weights",
    "encoder": "pre-trained weights",
    "objective": "weights that pre-training had besides the encoder",
    "curve": "training curve",
    "split": "molecule ids of training, validation and test",
    "leak": "test molecules that pre-training has seen, counted",
    "store": "manifest of a store",
    "array": "array of a store",
    "raw": "raw file",
    "log": "log of a job",
    "file": "other file",
}
"""What a link can be."""

_RUNS = {
    "pretrain": "pretrain",
    "finetune": "finetune",
    "smoothness": "smoothness",
    "nve": "nve",
    "encoders": "import_encoder",
}
"""Stages whose records lie beside their outputs, by folder of an edition."""
_NAMES = {"store": "store", "pretrain_store": "store", "pretrain_split": "split"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """One link of a chain.

    Attributes:
        kind: a key of ``KINDS``.
        path: file relative to the working folder; of a cell, ``<table>/<row>/<column>``. Unique.
        sha256: hash that the record says the file has; null for cells.
        bytes: its size, as recorded.
        recorded_in: the file that says so.
        facts: what else a reader may want to know of a file: the source of a raw file, type and
            shape of an array.
        parents: paths of the links it was made from.
    """

    kind: str
    path: str
    sha256: str | None = None
    bytes: int | None = None
    recorded_in: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Run(Link):
    """A job; ``beside`` are paths of further files that it wrote."""

    record: Record
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell(Link):
    """A number of a table, as the table's JSON gives it.

    Attributes:
        table, row, column: names that make its path.
        unit: of the numbers; empty without one.
        value: mean over seeds; None for an empty cell.
        std: sample standard deviation over seeds; None for one seed.
        low, high: ends of the 95 % interval of the mean; None for fewer than three seeds.
        n: number of seeds.
        values: number by seed.
        reason: why the cell is empty.
        runs: files that it was read from.
    """

    table: str
    row: str
    column: str
    unit: str
    value: float | None
    std: float | None
    n: int | None
    values: Mapping[str, object]
    reason: str | None
    runs: tuple[str, ...]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something that keeps a chain from being followed.

    Attributes:
        kind: a short name, such as "record missing".
        path: the file at fault.
        text: what is wrong, in a sentence.
    """

    kind: str
    path: str
    text: str


@dataclass(slots=True)
class Graph:
    """All links of an edition by path."""

    edition: str
    links: dict[str, Link] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def cells(self) -> Iterator[Cell]:
        """Cells of all tables."""
        return (link for link in self.links.values() if isinstance(link, Cell))

    def chain(self, start: str) -> list[Link]:
        """Everything a link was made from, itself first, every link before what it was made from.

        The further files of a run come right before it.

        Raises:
            KeyError: no such link.
        """
        order: list[str] = []
        seen: set[str] = set()
        stack = [(start, iter(self.links[start].parents))]
        seen.add(start)
        while stack:
            path, parents = stack[-1]
            for parent in parents:
                if parent in self.links and parent not in seen:
                    seen.add(parent)
                    stack.append((parent, iter(self.links[parent].parents)))
                    break
            else:
                order.append(path)
                stack.pop()
        found: list[Link] = []
        for path in reversed(order):
            link = self.links[path]
            if isinstance(link, Run):
                others = [name for name in link.beside if name not in seen]
                seen.update(others)
                found += [self.links[name] for name in others if name in self.links]
            found.append(link)
        return found


def rerun_command(edition: str, cell: str) -> str:
    """Command line that recomputes one cell (``<table>/<row>/<column>``) and its runs."""
    return command("rerun", edition=edition, pairs=[f"cell={cell}"])


def record_files(root: Path, edition: str) -> list[str]:
    """Records of an edition and of the data behind it, relative to ``root``."""
    results = paths.RESULTS.format(edition=edition)
    patterns = (
        f"{results}/pretrain/**/run.json",
        f"{results}/encoders/*/run.json",
        f"{results}/finetune/**/*run.json",
        f"{results}/smoothness/**/run.json",
        f"{results}/nve/**/run.json",
        f"{paths.RESULT_RECORD.format(edition=edition, stage='*')}/**/*.json",
        f"{paths.RECORD.format(stage='*')}/**/*.json",
    )
    found = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    return [path.relative_to(root).as_posix() for path in found]


def read_graph(root: Path, edition: str) -> Graph:
    """Read what the library recorded about an edition.

    A file that cannot be read is a fault of the graph, not an error.

    Args:
        root: working folder, with ``results`` and ``resources``.
        edition: name of the edition.
    """
    graph = Graph(edition)
    for name in record_files(root, edition):
        try:
            _add_record(graph, Record.from_json(read_strict_json(root / name, name), name))
        except DataError as error:
            graph.faults.append(Fault(kind="record unreadable", path=name, text=str(error)))
    for name in [link.path for link in graph.links.values() if link.kind == "store"]:
        try:
            manifest = read_strict_json(root / name, name)
            _add_arrays(graph, name, needed(manifest, "files", dict, name))
        except DataError as error:
            graph.faults.append(Fault(kind="file unreadable", path=name, text=str(error)))
    _add_origins(graph)
    folder = PurePosixPath(paths.TABLE.format(edition=edition, table="x")).parent
    for path in sorted((root / folder).glob("*.json")):
        name = f"{folder}/{path.name}"
        try:
            _add_table(graph, name, read_strict_json(path, name))
        except DataError as error:
            graph.faults.append(Fault(kind="table unreadable", path=name, text=str(error)))
    return graph


def _add_record(graph: Graph, record: Record) -> None:
    own = PurePosixPath(record.path)
    if own.name.endswith("run.json"):
        wrote = [claim.path for claim in record.outputs.values()]
        strays = [path for path in wrote if PurePosixPath(path).parent != own.parent]
        if strays:
            text = f"is the record of another run: it says that it wrote {strays[0]}"
            graph.faults.append(Fault(kind="record of another run", path=record.path, text=text))
            return
    if (wrong := _misplaced(graph, record)) is not None:
        graph.faults.append(Fault(kind="record of another run", path=record.path, text=wrong))
        return
    graph.records[record.path] = record
    written = record.written()
    graph.claims += [*record.inputs.values(), *written.values()]
    graph.links[record.path] = Run(
        kind="run",
        path=record.path,
        record=record,
        parents=tuple(dict.fromkeys(claim.path for claim in record.inputs.values())),
        beside=tuple(claim.path for claim in written.values()),
    )
    for key, claim in written.items():
        curve = (record.stage, key) == ("pretrain", "metrics")
        facts = _source(record) if key == "raw" else {}
        kind = "curve" if curve else key
        graph.links[claim.path] = _file(kind, claim, facts=facts, parents=(record.path,))


def _misplaced(graph: Graph, record: Record) -> str | None:
    """Why a record is not that of the job whose place it lies in; None if it can be.

    Checks go by the stage that a record names, and a chain by the one record of each file.
    """
    _, *folders, name = PurePosixPath(record.path).parts
    top = folders.index("records") if "records" in folders[:2] else None
    if top is not None:
        place = folders[top + 1]
    else:
        place = "evaluate" if name == "evaluate.run.json" else _RUNS.get(folders[1], "")
    if record.stage != place:
        return f"says that it is of a job {record.stage!r:.40}, and lies where those of {place} do"
    for claim in record.outputs.values():
        other = graph.links.get(claim.path)
        if other is not None:
            return f"says that it wrote {claim.path}, as {other.recorded_in} does"
    return None


def _file(
    kind: str, claim: Claim, *, facts: Mapping[str, object], parents: tuple[str, ...]
) -> Link:
    """Link of a file as a claim describes it."""
    return Link(
        kind=kind if kind in KINDS else "file",
        path=claim.path,
        sha256=claim.sha256,
        bytes=claim.bytes,
        recorded_in=claim.recorded_in,
        facts=facts,
        parents=parents,
    )


def _source(record: Record) -> Mapping[str, object]:
    """Where a raw file comes from: downloaded, out of a package, the user's own, or computed."""
    file = record.settings.get("file")
    if record.stage == "fetch" and isinstance(file, dict):
        names = ("name", "urls", "package", "path", "local", "licence")
        origin = next((word for word in ("urls", "package", "local") if file.get(word)), "unknown")
        return {"origin": origin, **{name: file[name] for name in names if name in file}}
    return {"origin": "computed", "simulation": record.settings.get("simulation")}


def _add_arrays(graph: Graph, name: str, files: Any) -> None:
    """Arrays of a store, from its manifest's list of files."""
    folder = PurePosixPath(name).parent
    entries = {key: needed(files, key, dict, name) | {"path": f"{folder}/{key}"} for key in files}
    claims = read_claims(entries, name)
    graph.claims += claims.values()
    (writer,) = graph.links[name].parents
    for key, claim in claims.items():
        facts = {word: files[key].get(word) for word in ("dtype", "shape")}
        graph.links[claim.path] = _file("array", claim, facts=facts, parents=(writer,))
    run = graph.links[writer]
    if isinstance(run, Run):
        beside = (*run.beside, *(claim.path for claim in claims.values()))
        graph.links[writer] = replace(run, beside=beside)


def _add_origins(graph: Graph) -> None:
    """Files that a run read and that no record says it wrote: a link without parents, a fault."""
    for name, record in graph.records.items():
        for key, claim in record.inputs.items():
            if claim.path in graph.links:
                continue
            kind = key if key in KINDS else _NAMES.get(key, "file")
            graph.links[claim.path] = _file(kind, claim, facts={}, parents=())
            text = f"no record says which job wrote it; {name} read it"
            graph.faults.append(Fault(kind="record missing", path=claim.path, text=text))


def _add_table(graph: Graph, name: str, table: dict[str, Any]) -> None:
    """Cells of a table, each with the files behind it and its test set's leak report."""
    title = needed(table, "table", str, name)
    rows = {needed(row, "key", str, name): row for row in needed(table, "rows", list, name)}
    columns = {needed(c, "key", str, name): c for c in needed(table, "columns", list, name)}
    leaks = _leaks_by_split(graph)
    for entry in needed(table, "cells", list, name):
        row, column = needed(entry, "row", str, name), needed(entry, "column", str, name)
        if row not in rows or column not in columns:
            raise DataError(name, f"{row}/{column}", "is a cell of no row or column of the table")
        files = {str(k): run for k, run in enumerate(needed(entry, "runs", list, name))}
        claims = read_claims(files, name, sized=False).values()
        graph.claims += claims
        used = tuple(claim.path for claim in claims)
        unit = known(columns[column], "unit", str, name) or known(rows[row], "unit", str, name)
        splits = _splits_behind(graph, used)
        cell = Cell(
            kind="cell",
            path=f"{title}/{row}/{column}",
            recorded_in=name,
            parents=(*used, *(leaks[split] for split in splits if split in leaks)),
            table=title,
            row=row,
            column=column,
            unit=unit or "",
            value=known(entry, "value", float, name),
            std=known(entry, "std", float, name),
            low=known(entry, "low", float, name),
            high=known(entry, "high", float, name),
            n=known(entry, "n", int, name),
            values=known(entry, "values", dict, name) or {},
            reason=known(entry, "reason", str, name),
            runs=used,
        )
        graph.links[cell.path] = cell
    graph.tables[title] = table


def _leaks_by_split(graph: Graph) -> dict[str, str]:
    """Leak report of each split, by the split's path."""
    leaks = [record for record in graph.records.values() if record.stage == "leak"]
    pairs = [(record.inputs.get("split"), record.outputs.get("leak")) for record in leaks]
    return {split.path: report.path for split, report in pairs if split and report}


def _splits_behind(graph: Graph, files: Iterable[str]) -> list[str]:
    """Splits of the fine-tuning runs behind metrics files."""
    found: dict[str, None] = {}
    for file in files:
        for link in graph.chain(file) if file in graph.links else ():
            if isinstance(link, Run) and link.record.stage == "finetune":
                found |= {p: None for p in link.parents if p.endswith(".npz")}
    return list(found)
