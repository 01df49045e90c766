"""Two results that differ in one thing: the thing is named, and so is where histories part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from georecon.audit import diff
from georecon.files import read_json, write_json
from georecon.records.chain import read_graph
from tests.projects import Project

pytestmark = pytest.mark.workflow
CELL = "qm9/coord/homo"
ENCODER = "results/tiny/pretrain/coord/seed1/run.json"
RUN = "results/tiny/finetune/property/homo/coord/seed1/run.json"


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = read_json(path)
    change(content)
    write_json(path, content)


def move_cell(folder: Path, by: float, spread: float | None = None) -> None:
    """Another number in the cell, as another run would have given."""

    def change(table: dict[str, Any]) -> None:
        for cell in table["cells"]:
            if (cell["row"], cell["column"]) == ("coord", "homo"):
                cell["value"] += by
                cell["values"] = {seed: v + by for seed, v in cell["values"].items()}

    def widen(table: dict[str, Any]) -> None:
        for cell in table["cells"]:
            if (cell["row"], cell["column"]) == ("coord", "homo"):
                cell["low"], cell["high"] = cell["value"] - spread, cell["value"] + spread

    changed(folder / "results/tiny/tables/qm9.json", change)
    if spread is not None:
        changed(folder / "results/tiny/tables/qm9.json", widen)


def compared(first: Project, second: Project) -> diff.Difference:
    graphs = [read_graph(project.folder, "tiny") for project in (first, second)]
    return diff.compare(graphs[0], graphs[1], ("first", "second"))


def seed(record: dict[str, Any]) -> None:
    record["settings"]["seed"] = 7


def line_of_code(record: dict[str, Any]) -> None:
    record["settings"]["code"] = "0" * 64


def package(record: dict[str, Any]) -> None:
    record["versions"]["torch"] = "9.9.9"


def test_equal_results_do_not_differ(finished: Project) -> None:
    found = compared(finished, finished)
    assert (found.cells, found.causes, found.parted) == ((), (), None)
    assert found.same > 20
    assert list(found.lines())[-1] == f"cells: {found.same} equal in every digit"


@pytest.mark.parametrize(
    ("path", "change", "kind", "words"),
    [
        (ENCODER, seed, "settings", "seed is 1, in B 7"),
        (RUN, line_of_code, "code", "A is of commit"),
        (RUN, package, "versions", 'torch is "'),
    ],
)
def test_what_differs_in_a_job_is_named(
    path: str, change: Callable[[dict[str, Any]], None], kind: str, words: str,
    finished: Project, working: Project,
) -> None:  # fmt: skip
    changed(working.folder / path, change)
    move_cell(working.folder, 0.5)
    found = compared(finished, working)
    assert [cell.cell for cell in found.cells if cell.cell.startswith("qm9/")] == [CELL]
    assert found.parted is not None
    cell, cause = found.parted
    assert (cell, cause.kind) == (CELL, kind)
    assert cause.path == path.replace("results/tiny", "results/*")
    assert words in cause.text
    assert cause in found.causes


def test_raw_files_come_before_all_that_was_made_from_them(
    finished: Project, working: Project
) -> None:
    records = working.folder / "resources/records"
    shutil.rmtree(records)  # links to what all tests share
    shutil.copytree(finished.folder / "resources/records", records)
    (record, *_) = sorted(records.glob("fetch/qm9/*.json"))

    def other_file(content: dict[str, Any]) -> None:
        for entry in content["outputs"].values():
            entry["sha256"] = "f" * 64

    changed(record, other_file)
    changed(working.folder / RUN, seed)
    move_cell(working.folder, 0.5)
    found = compared(finished, working)
    assert found.parted is not None
    assert found.parted[1].kind == "data"
    assert found.parted[1].text.endswith("ffffffffffff in B")
    assert {cause.kind for cause in found.causes} == {"data", "settings"}


@pytest.mark.parametrize(
    ("by", "spread", "verdict"),
    [(0.5, None, diff.DIFFERS), (0.5, 0.1, diff.BEYOND), (0.5, 0.4, diff.WITHIN)],
)
def test_a_difference_is_judged_by_both_intervals(
    by: float, spread: float | None, verdict: str, finished: Project, working: Project
) -> None:
    first = finished.copy(working.folder.parent / "first")
    if spread is not None:
        move_cell(first.folder, 0.0, spread)
    move_cell(working.folder, by, spread)
    (found,) = compared(first, working).cells
    assert (found.cell, found.verdict) == (CELL, verdict)


def test_the_command_in_all_its_forms(
    finished: Project, working: Project, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    move_cell(working.folder, 0.5)
    changed(working.folder / RUN, lambda record: record["settings"].update(method="<b>x</b>"))
    page, text = tmp_path / "d.html", tmp_path / "d.json"
    words = [str(finished.folder), str(working.folder), "--html", str(page), "--json", str(text)]
    monkeypatch.setattr("sys.argv", ["georecon diff", *words])
    assert diff.main() == 1
    assert f"  differs: {CELL}: " in capsys.readouterr().out
    assert "<b>x</b>" not in page.read_text()
    assert "&lt;b&gt;x&lt;/b&gt;" in page.read_text()
    assert json.loads(text.read_text())["cells"][0]["cell"] == CELL
    monkeypatch.setattr("sys.argv", ["georecon diff", *words[:1] * 2])
    assert diff.main() == 0
    monkeypatch.setattr("sys.argv", ["georecon diff", str(finished.folder), str(tmp_path)])
    assert diff.main() == 2
    assert "edition is None; results there: none" in capsys.readouterr().err
