"""The chains of :mod:`georecon.records.chain` in the order in which a reader follows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from georecon.errors import DataError
from georecon.files import sha256_file
from georecon.records.chain import Graph, Link
from georecon.records.untrusted import read_strict_json

STATIONS = {
    "Errors on the test molecules": ("metrics",),
    "Prediction of every test molecule": ("predictions",),
    "Fine-tuned model": ("outputs", "model"),
    "Run behind the number": ("run finetune", "run smoothness"),
    "Pre-trained encoder": ("encoder",),
    "Pre-training run": ("run pretrain",),
    "Split": ("split", "leak"),
    "Store of molecules": ("store",),
    "Raw files": ("raw",),
}
"""Kinds of links at each station, from the number to the raw file."""
STAGES = ("finetune", "smoothness", "pretrain", "evaluate", "leak", "split", "preprocess", "fetch")
OTHER = "Further files and jobs of this chain"


def link_kind(link: Link) -> str:
    """Kind of a link; of a run with its stage."""
    return f"run {link.facts.get('stage')}" if link.kind == "run" else link.kind


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


def run_facts(link: Link) -> list[tuple[str, str]]:
    """What there is to know of a run, as name and text."""
    facts = link.facts
    training, code = facts.get("training") or {}, facts.get("code") or {}
    compute, job = facts.get("compute") or {}, facts.get("job") or {}
    commit = code.get("commit") or "not recorded"
    changed = " with uncommitted changes" if code.get("dirty") else ""
    versions = facts.get("versions") or {}
    entries = {
        "seed": facts.get("seed"),
        "steps": training.get("steps"),
        "best step, score": _pair(training.get("best_step"), training.get("best_score")),
        "configuration sha256": facts.get("settings_sha256"),
        "code": f"{commit}{changed}",
        "device": f"{compute.get('device', '?')}, {compute.get('name', '?')}, "
        f"{compute.get('threads', '?')} threads",
        "wall time": f"{facts['seconds']} s" if "seconds" in facts else None,
        "started": facts.get("started"),
        "Slurm job": job.get("slurm"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return [(name, str(value)) for name, value in entries.items() if value not in (None, "")]


def _pair(first: Any, second: Any) -> str | None:
    return None if first is None else f"{first}, {second:.6g}"


def link_facts(link: Link) -> list[tuple[str, str]]:
    """Facts of a file: its size, and for a raw file where it came from."""
    entries = {"size": f"{link.bytes:,} bytes" if link.bytes is not None else None}
    for name, value in link.facts.items() if link.kind != "run" else ():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        entries[name] = None if value in (None, [], {}) else text
    return [(name, text) for name, text in entries.items() if text is not None]


class ChainBook:
    """Links and runs that the page shows, each once, by number.

    Args:
        graph: of the edition.
        shown: paths of the links; those of no link are left out.
        root: working folder; records are hashed there, as no other record says their hash.
    """

    def __init__(self, graph: Graph, shown: Iterable[str], root: Path) -> None:
        self.links = [graph.links[path] for path in dict.fromkeys(shown) if path in graph.links]
        runs = (link for link in self.links if link.kind == "run")
        self.runs = sorted(runs, key=_from_the_number_down)
        self.number = {link.path: k for k, link in enumerate(self.links)}
        self.run_number = {link.path: k for k, link in enumerate(self.runs)}
        self.root = root

    def as_json(self) -> dict[str, Any]:
        """``links`` and ``runs`` as the page's script reads them."""
        return {
            "links": [self._link(link) for link in self.links],
            "runs": [self._run(link) for link in self.runs],
        }

    def _link(self, link: Link) -> dict[str, Any]:
        sha256 = link.sha256
        if link.kind == "run" and (self.root / link.path).is_file():
            sha256 = sha256_file(self.root / link.path)
        return {
            "path": link.path,
            "sha256": sha256,
            "facts": link_facts(link),
            "run": self.run_number.get(link.path),
        }

    def _run(self, link: Link) -> dict[str, Any]:
        settings = link.facts.get("settings") or {}
        return {
            "name": run_name(link),
            "path": link.path,
            "stage": str(link.facts.get("stage")),
            "facts": run_facts(link),
            "settings": settings,
            "inputs": [self.number[path] for path in link.parents if path in self.number],
            "outputs": [self.number[path] for path in link.beside if path in self.number],
        }

    def numbers(self, chain: Sequence[tuple[str, Sequence[str]]]) -> list[Any]:
        """Stations with the numbers of their links."""
        return [[title, [self.number[path] for path in own]] for title, own in chain]

    def commits(self) -> list[str]:
        """Code versions behind the runs; a + where tracked files differed from the commit."""
        return sorted({row["commit"] for row in self.run_rows()} - {""})

    def ended(self) -> str:
        """When the last of the runs ended."""
        return max((str(link.facts.get("ended", "")) for link in self.runs), default="")

    def run_rows(self) -> list[dict[str, Any]]:
        """One row a run for the page's table of runs."""
        return [_run_row(link) for link in self.runs]


def _from_the_number_down(link: Link) -> tuple[int, str]:
    """Order of runs: stages as a chain meets them, then by path."""
    stage = link.facts.get("stage")
    return (STAGES.index(stage) if stage in STAGES else len(STAGES), link.path)


def run_name(link: Link) -> str:
    """The run's own name, or its stage and what it is about, from its record's path."""
    settings, stage = link.facts.get("settings") or {}, link.facts.get("stage")
    if settings.get("name"):
        return str(settings["name"])
    path = Path(link.path.removesuffix(".json"))
    if "records" in path.parts:
        about = path.parts[path.parts.index("records") + 2 :]
    else:
        about = path.parent.parts[3:]
    return f"{stage} {'/'.join(about)}"


def _run_row(link: Link) -> dict[str, Any]:
    facts = link.facts
    training, code = facts.get("training") or {}, facts.get("code") or {}
    numbers = (
        facts.get("seed"),
        training.get("steps"),
        training.get("best_score"),
        facts.get("seconds"),
    )
    return {
        "name": run_name(link),
        "stage": facts.get("stage"),
        "numbers": [("" if v is None else v, "" if v is None else f"{v:.6g}") for v in numbers],
        "device": (facts.get("compute") or {}).get("device", ""),
        "started": str(facts.get("started", "")).replace("T", " ").removesuffix("Z"),
        "commit": (code.get("commit") or "")[:10] + ("+" if code.get("dirty") else ""),
    }


def set_rows(graph: Graph, sets: Iterable[Mapping[str, Any]], root: Path) -> list[dict[str, Any]]:
    """One row for each store of each molecule set, with its raw files.

    Args:
        graph: of the edition.
        sets: of the site's plan.
        root: working folder.
    """
    rows = []
    for entry in sets:
        for store in entry["stores"] or [None]:
            manifest = f"{store}/manifest.json"
            row = {**entry, "store": store, "raw": [], "molecules": "", "chain": []}
            row["reason"] = entry["missing"]
            if store is not None:
                try:
                    content = read_strict_json(root / manifest, manifest)
                    row["molecules"] = content.get("counts", {}).get("molecules", "")
                except DataError as error:
                    row["reason"] = f"not made yet: {error}"
                chain = graph.chain(manifest) if manifest in graph.links else []
                raw = sorted((link.path, link.sha256) for link in chain if link.kind == "raw")
                row["raw"] = [{"path": path, "sha256": sha256} for path, sha256 in raw]
                row["chain"] = [link.path for link in chain]
            rows.append(row)
    return rows
