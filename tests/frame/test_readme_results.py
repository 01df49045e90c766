"""README's numbers are written from a run, and say which."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from georecon.files import read_json, write_json
from georecon.reporting.claims import claims_json, verdicts
from georecon.reporting.expected import load_expected
from georecon.reporting.texts import markdown
from tests import toy_results as toy
from tests.frame.repository import load_script
from tests.projects import ROOT


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(ROOT / "docs/readme_results.py")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up tiny edition with three seeds."""
    monkeypatch.chdir(tmp_path)
    found = toy.experiments_of("tiny")
    found = type(found)(toy.replace(found.config, finetune=toy.with_seeds(found, 1, 2, 3)))
    toy.write_results(found)
    tables = [read_json(path) for path in sorted(Path("results/tiny/tables").glob("*.json"))]
    judged = verdicts(load_expected(ROOT / "reports/expected"), tables)
    write_json("results/tiny/report/claims.json", claims_json(judged, "tiny"))
    set_commit(Path("results/tiny"), "0123456789", dirty=False)
    return tmp_path / "results/tiny"


def set_commit(folder: Path, commit: str, *, dirty: bool) -> None:
    for path in folder.glob("finetune/*/*/*/*/run.json"):
        write_json(path, {"code": {"commit": commit, "dirty": dirty}})


def test_every_cell_of_the_table_and_every_decided_claim_is_there(
    script: ModuleType, results: Path
) -> None:
    text = script.section(results)
    table: dict[str, Any] = read_json(results / "tables/qm9.json")
    rows = [line for line in text.splitlines() if line.startswith(("| HOMO", "| α"))]
    assert len(rows) == len(table["columns"])
    assert all(row.count(" | ") == len(table["rows"]) for row in rows)
    assert "commit 0123456" in text
    assert text.count("± ") >= len(table["cells"]) - len(table["columns"])  # one baseline is exact
    claims = read_json(results / "report/claims.json")["verdicts"]
    assert text.count("**undecided**") == sum(
        one["verdict"] == "undecided" and one["effect"] is not None for one in claims
    )


@pytest.mark.parametrize("fault", ["uncommitted", "two versions"])
def test_a_run_of_no_one_version_is_refused(fault: str, script: ModuleType, results: Path) -> None:
    set_commit(results, "0123456789", dirty=fault == "uncommitted")
    if fault == "two versions":
        set_commit(results / "finetune/property/..", "abc", dirty=False)
        first = next(iter(results.glob("finetune/*/*/*/*/run.json")))
        write_json(first, {"code": {"commit": "def", "dirty": False}})
    with pytest.raises(SystemExit, match="one commit is wanted"):
        script.section(results)
    shutil.rmtree(results)


def test_the_readme_has_the_part_once(script: ModuleType) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count(script.BEGIN) == text.count(script.END) == 1
    assert text.index(script.BEGIN) < text.index(script.END)
    assert script.verdicts(read_json(script.EVIDENCE)) in text


# ---- docs/publish_run.py ------------------------------------------------------------------------


@pytest.fixture
def publisher(results: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, and the forms of the made-up tables that it copies."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    for path in results.glob("tables/*.json"):
        path.with_suffix(".md").write_text(markdown(read_json(path)))
        path.with_suffix(".csv").write_text("")
    (results / "figures").mkdir(exist_ok=True)
    (results / "figures/qm9_x.png").write_bytes(b"png")
    return load_script(ROOT / "docs/publish_run.py")


def test_a_published_edition_has_all_tables_records_and_notes(
    publisher: ModuleType, results: Path, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for notes in ("\n", "\nRead this first.\n"):
        publisher.main(["tiny", "--results", str(results), "--docs", str(docs)])
        text = (docs / "tiny.md").read_text()
        assert publisher.NOTES_BEGIN + "\n" in text
        edited = text.replace(publisher.NOTES_BEGIN + "\n", publisher.NOTES_BEGIN + notes)
        (docs / "tiny.md").write_text(edited)
    publisher.main(["tiny", "--results", str(results), "--docs", str(docs)])
    text = (docs / "tiny.md").read_text()
    assert "Read this first." in text
    assert "![qm9_x](tiny/figures/qm9_x.png)" in text
    for path in results.glob("tables/*.json"):
        assert (docs / "tiny/tables" / path.name).read_bytes() == path.read_bytes()
    first = (docs / "tiny/records.tar.xz").read_bytes()
    with tarfile.open(docs / "tiny/records.tar.xz") as archive:
        names = archive.getnames()
    made = {p.relative_to(results).as_posix() for p in results.glob("finetune/*/*/*/*/run.json")}
    assert made <= set(names)
    publisher.main(["tiny", "--results", str(results), "--docs", str(docs)])
    assert (docs / "tiny/records.tar.xz").read_bytes() == first


def test_trainings_of_different_sources_are_refused(
    publisher: ModuleType, results: Path, tmp_path: Path
) -> None:
    paths = sorted(results.glob("finetune/*/*/*/*/run.json"))
    for k, path in enumerate(paths):
        code = {"commit": "abcdefgh" if k else "12345678", "dirty": False}
        write_json(path, {"code": code, "settings": {"code": "same"}})
    publisher.main(["tiny", "--results", str(results), "--docs", str(tmp_path)])
    assert "at commit 1234567 and abcdefg and" in (tmp_path / "tiny.md").read_text()
    write_json(paths[0], {"code": code, "settings": {"code": "another"}})
    with pytest.raises(SystemExit, match="trainings of different sources"):
        publisher.main(["tiny", "--results", str(results), "--docs", str(tmp_path)])


def test_verdicts_are_by_outcome_and_none_is_lost(script: ModuleType, results: Path) -> None:
    claims = read_json(results / "report/claims.json")
    text = script.verdicts(claims)
    assert text.startswith(script.FIRST)
    assert text.endswith(script.LAST)
    shown = [one for one in claims["verdicts"] if one["effect"] is not None]
    assert sum(text.count(f"({name})") for name in {one["table"] for one in shown}) == len(shown)
    absent = len(claims["verdicts"]) - len(shown)
    assert (f"without numbers there: {absent}" in text) == (absent > 0)
    assert script.replaced("a <b> c <d> e", "<b>", "<d>", "new") == "a new e"


def test_an_edition_too_large_for_the_repository_is_refused(
    publisher: ModuleType, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "LIMIT", 100)
    with pytest.raises(SystemExit, match="bytes, allowed 100"):
        publisher.main(["tiny", "--results", str(results), "--docs", str(tmp_path)])
