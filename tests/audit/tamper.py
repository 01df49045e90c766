"""Ways to change a finished run: of one file, or with every record sealed anew afterwards."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon import paths
from georecon.audit import Audit, audit
from georecon.audit.bundle import METADATA
from georecon.audit.depth import Depth
from georecon.audit.expected_records import shown_records
from georecon.errors import DataError
from georecon.experiments.experiments import Experiments
from georecon.files import read_json, sha256_file, sha256_json, write_json
from georecon.records.chain import read_graph
from georecon.records.record import record_digest
from georecon.reporting.costs import costs_of
from georecon.reporting.expected import load_expected
from georecon.reporting.figures.inputs import figure_names
from georecon.reporting.summary import banner, write_report
from georecon.reporting.web.plan import site_plan
from georecon.reporting.web.site import write_site
from tests.projects import ROOT, Project

RESULTS = "results/tiny"
FINETUNE = f"{RESULTS}/finetune/property/homo"
NOTEBOOKS = ROOT / "reports" / "notebooks"
PUBLISHED = ROOT / "reports" / "published"
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
SHALLOW = Depth()
EXPECTED = load_expected(ROOT / "reports" / "expected")


def own_copy(project: Project, folder: Path) -> Path:
    """Results and logs copied; resources as hard links, to be replaced and never written into."""
    folder.mkdir()
    for name in ("results", "logs", "config"):
        later = shutil.ignore_patterns(
            "figure", "figures", "notebooks", "report", "summary", "site", "audit*"
        )
        shutil.copytree(project.folder / name, folder / name, ignore=later)
    shutil.copytree(project.folder / "resources", folder / "resources", copy_function=os.link)
    (folder / ".git").symlink_to(project.folder / ".git")  # the commits that records name
    return folder


def run_audit(
    folder: Path, *, bundle: bool = False, depth: Depth = SHALLOW, since: float | None = None
) -> Audit:
    """Audit a tiny run with the configuration that lies there."""
    experiments = Experiments.load(folder / "config", {"edition": "tiny"})
    given = {"bundle": bundle, "code": folder, "depth": depth, "since": since}
    return audit(folder, experiments, EXPECTED, **given)


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a new file in place of the old one, which may be a hard link."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def flip_bit(path: Path, place: float = 0.5) -> None:
    """Flip one bit at a fraction of the file's length."""
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    replace_bytes(path, bytes(data))


def edit_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, (path, old)
    replace_bytes(path, text.replace(old, new, 1).encode())


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file, written as the library writes it."""
    document = read_json(path)
    before = json.dumps(document)
    change(document)
    assert json.dumps(document) != before
    path.unlink()  # may be a hard link
    write_json(path, document)


def seal(folder: Path, *records: str) -> None:
    """Make records say what their files are now, and hold the right digests."""
    for name in records:

        def change(record: dict[str, Any]) -> None:
            entries = [*record["inputs"].values(), *record["outputs"].values()]
            for entry in filter(None, [*entries, record["job"]["log"]]):
                path = folder / entry["path"]
                if path.is_file():
                    entry |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            record["settings_sha256"] = sha256_json(record["settings"])
            record["sealed"] = record.get("sealed", 0) + 1
            record["sha256"] = record_digest(record)

        edit_json(folder / name, change)


def seal_all(folder: Path, *, pages: bool = True) -> None:
    """Seal every record and every table's list of runs anew, as a careful forger would.

    Pages, where there are any, are written again from what there is now.
    """

    def every(pattern: str) -> list[str]:
        return [str(path.relative_to(folder)) for path in sorted(folder.glob(pattern))]

    seal(folder, *every("resources/records/**/*.json"), *every(f"{RESULTS}/**/*run.json"))
    for name in every(f"{RESULTS}/tables/*.json"):
        table = read_json(folder / name)
        for cell in table["cells"]:
            for run in cell["runs"]:
                run["sha256"] = sha256_file(folder / run["path"])
        write_json(folder / name, table)
    seal(folder, *every(f"{RESULTS}/records/**/*.json"))
    if pages and (folder / RESULTS / "report").is_dir():
        with suppress(DataError):  # a record is gone
            write_pages(folder)
        seal(folder, *every(f"{RESULTS}/records/s*/s*.json"))


def rewrite_split(path: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Change a split and its description; read_split would accept its hash."""
    with np.load(path) as archive:
        parts = {name: archive[name] for name in archive.files}
    change(parts)
    path.unlink()
    np.savez(path, **parts)

    def describe(description: dict[str, Any]) -> None:
        description["sha256"] = sha256_file(path)
        description["counts"] = {name: len(ids) for name, ids in parts.items()}

    edit_json(path.with_suffix(".json"), describe)


def rewrite_array(folder: Path, name: str, change: Callable[[np.ndarray], None]) -> None:
    """Change an array of a store and its manifest, so that the store verifies."""
    path = folder / name
    array = np.load(path)
    change(array)
    path.unlink()
    np.save(path, array)

    def describe(manifest: dict[str, Any]) -> None:
        entry = manifest["files"][path.name]
        entry |= {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        hashes = {name: file["sha256"] for name, file in manifest["files"].items()}
        manifest["sha256"] = sha256_json(hashes)

    edit_json(path.parent / "manifest.json", describe)


def write_zip(
    path: Path, files: dict[str, bytes], *extra: tuple[zipfile.ZipInfo | str, bytes]
) -> Path:
    """A zip of these files whose crate lists them with their true hashes."""
    crate = json.loads(files[METADATA])
    listed = {entity["@id"]: entity for entity in crate["@graph"]}
    for name, data in files.items():
        entity = listed.get(name)
        if entity is None:
            entity = {"@id": name, "@type": "File"}
            crate["@graph"].append(entity)
        if name != METADATA:
            entity |= {"sha256": hashlib.sha256(data).hexdigest(), "contentSize": str(len(data))}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, json.dumps(crate) if name == METADATA else data)
        for entry, data in extra:
            archive.writestr(entry, data)
    return path


# ---- pages -------------------------------------------------------------------------------------


def add_pages(folder: Path) -> None:
    """Figures that hold nothing, and the summary and web report of them, each with its record."""
    e = _experiments(folder)
    names = figure_names(e, NOTEBOOKS)
    for name in names:
        stem = e.runs.folder(paths.FIGURE, figure=name)
        for suffix in ("png", "pdf"):
            (folder / f"{stem}.{suffix}").parent.mkdir(exist_ok=True)
            (folder / f"{stem}.{suffix}").write_bytes(PICTURE)
    (folder / RESULTS / "report").mkdir()
    costs = costs_of(read_graph(folder, "tiny"), folder, {})
    write_json(folder / RESULTS / "report/cost.json", costs.as_json())
    write_pages(folder)
    for path, wanted in shown_records(e, EXPECTED, NOTEBOOKS).items():
        stage, name = path.split("/")[-2], path.split("/")[-1].removesuffix(".json")
        outputs = sorted((folder / RESULTS / "report").rglob("*.*"))
        if stage == "figure":
            outputs = sorted((folder / RESULTS / "figures").glob(f"{name}.*"))
        else:
            alone = {"site": "index.html", "cost": "cost.json"}
            wanted_name = alone.get(stage)
            outputs = [
                p
                for p in outputs
                if p.name == wanted_name or not (wanted_name or p.name in alone.values())
            ]
        files = [str(output.relative_to(folder)) for output in outputs]
        _write_record(folder, path, stage, wanted.settings, [*wanted.inputs.values()], files)


def write_pages(folder: Path) -> None:
    """Summary and web report of what there is now."""
    e = _experiments(folder)
    names = figure_names(e, NOTEBOOKS)
    wanted = shown_records(e, EXPECTED, NOTEBOOKS)
    inputs = wanted[f"{RESULTS}/records/summary/summary.json"].inputs
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_report(
            [path for path in inputs if "/tables/" in path],
            [path for path in inputs if path.endswith(".png")],
            [path for path in inputs if path.endswith("run.json")],
            expected=EXPECTED,
            banner=banner(e),
            folder=Path(RESULTS, "report"),
        )
        page = Path(RESULTS, "report", "index.html")
        write_site(site_plan(e, names, PUBLISHED), EXPECTED, page, root=Path(), live=False)


def _experiments(folder: Path) -> Experiments:
    return Experiments.load(folder / "config", {"edition": "tiny"})


def _write_record(
    folder: Path, path: str, stage: str, settings: Any, inputs: list[str], outputs: list[str]
) -> None:
    """A record like that of a table, of another job."""
    record = read_json(folder / f"{RESULTS}/records/table/qm9.json")
    groups = {"inputs": inputs, "outputs": outputs}
    record |= {"stage": stage, "settings": settings, "job": {"log": None}}
    record |= {name: {p: _entry(folder, p) for p in files} for name, files in groups.items()}
    if stage in ("site", "cost"):
        (page,) = record["outputs"].values()
        record["outputs"] = {"page" if stage == "site" else "cost": page}
    record["settings_sha256"] = sha256_json(json.loads(json.dumps(settings)))
    write_json(folder / path, record | {"sha256": record_digest(record)})


def _entry(folder: Path, path: str) -> dict[str, Any]:
    file = folder / path
    return {"path": path, "bytes": file.stat().st_size, "sha256": sha256_file(file)}
