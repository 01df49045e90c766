"""An edition's results as one Workflow Run RO-Crate (zip) that anybody can verify.

In it: tables, figures, report, audit, records, logs, predictions, curves, encoder weights with
model cards, splits, manifests of stores, and the workflow with its configuration. Not in it: raw
files, the stores' arrays, fine-tuned weights and raw test outputs; their hashes stay in the
records.

The same results give the same bytes: no time but those of the records, one order, fixed zip
headers.
"""

from __future__ import annotations

import json
import mimetypes
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from georecon import __version__, paths
from georecon.audit import BROKEN, Audit
from georecon.audit.files import LEFT_OUT
from georecon.audit.findings import Context
from georecon.audit.page import page
from georecon.errors import GeoreconError
from georecon.experiments.cells import Experiments
from georecon.files import atomic_path, sha256_file
from georecon.records.chain import read_graph
from georecon.records.untrusted import read_safetensors

METADATA, CONFIG = "ro-crate-metadata.json", "config.json"
WORKFLOW = ("Snakefile", "rules/*.smk", "workflow/scripts/*.py", "config/**/*.yaml",
            "envs/lock.txt", "reports/expected/*.yaml", "README.md", "LICENSE",
            "CITATION.cff")  # fmt: skip
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
OWN = ("mirror", "offline", "bundle", "cell")
"""Keys of the configuration that say where and what to run, not what the numbers are."""
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A written bundle."""

    path: Path
    sha256: str
    files: int
    bytes: int


def write_bundle(root: Path, experiments: Experiments, audit: Audit, path: Path) -> Bundle:
    """Write the bundle of an audited edition.

    Args:
        root: working folder.
        experiments: configuration of the edition.
        audit: its audit, just made.
        path: zip file to write.

    Raises:
        GeoreconError: a chain is broken, or the edition has no tables.
    """
    if audit.status == BROKEN:
        raise GeoreconError(f"the chain of {audit.edition} is broken: no bundle; see the audit")
    graph = read_graph(root, experiments.edition)
    if not graph.tables:
        raise GeoreconError(f"no tables of edition {audit.edition}: nothing to bundle")
    scope = Context(root, experiments, graph, bundle=False).scope
    names = [name for name, link in scope.items() if _travels(root, name, link.kind)]
    names += [p.relative_to(root).as_posix() for w in WORKFLOW for p in root.glob(w) if p.is_file()]
    folder = experiments.folder(paths.REPORT)
    names += [p.relative_to(root).as_posix() for p in (root / folder).rglob("*") if p.is_file()]
    contents = {name: (root / name).read_bytes for name in sorted(set(names))}
    texts = {
        CONFIG: _json({k: v for k, v in experiments.config.items() if k not in OWN}, order=False),
        f"{experiments.folder(paths.AUDIT)}/index.html": page(audit),
        f"{experiments.folder(paths.AUDIT)}/audit.json": _json(_settled(audit.as_json())),
        **_model_cards(root, experiments, sorted(set(names))),
    }
    hashes = {name: (sha256_file(root / name), (root / name).stat().st_size) for name in contents}
    written = {name: text.encode() for name, text in texts.items()}
    hashes |= {name: (_sha256(data), len(data)) for name, data in written.items()}
    metadata = _json(_crate(experiments, audit, graph.records, hashes))
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted({METADATA, *contents, *written}):
            data = metadata.encode() if name == METADATA else written.get(name)
            archive.writestr(_entry(name), contents[name]() if data is None else data)
    size = path.stat().st_size
    return Bundle(path=path, sha256=sha256_file(path), files=len(hashes) + 1, bytes=size)


def _travels(root: Path, name: str, kind: str) -> bool:
    return kind != "cell" and kind not in LEFT_OUT and (root / name).is_file()


def _settled(document: dict[str, Any]) -> dict[str, Any]:
    """An audit without the time that it took."""
    return {key: value for key, value in document.items() if key != "seconds"}


def _json(value: Any, *, order: bool = True) -> str:
    """JSON with sorted keys or, where their order says something (rows), as they are."""
    text = json.dumps(value, indent=1, sort_keys=order, allow_nan=False, ensure_ascii=False)
    return text + "\n"


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system, entry.external_attr = 3, 0o100644 << 16
    return entry


def _model_cards(root: Path, e: Experiments, names: Iterable[str]) -> dict[str, str]:
    """A card beside each encoder: what it is, how it was made, what it is not for."""
    cards = {}
    for name in [name for name in names if name.endswith("/encoder.safetensors")]:
        folder = name.rpartition("/")[0]
        record = json.loads((root / folder / "run.json").read_text(encoding="utf-8"))
        settings = record["settings"]
        arrays = read_safetensors(root / name, name)
        numbers = sum(array.size for array in arrays.values())
        title = e.card(e.dataset_of("pretrain"))["title"]
        cards[f"{folder}/MODEL_CARD.md"] = "\n".join(
            [
                f"# Encoder {settings['method']}, seed {settings['seed']}, edition {e.edition}",
                "",
                f"Equivariant transformer ({json.dumps(settings['encoder'], sort_keys=True)}), "
                f"{numbers} numbers in `encoder.safetensors` (sha256 {sha256_file(root / name)}).",
                "",
                f"- pre-training: {title}, objective `{settings['objective']}` with "
                f"{json.dumps(settings['params'], sort_keys=True)}, "
                f"{record['training']['steps']} steps of {settings['train']['batch_size']}",
                f"- measures at its best step: {json.dumps(record['final'], sort_keys=True)}",
                f"- made by commit {record['code']['commit']} on {record['compute']['name']} in "
                f"{record['seconds']} s; `run.json` beside it says all",
                "- input: atomic numbers and positions [Å] of a molecule; no charges, no cells",
                "- for: fine-tuning as in this reproduction of arXiv 2506.13174. It predicts "
                "nothing by itself, and elements outside of its pre-training set are unknown to it",
                "- licence: that of the project; the data sets have their own, see "
                "`config/datasets.yaml`",
                "",
            ]
        )
    return cards


def _crate(
    e: Experiments,
    audit: Audit,
    records: Mapping[str, Mapping[str, Any]],
    hashes: Mapping[str, tuple[str, int]],
) -> dict[str, Any]:
    """RO-Crate metadata: one workflow, one run of it, all files with hash and size."""
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    ended = max(str(record["ended"]) for record in records.values())
    started = min(str(record["started"]) for record in records.values())
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
            "description": f"Audit: {audit.outcome()}. Commit {audit.code['commit']}.",
            "startTime": started.replace("Z", "+00:00"),
            "endTime": ended.replace("Z", "+00:00"),
            "actionStatus": "http://schema.org/CompletedActionStatus",
        },
    )
    action["agent"] = contributors
    crate.root_dataset["mentions"] = action
    document: dict[str, Any] = crate.metadata.generate()
    return document


def _add_files(crate: Any, hashes: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    """Entities of all files by name; the Snakefile is the main workflow."""
    files: dict[str, Any] = {}
    for name in sorted(hashes):
        facts = _file_facts(name, *hashes[name])
        if name == "README.md":
            facts["about"] = {"@id": "./"}
        if name != "Snakefile":
            files[name] = crate.add_file(None, name, properties=facts)
            continue
        facts |= {"version": __version__, "conformsTo": {"@id": BIOSCHEMAS}}
        files[name] = crate.add_workflow(None, name, main=True, lang="snakemake", properties=facts)
    return files


def _file_facts(name: str, sha256: str, size: int) -> dict[str, Any]:
    known = {".parquet": "application/vnd.apache.parquet", ".md": "text/markdown",
             ".safetensors": "application/octet-stream", ".npz": "application/x-npz",
             ".yaml": "application/yaml", ".ipynb": "application/x-ipynb+json"}  # fmt: skip
    suffix = Path(name).suffix
    kind = known.get(suffix) or mimetypes.types_map.get(suffix) or "text/plain"
    return {"name": name, "sha256": sha256, "contentSize": str(size), "encodingFormat": kind}
