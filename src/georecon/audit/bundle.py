"""An edition's results as one Workflow Run RO-Crate (zip) that anybody can verify.

In it: tables, figures, report, audit, records, logs, predictions, curves, encoder weights with
model cards, splits, manifests of stores, and the workflow with its configuration; on request
fine-tuned weights and test outputs. Not in it: raw files and the stores' arrays; their hashes stay
in the records.

The same results give the same bytes: no time but those of the records, one order, fixed zip
headers.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import zipfile
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from georecon import __version__, paths
from georecon.audit import BROKEN, Audit
from georecon.audit.files import LEFT_OUT
from georecon.audit.findings import Context
from georecon.audit.page import page
from georecon.errors import GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.files import atomic_path, sha256_file
from georecon.records.chain import Graph, Link, read_graph
from georecon.records.read import Record
from georecon.records.record import FileRecord
from georecon.records.untrusted import check_names, relative_path
from georecon.reporting.model_card import FILE as CARD
from georecon.reporting.model_card import WEIGHTS as WEIGHTS_OF
from georecon.reporting.model_card import CardBook
from georecon.reporting.molecule_sets import molecule_sets

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

METADATA, CONFIG = "ro-crate-metadata.json", "config.json"
WORKFLOW = ("Snakefile", "rules/*.smk", "workflow/scripts/*.py", "config/**/*.yaml",
            "envs/lock.txt", "reports/expected/*.yaml", "README.md", "LICENSE",
            "CITATION.cff")  # fmt: skip
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
CODE = Path(__file__).resolve().parents[3]
"""The workflow that this code is of."""
OWN = ("mirror", "offline", "start_from", "bundle", "bundle_weights", "cell", "depth", "sample",
       "sample_seed", "full")  # fmt: skip
"""Keys of the configuration that say where and what to run, not what the numbers are."""
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
WEIGHTS = ("model", "outputs")
"""Kinds of files that travel on request."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A written bundle."""

    path: Path
    sha256: str
    files: int
    bytes: int


def write_bundle(
    root: Path, experiments: Experiments, audit: Audit, path: Path, *, weights: bool = False
) -> Bundle:
    """Write the bundle of an audited edition.

    Args:
        root: working folder.
        experiments: configuration of the edition.
        audit: its audit, just made.
        path: zip file to write.
        weights: take along what numbers are computed from again: fine-tuned weights, test
            outputs, and raw files that were computed here.

    Raises:
        GeoreconError: a chain is broken, the edition has no tables, or two files have names that
            another machine could not hold beside each other.
    """
    if audit.status == BROKEN:
        raise GeoreconError(f"the chain of {audit.edition} is broken: no bundle; see the audit")
    graph = read_graph(root, experiments.edition)
    if not graph.tables:
        raise GeoreconError(f"no tables of edition {audit.edition}: nothing to bundle")
    scope = Context(root, experiments, graph, bundle=False).scope
    names = [name for name, link in scope.items() if _travels(root, link, weights=weights)]
    code = root if (root / "Snakefile").is_file() else CODE  # elsewhere: --directory, a module
    workflow = {p.relative_to(code).as_posix(): p for w in WORKFLOW for p in code.glob(w)}
    names += [name for name, path in workflow.items() if path.is_file()]
    folder = experiments.runs.folder(paths.REPORT)
    names += [p.relative_to(root).as_posix() for p in (root / folder).rglob("*") if p.is_file()]
    settled = {key: value for key, value in audit.as_json().items() if key != "seconds"}
    places = {
        relative_path(name, path): workflow.get(name, root / name) for name in sorted(set(names))
    }
    texts = {
        CONFIG: _json(
            {k: v for k, v in experiments.as_json().items() if k not in OWN}, order=False
        ),
        f"{experiments.runs.folder(paths.AUDIT)}/index.html": page(audit),
        f"{experiments.runs.folder(paths.AUDIT)}/audit.json": _json(settled),
        **_model_cards(experiments, graph, {*names}),
    }
    written = {name: text.encode() for name, text in texts.items()}
    check_names(sorted({METADATA, *places, *written}), path)
    files = {name: replace(FileRecord.of(p), path=name) for name, p in places.items()}
    files |= {
        name: FileRecord(path=name, bytes=len(data), sha256=_sha256(data))
        for name, data in written.items()
    }
    metadata = _json(_crate(experiments, audit, graph.records.values(), files))
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted({METADATA, *places, *written}):
            data = metadata.encode() if name == METADATA else written.get(name)
            archive.writestr(_entry(name), places[name].read_bytes() if data is None else data)
    size = path.stat().st_size
    return Bundle(path=path, sha256=sha256_file(path), files=len(files) + 1, bytes=size)


def _travels(root: Path, link: Link, *, weights: bool) -> bool:
    if link.kind == "cell" or not (root / link.path).is_file():
        return False
    computed = link.kind == "raw" and link.facts.get("origin") == "computed"
    return link.kind not in LEFT_OUT or (weights and (computed or link.kind in WEIGHTS))


def _json(value: Any, *, order: bool = True) -> str:
    """JSON with sorted keys or, where their order says something (rows), as they are."""
    text = json.dumps(value, indent=1, sort_keys=order, allow_nan=False, ensure_ascii=False)
    return text + "\n"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system, entry.external_attr = 3, 0o100644 << 16
    return entry


def _model_cards(e: Experiments, graph: Graph, names: Set[str]) -> dict[str, str]:
    """A card beside each file of weights that travels."""
    book, found = CardBook(graph, molecule_sets(e)), dict[str, str]()
    for record in graph.records.values():
        claim = record.outputs.get(WEIGHTS_OF.get(record.stage, ""))
        if claim is not None and claim.path in names:
            folder = claim.path.rpartition("/")[0]
            found[f"{folder}/{CARD}"] = book.card(record) or ""
    return found


def _crate(
    e: Experiments, audit: Audit, records: Iterable[Record], hashes: Mapping[str, FileRecord]
) -> dict[str, Any]:
    """RO-Crate metadata: one workflow, one run of it, all files with hash and size."""
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    started, ended = _times(records)
    crate.name = f"GeoRecon reproduced, edition {e.edition}"
    crate.description = (
        "Tables, figures, records, predictions and encoders of one run of the workflow that "
        "regenerates GeoRecon (arXiv 2506.13174) from raw data."
    )
    crate.datePublished = ended
    people = {"@type": "Organization", "name": "The georecon contributors"}
    contributors = crate.add(ContextEntity(crate, "#contributors", properties=people))
    crate.root_dataset["author"] = crate.root_dataset["publisher"] = contributors
    licence = {"@type": "CreativeWork", "name": "MIT", "description": "MIT License"}
    crate.license = crate.add(
        ContextEntity(crate, "https://spdx.org/licenses/MIT", properties=licence)
    )
    crate.metadata.extra_contexts.append("https://w3id.org/ro/terms/workflow-run/context")
    for url, (name, version) in PROFILES.items():
        facts = {"@type": "CreativeWork", "name": name, "version": version}
        profile = crate.add(ContextEntity(crate, url, properties=facts))
        crate.root_dataset.append_to("conformsTo", profile)
    files = _add_files(crate, hashes)
    results = [files[n] for n in sorted(hashes) if n.startswith("results/")]
    inputs = [files[CONFIG], *(files[n] for n in sorted(hashes) if n.startswith("resources/"))]
    action = crate.add_action(
        crate.mainEntity,
        identifier=f"#run-{e.edition}",
        object=inputs,
        result=results,
        properties={
            "@type": "CreateAction",
            "name": f"Run of edition {e.edition}",
            "description": f"Audit: {audit.outcome()}. Commit {audit.code.commit}.",
            "startTime": started.replace("Z", "+00:00"),
            "endTime": ended.replace("Z", "+00:00"),
            "actionStatus": "http://schema.org/CompletedActionStatus",
        },
    )
    action["agent"] = contributors
    crate.root_dataset["mentions"] = action
    return dict(crate.metadata.generate())


def _times(records: Iterable[Record]) -> tuple[str, str]:
    """When the first job of a run began and the last one ended."""
    times = [(record.started, record.ended) for record in records]
    return min(started for started, _ in times), max(ended for _, ended in times)


def _add_files(crate: ROCrate, hashes: Mapping[str, FileRecord]) -> Mapping[str, Entity]:
    """Entities of all files by name; the Snakefile is the main workflow."""
    files: dict[str, Entity] = {}
    for name in sorted(hashes):
        facts: dict[str, object] = {**_file_facts(name, hashes[name])}
        if name == "README.md":
            facts["about"] = {"@id": "./"}
        if name != "Snakefile":
            files[name] = crate.add_file(None, name, properties=facts)
            continue
        facts |= {"version": __version__, "conformsTo": {"@id": BIOSCHEMAS}}
        files[name] = crate.add_workflow(None, name, main=True, lang="snakemake", properties=facts)
    return files


def _file_facts(name: str, file: FileRecord) -> dict[str, str]:
    known = {".parquet": "application/vnd.apache.parquet", ".md": "text/markdown",
             ".safetensors": "application/octet-stream", ".npz": "application/x-npz",
             ".yaml": "application/yaml", ".ipynb": "application/x-ipynb+json"}  # fmt: skip
    suffix = Path(name).suffix
    kind = known.get(suffix) or mimetypes.types_map.get(suffix) or "text/plain"
    return {"name": name, "sha256": file.sha256, "contentSize": str(file.bytes)} | {
        "encodingFormat": kind
    }
