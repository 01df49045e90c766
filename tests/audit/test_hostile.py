"""Hostile bundles: refused or inert; nothing in them runs, nothing is written outside."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from georecon.audit.bundle import CONFIG
from georecon.audit.page import page
from georecon.audit.verify_bundle import verify_bundle
from georecon.errors import DataError
from georecon.files import read_json, write_json
from tests.audit.tamper import FINETUNE, RESULTS, own_copy, run_audit, seal_all, write_zip
from tests.audit.test_bundle import make
from tests.projects import ROOT, Project

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(600)]

RUN = f"{FINETUNE}/coord/seed1"
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def files(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Content of an honest bundle."""
    made = make(own_copy(finished, tmp_path_factory.mktemp("honest") / "run"))
    with zipfile.ZipFile(made.path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def special(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, mode << 16
    return entry


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.marker), "w")


def bomb() -> bytes:
    return b"0" * (300 << 20)


Extra = tuple[zipfile.ZipInfo | str, bytes]
REFUSED: dict[str, tuple[Callable[[], Extra], str]] = {
    "path escape": (lambda: ("../escaped.txt", b"x"), "unsafe name"),
    "path escape in the middle": (lambda: ("results/../../escaped.txt", b"x"), "unsafe name"),
    "absolute path": (lambda: ("/tmp/escaped.txt", b"x"), "unsafe name"),
    "drive letter": (lambda: ("C:/escaped.txt", b"x"), "unsafe name"),
    "symlink": (lambda: (special("link", stat.S_IFLNK | 0o777), b"/etc/passwd"), "regular file"),
    "device": (lambda: (special("device", stat.S_IFCHR | 0o666), b""), "regular file"),
    "zip bomb": (lambda: ("bomb.txt", bomb()), "unpacks to"),
    "same name in other letters": (lambda: ("CONFIG.JSON", b"{}"), "is also there"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_archive_is_refused(name: str, files: Files, tmp_path: Path) -> None:
    member, words = REFUSED[name]
    path = write_zip(tmp_path / "bundle.zip", files, member())
    before = {p: p.stat().st_mtime for p in [tmp_path, *tmp_path.rglob("*")]}
    with pytest.raises(DataError, match=words):
        verify_bundle(path)
    assert {p: p.stat().st_mtime for p in [tmp_path, *tmp_path.rglob("*")]} == before
    assert not Path("/tmp/escaped.txt").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_given_twice_is_refused(files: Files, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bundle.zip", files, (CONFIG, b"{}"))
    with pytest.raises(DataError, match="twice"):
        verify_bundle(path)


def changed(files: Files, name: str, change: Callable[[dict[str, object]], object]) -> Files:
    document = json.loads(files[name])
    change(document)
    return files | {name: json.dumps(document).encode()}


BAD_CONFIG: dict[str, tuple[Callable[[Files], Files], str]] = {
    "huge JSON": (lambda f: f | {CONFIG: b'{"a": "' + os.urandom(9 << 20).hex().encode() + b'"}'},
                  "bytes of JSON, allowed"),
    "deep JSON": (lambda f: f | {CONFIG: b'{"a":' + b"[" * 100_000}, "nested"),
    "NaN": (lambda f: f | {CONFIG: f[CONFIG][:1] + b'"x": NaN,' + f[CONFIG][1:]}, "NaN"),
    "infinity": (lambda f: f | {CONFIG: f[CONFIG][:1] + b'"x": 1e999,' + f[CONFIG][1:]}, "finite"),
    "wrong types": (lambda f: changed(f, CONFIG, lambda c: c.update(finetune=[1], tables=3)),
                    "no usable configuration"),
    "format string": (
        lambda f: changed(f, CONFIG, lambda c: c["tables"]["qm9"].update(  # type: ignore[index]
            title="{force_title:>99999999999}")), "braces"),
    "objective out of its folder": (
        lambda f: changed(f, CONFIG, lambda c: c["methods"]["coord"].update(  # type: ignore[index]
            objective="../../../x")), "no usable configuration"),
    "path in an edition": (lambda f: changed(f, CONFIG, lambda c: c.update(edition="../../x")),
                           "edition"),
    "path in a table's name": (lambda f: changed(f, CONFIG, lambda c: c["tables"].update(
                               {"../../../x": c["tables"]["qm9"]})),  # type: ignore[index]
                               "letters, digits and _"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CONFIG)
def test_a_hostile_configuration_is_refused(name: str, files: Files, tmp_path: Path) -> None:
    change, words = BAD_CONFIG[name]
    with pytest.raises(DataError, match=words):
        verify_bundle(write_zip(tmp_path / "bundle.zip", change(files)))


def pickled(marker: Path) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    values = np.array([Payload(marker)], dtype=object)
    np.savez(buffer, train=values, val=values, test=values)
    return buffer.getvalue()


BROKEN_FILES: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "pickle in a split": ("resources/splits/qm9/pvd_tiny_draw1.npz", pickled),
    "pickle for predictions": (f"{RUN}/predictions.parquet", lambda m: pickle.dumps(Payload(m))),
    "garbage for predictions": (f"{RUN}/predictions.parquet", lambda m: b"PAR1" + b"\xff" * 500),
    "safetensors with an absurd header": (
        f"{RESULTS}/pretrain/coord/seed1/encoder.safetensors",
        lambda m: struct.pack("<Q", 1 << 60) + b"{}"),
    "metrics of other types": (f"{RUN}/metrics.json", lambda m: b'{"property": [1], "unit": {}}'),
    "record of other types": (f"{RUN}/run.json", lambda m: b'{"stage": [], "settings": "x"}'),
    "table of other types": (
        f"{RESULTS}/tables/qm9.json", lambda m: b'{"table": "qm9", "rows": 1}'),
    "table without cells' runs": (
        f"{RESULTS}/tables/qm9.json",
        lambda m: b'{"table": "qm9", "rows": [{"key": "a"}], "columns": [{"key": "b"}], '
                  b'"cells": [{"row": "a", "column": "b", "runs": []}]}'),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_hostile_file_in_a_bundle_is_a_finding(name: str, files: Files, tmp_path: Path) -> None:
    path, content = BROKEN_FILES[name]
    marker = tmp_path / "marker"
    found = verify_bundle(write_zip(tmp_path / "bundle.zip", files | {path: content(marker)}))
    assert found.status == "broken"
    assert path in {finding.path for finding in found.findings}
    assert not marker.exists(), "code of the bundle ran"
    page(found)


def test_settings_of_other_types_break_no_audit(finished: Project, tmp_path: Path) -> None:
    """Sealed records whose settings have another shape: a finding, no traceback."""
    folder = own_copy(finished, tmp_path / "run")
    record = read_json(folder / RUN / "run.json")
    record["settings"] = {"train": "x", "encoder": 3, "code": ["y"]}
    record["training"] = {"steps": []}
    (folder / RUN / "run.json").unlink()
    write_json(folder / RUN / "run.json", record)
    seal_all(folder)
    found = run_audit(folder)
    assert found.status == "broken"
    assert any(f.path == f"{RUN}/run.json" for f in found.findings)


SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def test_scripts_in_names_labels_and_captions_are_inert(finished: Project, tmp_path: Path) -> None:
    folder = own_copy(finished, tmp_path / "run")
    path = folder / f"{RESULTS}/tables/qm9.json"
    table = read_json(path)
    table["caption"] = table["title"] = SCRIPT
    for row in table["rows"]:
        row["label"] = SCRIPT
    table["rows"][0]["key"] = SCRIPT
    for cell in table["cells"]:
        cell["row"] = SCRIPT if cell["row"] == "baseline" else cell["row"]
        cell["reason"] = SCRIPT
    write_json(path, table)
    found = run_audit(folder)
    assert found.status == "broken"
    text = page(found)
    assert "<script" not in text.lower()
    assert "<img" not in text.lower()
    assert "&lt;script&gt;" in text


def test_a_terminal_is_not_steered(files: Files, tmp_path: Path) -> None:
    name = "results/tiny/\x9b31mred"
    path = write_zip(tmp_path / "bundle.zip", files, (name, b"x"))
    code = "import sys; from georecon.verify_bundle import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, check=False
    )
    assert result.returncode == 1
    assert "\x9b" not in result.stdout.decode()
    assert "x9b" in result.stdout.decode()
