"""Ways to change a finished run: of one file, or with every record sealed anew afterwards."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from georecon.audit import Audit, audit
from georecon.audit.depth import Depth
from georecon.experiments.experiments import Experiments
from georecon.files import read_json, sha256_file, sha256_json, write_json
from georecon.records.record import record_digest
from georecon.reporting.expected import load_expected
from tests.projects import ROOT, Project

RESULTS = "results/tiny"
FINETUNE = f"{RESULTS}/finetune/property/homo"
SHALLOW = Depth()
EXPECTED = load_expected(ROOT / "reports" / "expected")


def own_copy(project: Project, folder: Path) -> Path:
    """Results and logs copied; resources as hard links, to be replaced and never written into."""
    folder.mkdir()
    for name in ("results", "logs", "config"):
        later = shutil.ignore_patterns(
            "figure", "figures", "notebooks", "report", "summary", "audit*"
        )
        shutil.copytree(project.folder / name, folder / name, ignore=later)
    shutil.copytree(project.folder / "resources", folder / "resources", copy_function=os.link)
    (folder / ".git").symlink_to(project.folder / ".git")  # the commits that records name
    return folder


def run_audit(folder: Path, *, bundle: bool = False, depth: Depth = SHALLOW) -> Audit:
    """Audit a tiny run with the configuration that lies there."""
    experiments = Experiments.load(folder / "config", {"edition": "tiny"})
    return audit(folder, experiments, EXPECTED, bundle=bundle, code=folder, depth=depth)


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
            for group in ("inputs", "outputs"):
                for entry in record[group].values():
                    path = folder / entry["path"]
                    entry |= {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            record["settings_sha256"] = sha256_json(record["settings"])
            record["sealed"] = "again"
            record["sha256"] = record_digest(record)

        edit_json(folder / name, change)


def seal_all(folder: Path) -> None:
    """Seal every record and every table's list of runs anew, as a careful forger would."""

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
