"""The chains of :mod:`georecon.records.chain` in the order in which a reader follows them."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from georecon.errors import DataError
from georecon.files import sha256_file
from georecon.records.chain import Graph, Link, Run
from georecon.records.read import known
from georecon.records.untrusted import read_strict_json
from georecon.reporting.model_card import CardBook
from georecon.reporting.molecule_sets import MoleculeSet

STATIONS = {
    "Errors on the test molecules": ("metrics",),
    "Prediction of every test molecule": ("predictions",),
    "Fine-tuned model": ("outputs", "model"),
    "Run behind the number": ("run finetune", "run smoothness", "run nve"),
    "Pre-trained encoder": ("encoder",),
    "Pre-training run": ("run pretrain", "run import_encoder"),
    "Split": ("split", "leak"),
    "Store of molecules": ("store",),
    "Raw files": ("raw",),
}
"""Kinds of links at each station, from the number to the raw file."""
STAGES = (
    *("nve", "finetune", "smoothness", "pretrain", "import_encoder", "evaluate", "leak", "split"),
    *("preprocess", "xtb", "fetch"),
)
CURVE_POINTS = 40
OTHER = "Further files and jobs of this chain"


Facts = list[tuple[str, str]]
"""What there is to know, as name and text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkView:
    """A file of a chain as the page's script reads it.

    Attributes:
        path: of the file; ``href`` is its address from the page, None where it is not there.
        sha256: hash that its record says.
        facts: what else there is to know.
        run: number of its own run.
    """

    path: str
    href: str | None
    sha256: str | None
    facts: Facts
    run: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """A run as the page's script reads it.

    ``inputs`` and ``outputs`` are numbers of links, ``curve`` is its held-out score by step,
    ``card`` the model card of the weights that it wrote.
    """

    name: str
    path: str
    stage: str
    facts: Facts
    settings: dict[str, Any]
    curve: list[tuple[int, float]]
    card: str | None
    inputs: list[int]
    outputs: list[int]


class Number(NamedTuple):
    """A number to sort by and its text; both empty where there is none."""

    value: float | str
    text: str


class RunRow(NamedTuple):
    """A line of the table of runs; ``numbers`` are seed, steps, best score and seconds."""

    name: str
    stage: str
    numbers: list[Number]
    device: str
    started: str
    commit: str


class RawRow(NamedTuple):
    """A raw file and its hash."""

    path: str
    sha256: str | None


class SetRow(NamedTuple):
    """A line of the table of molecule sets: one store of one set.

    Attributes:
        about: the set.
        store: its folder; None if the edition lacks the set.
        molecules: how many the store holds; None if there is none.
        reason: why there is no store; None if there is.
        raw: raw files that the store was made from.
        chain: paths of all links behind the store.
    """

    about: MoleculeSet
    store: str | None
    molecules: int | None
    reason: str | None
    raw: list[RawRow]
    chain: list[str]


def link_kind(link: Link) -> str:
    """Kind of a link; of a run with its stage."""
    return f"run {link.record.stage}" if isinstance(link, Run) else link.kind


def stations(links: Iterable[Link]) -> list[tuple[str, list[str]]]:
    """Paths of a chain's links by station; links of no station come last, under ``OTHER``."""
    place = {kind: title for title, kinds in STATIONS.items() for kind in kinds}
    found: dict[str, list[str]] = {title: [] for title in (*STATIONS, OTHER)}
    for link in links:
        if link.kind != "cell":
            found[place.get(link_kind(link), OTHER)].append(link.path)
    return [(title, sorted(own)) for title, own in found.items() if own]


def cell_chain(graph: Graph, place: str, files: Sequence[str]) -> list[Link]:
    """Links behind a cell: those of the graph's cell, or of its files where no table has it yet."""
    if place in graph.links:
        return graph.chain(place)
    starts = [file for file in files if file in graph.links]
    return list({link.path: link for file in starts for link in graph.chain(file)}.values())


def run_facts(run: Run) -> Facts:
    """What there is to know of a run."""
    record = run.record
    training, code, compute = record.training, record.code, record.compute
    changed = " with uncommitted changes" if code.dirty else ""
    entries = {
        "seed": record.seed,
        "steps": training.steps,
        "best step, score": _pair(training.best_step, training.best_score),
        "configuration sha256": record.settings_sha256,
        "code": f"{code.commit or 'not recorded'}{changed}",
        "device": f"{compute.device or '?'}, {compute.name or '?'}, "
        f"{'?' if compute.threads is None else compute.threads} threads",
        "wall time": f"{record.seconds} s" if record.seconds is not None else None,
        "started": record.started,
        "Slurm job": record.slurm,
        "taken from": record.imported and f"{record.imported.name}, {record.imported.sha256}",
        "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
    }
    return [(name, str(value)) for name, value in entries.items() if value not in (None, "")]


def _pair(step: int | None, score: float | None) -> str | None:
    return None if step is None or score is None else f"{step}, {score:.6g}"


def link_facts(link: Link) -> Facts:
    """Facts of a file: its size, and for a raw file where it came from."""
    entries = {"size": f"{link.bytes:,} bytes" if link.bytes is not None else None}
    for name, value in link.facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        entries[name] = None if value in (None, [], {}) else text
    return [(name, text) for name, text in entries.items() if text is not None]


def address(path: str, folder: str) -> str:
    """Where a page in a folder finds a file; both in the working folder."""
    return quote(os.path.relpath(path, folder))


class ChainBook:
    """Links and runs that the page shows, each once, by number.

    Args:
        graph: of the edition.
        shown: paths of the links; those of no link are left out.
        root: working folder; records are hashed there, as no other record says their hash.
        folder: of the page, in the working folder.
        cards: model cards of the edition.
    """

    def __init__(
        self, graph: Graph, shown: Iterable[str], root: Path, folder: str, cards: CardBook
    ) -> None:
        self.links = [graph.links[path] for path in dict.fromkeys(shown) if path in graph.links]
        runs = (link for link in self.links if isinstance(link, Run))
        self.runs = sorted(runs, key=_from_the_number_down)
        self.number = {link.path: k for k, link in enumerate(self.links)}
        self.run_number = {link.path: k for k, link in enumerate(self.runs)}
        self.root, self.folder, self.cards = root, folder, cards
        self.curves = {link.path for link in self.links if link.kind == "curve"}

    def as_json(self) -> dict[str, Any]:
        """``links`` and ``runs`` as the page's script reads them."""
        return {
            "links": [asdict(self._link(link)) for link in self.links],
            "runs": [asdict(self._run(run)) for run in self.runs],
        }

    def _link(self, link: Link) -> LinkView:
        sha256 = link.sha256
        if isinstance(link, Run) and (self.root / link.path).is_file():
            sha256 = sha256_file(self.root / link.path)
        there = (self.root / link.path).is_file()
        return LinkView(
            path=link.path,
            href=address(link.path, self.folder) if there else None,
            sha256=sha256,
            facts=link_facts(link),
            run=self.run_number.get(link.path),
        )

    def _run(self, run: Run) -> RunView:
        return RunView(
            name=run_name(run),
            path=run.path,
            stage=run.record.stage,
            facts=run_facts(run),
            settings=run.record.settings,
            curve=[
                point
                for path in run.beside
                if path in self.curves
                for point in held_out_scores(self.root / path)
            ],
            card=self.cards.card(run.record),
            inputs=[self.number[path] for path in run.parents if path in self.number],
            outputs=[self.number[path] for path in run.beside if path in self.number],
        )

    def numbers(self, chain: Sequence[tuple[str, Sequence[str]]]) -> list[Any]:
        """Stations with the numbers of their links."""
        return [[title, [self.number[path] for path in own]] for title, own in chain]

    def commits(self) -> list[str]:
        """Code versions behind the runs; a + where tracked files differed from the commit."""
        return sorted({row.commit for row in self.run_rows()} - {""})

    def ended(self) -> str:
        """When the last of the runs ended."""
        return max((run.record.ended for run in self.runs), default="")

    def run_rows(self) -> list[RunRow]:
        """One row a run for the page's table of runs."""
        return [_run_row(run) for run in self.runs]


def held_out_scores(curve: Path) -> list[tuple[int, float]]:
    """Step and held-out score of at most ``CURVE_POINTS`` evenly chosen rows of a curve, sorted.

    Empty for a file that is none: a page shows what there is, the audit says what is wrong.
    """
    try:
        with open(curve, newline="", encoding="utf-8") as handle:
            rows = [(int(row["step"]), row["val_score"]) for row in csv.DictReader(handle)]
        points = [(step, float(f"{float(score):.5g}")) for step, score in rows if score]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []
    points = sorted(point for point in points if math.isfinite(point[1]))
    every = math.ceil(len(points) / CURVE_POINTS) or 1
    return points[::-every][::-1]  # the last one always


def _from_the_number_down(run: Run) -> tuple[int, str]:
    """Order of runs: stages as a chain meets them, then by path."""
    stage = run.record.stage
    return (STAGES.index(stage) if stage in STAGES else len(STAGES), run.path)


def run_name(run: Run) -> str:
    """The run's own name, or its stage and what it is about, from its record's path."""
    name = run.record.settings.get("name")
    if name:
        return str(name)
    path = Path(run.path.removesuffix(".json"))
    if "records" in path.parts:
        about = path.parts[path.parts.index("records") + 2 :]
    else:
        about = path.parent.parts[3:]
    return f"{run.record.stage} {'/'.join(about)}"


def _run_row(run: Run) -> RunRow:
    record, training = run.record, run.record.training
    numbers = (
        record.seed,
        training.steps,
        training.best_score,
        record.seconds,
    )
    return RunRow(
        name=run_name(run),
        stage=record.stage,
        numbers=[Number("", "") if v is None else Number(v, f"{v:.6g}") for v in numbers],
        device=record.compute.device or "",
        started=record.started.replace("T", " ").removesuffix("Z"),
        commit=(record.code.commit or "")[:10] + ("+" if record.code.dirty else ""),
    )


def set_rows(graph: Graph, sets: Iterable[MoleculeSet], root: Path) -> list[SetRow]:
    """One row for each store of each molecule set, with its raw files.

    Args:
        graph: of the edition.
        sets: of the site's plan.
        root: working folder.
    """
    return [_set_row(graph, one, store, root) for one in sets for store in (one.stores or (None,))]


def _set_row(graph: Graph, about: MoleculeSet, store: str | None, root: Path) -> SetRow:
    if store is None:
        return SetRow(about, None, None, about.missing, [], [])
    manifest, molecules, reason = f"{store}/manifest.json", None, about.missing
    try:
        counts = read_strict_json(root / manifest, manifest).get("counts")
        molecules = known(counts, "molecules", int, manifest)
    except DataError as error:
        reason = f"not made yet: {error}"
    chain = graph.chain(manifest) if manifest in graph.links else []
    raw = sorted((link.path, link.sha256) for link in chain if link.kind == "raw")
    rows = [RawRow(path, sha256) for path, sha256 in raw]
    return SetRow(about, store, molecules, reason, rows, [link.path for link in chain])
