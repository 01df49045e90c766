"""The way of every number: from a table's cell back to raw files, as the library recorded it.

:func:`read_graph` reads the tables, the records (run.json and its kind) and the stores' manifests
of an edition, and nothing else: no file is hashed here and Snakemake's own folder is not read. A
file is a :class:`Link`, a job is a link (kind "run", its path is its record's), and so is a cell.

``cell <- metrics <- run <- outputs <- run <- encoder, split, store <- run <- ... <- raw <- run``
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from georecon import paths
from georecon.errors import DataError
from georecon.records.untrusted import read_strict_json, relative_path

KINDS = {
    "cell": "number in a table",
    "run": "job, by its record",
    "metrics": "errors or estimates",
    "predictions": "every test prediction with its label",
    "outputs": "test outputs of the fine-tuned model",
    "model": "fine-tuned weights",
    "encoder": "pre-trained weights",
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

_FACTS = (
    "stage", "settings", "settings_sha256", "seed", "code", "environment", "compute", "versions",
    "started", "ended", "seconds", "job", "training", "final", "fetched",
)  # fmt: skip
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
        facts: what is known of it: for a run its settings, code, machine, times; for a raw file
            its source; for a cell its value.
        parents: paths of the links it was made from.
        beside: paths of further files that the same run wrote (runs only).
    """

    kind: str
    path: str
    sha256: str | None = None
    bytes: int | None = None
    recorded_in: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What one file says about another: its hash and size."""

    path: str
    sha256: str
    bytes: int | None
    recorded_in: str


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
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def cells(self) -> Iterator[Link]:
        """Cells of all tables."""
        return (link for link in self.links.values() if link.kind == "cell")

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
            others = [name for name in self.links[path].beside if name not in seen]
            seen.update(others)
            found += [self.links[name] for name in others if name in self.links]
            found.append(self.links[path])
        return found

    def as_json(self) -> dict[str, Any]:
        """All links and faults, JSON-ready; ``chains`` gives each cell's links in order."""
        return {
            "edition": self.edition,
            "kinds": KINDS,
            "links": {path: asdict(link) for path, link in self.links.items()},
            "chains": {
                cell.path: [link.path for link in self.chain(cell.path)] for cell in self.cells()
            },
            "rerun": {cell.path: rerun_command(self.edition, cell.path) for cell in self.cells()},
            "faults": [asdict(fault) for fault in self.faults],
        }


def rerun_command(edition: str, cell: str) -> str:
    """Command line that recomputes one cell (``<table>/<row>/<column>``) and its runs."""
    return f"snakemake --cores all --config edition={edition} cell={cell} -- rerun"


def record_files(root: Path, edition: str) -> list[str]:
    """Records of an edition and of the data behind it, relative to ``root``."""
    results = paths.RESULTS.format(edition=edition)
    patterns = (
        f"{results}/pretrain/**/run.json",
        f"{results}/finetune/**/*run.json",
        f"{results}/smoothness/**/run.json",
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
            record = read_strict_json(root / name, name)
            _add_record(graph, name, record)
        except DataError as error:
            graph.faults.append(Fault(kind="record unreadable", path=name, text=str(error)))
    for name in [link.path for link in graph.links.values() if link.kind == "store"]:
        try:
            _add_arrays(graph, name, read_strict_json(root / name, name))
        except DataError as error:
            graph.faults.append(Fault(kind="file unreadable", path=name, text=str(error)))
    _add_origins(graph)
    folder = PurePosixPath(paths.TABLE.format(edition=edition, table="x")).parent
    for path in sorted((root / folder).glob("*.json")):
        name = f"{folder}/{path.name}"
        try:
            table = read_strict_json(path, name)
            _add_table(graph, name, table)
        except DataError as error:
            graph.faults.append(Fault(kind="table unreadable", path=name, text=str(error)))
    return graph


def _get(value: Any, key: str, kind: type, file: str) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise DataError(file, key, f"is {found!r:.60}, expected {kind.__name__}")
    return found


def read_claims(entries: Any, file: str, *, sized: bool = True) -> dict[str, Claim]:
    """File entries of a record (``{name: {path, bytes, sha256}}``) by name.

    Args:
        entries: as read from JSON.
        file: where they stand.
        sized: whether they say the size, as all but those of a table do.

    Raises:
        DataError: an entry has another form or names a path out of the folder.
    """
    if not isinstance(entries, dict):
        raise DataError(file, None, "lists its files in another form than this code writes")
    return {
        name: Claim(
            path=relative_path(_get(entry, "path", str, file), file),
            sha256=_get(entry, "sha256", str, file),
            bytes=_get(entry, "bytes", int, file) if sized else None,
            recorded_in=file,
        )
        for name, entry in entries.items()
    }


def _add_record(graph: Graph, name: str, record: dict[str, Any]) -> None:
    stage = _get(record, "stage", str, name)
    _get(record, "settings", dict, name)
    inputs = read_claims(record.get("inputs"), name)
    outputs = read_claims(record.get("outputs"), name)
    log = (_get(record, "job", dict, name)).get("log")
    logs = read_claims({"log": log}, name) if log is not None else {}
    own = PurePosixPath(name)
    if own.name.endswith("run.json"):
        strays = [c.path for c in outputs.values() if PurePosixPath(c.path).parent != own.parent]
        if strays:
            text = f"is the record of another run: it says that it wrote {strays[0]}"
            graph.faults.append(Fault(kind="record of another run", path=name, text=text))
            return
    graph.records[name] = record
    graph.claims += [*inputs.values(), *outputs.values(), *logs.values()]
    written = {**outputs, **logs}
    graph.links[name] = Link(
        kind="run",
        path=name,
        facts={key: record[key] for key in _FACTS if key in record},
        parents=tuple(dict.fromkeys(claim.path for claim in inputs.values())),
        beside=tuple(claim.path for claim in written.values()),
    )
    for key, claim in written.items():
        graph.links[claim.path] = Link(
            kind=_kind(stage, key),
            path=claim.path,
            sha256=claim.sha256,
            bytes=claim.bytes,
            recorded_in=name,
            facts=_file_facts(stage, key, record["settings"]),
            parents=(name,),
        )


def _kind(stage: str, key: str) -> str:
    """Kind of an output from its name in the record."""
    if stage == "pretrain" and key == "metrics":
        return "curve"
    return key if key in KINDS else "file"


def _file_facts(stage: str, key: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where a raw file comes from: downloaded, out of a package, the user's own, or computed."""
    if key != "raw":
        return {}
    file = settings.get("file")
    if stage == "fetch" and isinstance(file, dict):
        names = ("name", "urls", "package", "path", "local", "licence")
        origin = next((word for word in ("urls", "package", "local") if file.get(word)), "unknown")
        return {"origin": origin, **{name: file[name] for name in names if name in file}}
    return {"origin": "computed", "simulation": settings.get("simulation")}


def _add_arrays(graph: Graph, name: str, manifest: dict[str, Any]) -> None:
    """Arrays of a store, from its manifest."""
    folder = PurePosixPath(name).parent
    files = _get(manifest, "files", dict, name)
    entries = {key: {**entry, "path": f"{folder}/{key}"} for key, entry in files.items()}
    claims = read_claims(entries, name)
    graph.claims += claims.values()
    (run,) = graph.links[name].parents
    for key, claim in claims.items():
        facts = {word: files[key].get(word) for word in ("dtype", "shape")}
        graph.links[claim.path] = Link(
            kind="array",
            path=claim.path,
            sha256=claim.sha256,
            bytes=claim.bytes,
            recorded_in=name,
            facts=facts,
            parents=(run,),
        )
    beside = (*graph.links[run].beside, *(claim.path for claim in claims.values()))
    graph.links[run] = _changed(graph.links[run], beside=beside)


def _changed(link: Link, **values: Any) -> Link:
    return Link(**{**{name: getattr(link, name) for name in Link.__slots__}, **values})


def _add_origins(graph: Graph) -> None:
    """Files that a run read and that no record says it wrote: a link without parents, a fault."""
    for name, record in graph.records.items():
        for key, claim in read_claims(record["inputs"], name).items():
            if claim.path in graph.links:
                continue
            kind = key if key in KINDS else _NAMES.get(key, "file")
            graph.links[claim.path] = Link(
                kind=kind,
                path=claim.path,
                sha256=claim.sha256,
                bytes=claim.bytes,
                recorded_in=name,
            )
            text = f"no record says which job wrote it; {name} read it"
            graph.faults.append(Fault(kind="record missing", path=claim.path, text=text))


def _add_table(graph: Graph, name: str, table: dict[str, Any]) -> None:
    """Cells of a table, each with the files behind it and its test set's leak report."""
    title = _get(table, "table", str, name)
    rows = {_get(row, "key", str, name): row for row in _get(table, "rows", list, name)}
    columns = {_get(c, "key", str, name): c for c in _get(table, "columns", list, name)}
    leaks = _leaks_by_split(graph)
    for cell in _get(table, "cells", list, name):
        row, column = _get(cell, "row", str, name), _get(cell, "column", str, name)
        if row not in rows or column not in columns:
            raise DataError(name, f"{row}/{column}", "is a cell of no row or column of the table")
        runs = {str(k): entry for k, entry in enumerate(_get(cell, "runs", list, name))}
        claims = read_claims(runs, name, sized=False).values()
        graph.claims += claims
        used = [claim.path for claim in claims]
        facts = {key: cell.get(key) for key in ("value", "std", "n", "values", "reason", "key")} | {
            "table": title,
            "row": row,
            "column": column,
            "row_label": rows[row].get("label"),
            "column_label": columns[column].get("label"),
            "method": rows[row].get("method"),
            "unit": columns[column].get("unit") or rows[row].get("unit") or "",
            "runs": used,
        }
        splits = _splits_behind(graph, used)
        parents = (*used, *(leaks[split] for split in splits if split in leaks))
        link = Link(kind="cell", path=f"{title}/{row}/{column}", facts=facts, parents=parents)
        graph.links[link.path] = _changed(link, recorded_in=name)
    graph.tables[title] = table


def _leaks_by_split(graph: Graph) -> dict[str, str]:
    """Leak report of each split, by the split's path."""
    found = {}
    for name, record in graph.records.items():
        if record["stage"] == "leak":
            split = read_claims(record["inputs"], name).get("split")
            report = read_claims(record["outputs"], name).get("leak")
            if split is not None and report is not None:
                found[split.path] = report.path
    return found


def _splits_behind(graph: Graph, files: list[str]) -> list[str]:
    """Splits of the fine-tuning runs behind metrics files."""
    found: dict[str, None] = {}
    for file in files:
        for link in graph.chain(file) if file in graph.links else ():
            if link.kind == "run" and link.facts["stage"] == "finetune":
                found |= {p: None for p in link.parents if p.endswith(".npz")}
    return list(found)
