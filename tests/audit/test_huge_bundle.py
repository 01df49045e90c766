"""A bundle with a huge configuration or impossible names is refused before anything is laid out."""

from __future__ import annotations

import errno
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from georecon.audit import verify_bundle as module
from georecon.audit.bundle import CONFIG, METADATA
from georecon.audit.verify_bundle import report, verify_bundle
from georecon.errors import DataError
from georecon.experiments.experiments import Experiments
from tests.projects import ROOT

Json = dict[str, Any]


@pytest.fixture(scope="module")
def config() -> str:
    """An honest configuration."""
    return json.dumps(Experiments.load(ROOT / "config", {"edition": "paper"}).as_json())


def bundle(path: Path, config: str, *names: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(METADATA, json.dumps({"@graph": []}))
        archive.writestr(CONFIG, config)
        for name in names:
            archive.writestr(name, "x")
    return path


def seeds(c: Json) -> None:
    c["finetune"]["seeds"] = list(range(100_000))


def sweep(c: Json) -> None:
    table = c["tables"]["noise_scale"]
    table["rows"]["sweep"]["values"] = [k / 1e5 for k in range(50_000)]
    table["columns"] *= 20


def columns(c: Json) -> None:
    c["tables"]["qm9"]["columns"] *= 6000


def methods(c: Json) -> None:
    c["methods"] |= {f"m{k}": {"label": f"m{k}"} for k in range(9000)}


def targets(c: Json) -> None:
    target = next(iter(c["datasets"]["qm9"]["targets"].values()))
    c["datasets"]["qm9"]["targets"] |= {f"t{k}": target for k in range(2500)}


def tables(c: Json) -> None:
    c["tables"] |= {f"t{k}": c["tables"]["qm9"] for k in range(2000)}


def cards(c: Json) -> None:
    c["datasets"] |= {f"d{k}": c["datasets"]["qm9"] for k in range(300)}


def displacements(c: Json) -> None:
    c["smoothness"]["displacements"] = [k / 10 for k in range(1, 100_000)]


def texts(c: Json) -> None:
    c["datasets"]["qm9"]["traps"] = ["a"] * 200_000


def one_text(c: Json) -> None:
    c["datasets"]["qm9"]["title"] = "a" * (2 << 20)


@pytest.mark.parametrize(
    "change",
    [seeds, sweep, columns, methods, targets, tables, cards, displacements, texts, one_text],
)
def test_a_huge_configuration_is_refused_in_under_a_second(
    change: Callable[[Json], None], config: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError):  # imports are made before the time is taken
        verify_bundle(bundle(tmp_path / "small.zip", "{}"))
    document = json.loads(config)
    change(document)
    path = bundle(tmp_path / "x.zip", json.dumps(document))
    start = time.process_time()
    with pytest.raises(DataError, match=CONFIG):
        verify_bundle(path)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize("edition", ["tiny", "laptop", "workstation", "paper"])
def test_the_configurations_of_the_editions_are_far_from_that(edition: str) -> None:
    config = Experiments.load(ROOT / "config", {"edition": edition}).as_json()
    assert len(json.dumps(config, indent=1)) < module._CONFIG_BYTES / 5
    assert sum(1 for _ in module._values(config)) < module._MOST_VALUES / 2
    module._refuse_many_cells(config)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["results/A.csv", "results/a.csv"], "is also there as"),
        (["results/gr\u00f6\u00dfe.csv", "results/gro\u0308SSE.csv"], "is also there as"),
        (["results", "results/a.csv"], "is a file, and"),
        (["n" * 300], "more than 255 bytes"),
        (["a/" + "é" * 200 + "/b"], "more than 255 bytes"),
        (["a/" * 600 + "b"], "relative path"),
    ],
)
def test_names_that_a_file_system_could_not_hold_are_refused(
    names: list[str], words: str, config: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        verify_bundle(bundle(tmp_path / "x.zip", config, *names))


def test_a_full_temporary_folder_is_said(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = bundle(tmp_path / "x.zip", config)
    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    said: list[str] = []
    assert report(path, said.append) == 1
    (line,) = said
    assert "(TMPDIR): the disk or your quota is full" in line
