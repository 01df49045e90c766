"""Tables: exact numbers from files, and four formats that say the same."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from georecon.errors import DataError
from georecon.experiments.specs import TableSpec
from georecon.files import sha256_file, write_json
from georecon.reporting.latex import latex
from georecon.reporting.latex_text import latex_escape, latex_unit
from georecon.reporting.layout import shown_cells
from georecon.reporting.tables import build, lookup, trajectory_sentences, write_table
from georecon.reporting.texts import csv_text, markdown
from georecon.units import EV_TO_KCAL_MOL

VALUES = {1: 0.0123, 2: 0.0456, 3: 0.0311}
REASON = "MD22 comes with the paper edition"


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    """Two rows and three columns: a converted mean, a ratio and an empty column."""
    files, others = {}, {}
    for seed, value in VALUES.items():
        files[seed], others[seed] = (str(tmp_path / f"{name}{seed}.json") for name in "ab")
        write_json(
            files[seed], {"property": {"mae": value, "baseline_mae": 0.5}, "x/0.01": {"s": 3.0}}
        )
        write_json(others[seed], {"property": {"mae": 4.0}, "x/0.01": {"s": 2.0}})
    plain = {"files": files, "key": ["property", "mae"], "unit": "eV"}
    base = {"files": files, "key": ["property", "baseline_mae"], "unit": "eV"}
    one = {"files": {1: files[1]}, "key": ["x/0.01", "s"], "unit": "1/Å"}
    ratio = {**one, "divide_by": {1: others[1]}}
    return {
        "table": "toy_1",
        "edition": "laptop",
        "title": "Toy: 100 % of it",
        "caption": "A caption with a_b & σ.",
        "compare": [],
        "rows": [
            {"key": "baseline", "label": "Training mean", "method": "scratch", "unit": ""},
            {"key": "mine", "label": "Mine & yours", "method": "mine", "unit": ""},
        ],
        "columns": [
            {"key": "homo", "label": "E_HOMO", "unit": "meV"},
            {"key": "ratio", "label": "ratio", "unit": ""},
            {"key": "md22", "label": "MD22", "unit": "kcal/mol"},
        ],
        "cells": [
            {"row": "baseline", "column": "homo", **base},
            {"row": "baseline", "column": "ratio", **one, "unit": ""},
            {"row": "baseline", "column": "md22", "reason": REASON},
            {"row": "mine", "column": "homo", **plain},
            {"row": "mine", "column": "ratio", **ratio},
            {"row": "mine", "column": "md22", "reason": REASON},
        ],
    }


@pytest.fixture
def table(spec: dict[str, Any]) -> dict[str, Any]:
    return build(TableSpec.from_json(spec), [])


def cell(table: dict[str, Any], row: str, column: str) -> dict[str, Any]:
    (found,) = (c for c in table["cells"] if (c["row"], c["column"]) == (row, column))
    return found


def test_mean_std_and_n_are_those_of_the_files(table: dict[str, Any]) -> None:
    found = cell(table, "mine", "homo")
    numbers = [1000 * value for value in VALUES.values()]
    assert found["n"] == 3
    assert found["value"] == pytest.approx(statistics.fmean(numbers), rel=1e-14)
    half = 4.302653 * statistics.stdev(numbers) / math.sqrt(3)  # Student's table
    assert found["high"] - found["value"] == pytest.approx(half, rel=1e-6)
    assert found["value"] - found["low"] == pytest.approx(half, rel=1e-6)
    assert found["std"] == pytest.approx(statistics.stdev(numbers), rel=1e-12)
    assert found["values"] == pytest.approx(
        {str(k): 1000 * v for k, v in VALUES.items()}, rel=1e-14
    )


def test_one_seed_has_no_std(table: dict[str, Any]) -> None:
    found = cell(table, "baseline", "ratio")
    assert (found["value"], found["std"], found["n"]) == (3.0, None, 1)
    assert (found["low"], found["high"]) == (None, None)


def test_ratio_divides_seed_by_seed(table: dict[str, Any]) -> None:
    found = cell(table, "mine", "ratio")
    assert found["value"] == 1.5
    assert len(found["runs"]) == 2


def test_every_number_names_its_files_and_their_hashes(table: dict[str, Any]) -> None:
    for found in table["cells"]:
        assert bool(found["runs"]) == (found["value"] is not None)
        for run in found["runs"]:
            assert run["sha256"] == sha256_file(run["path"])


def test_row_units_apply_where_columns_have_none(spec: dict[str, Any]) -> None:
    spec["columns"][0]["unit"] = ""
    for row in spec["rows"]:
        row["unit"] = "kcal/mol"
    spec["cells"] = [c for c in spec["cells"] if c["column"] == "homo"]
    spec["columns"] = spec["columns"][:1]
    found = cell(build(TableSpec.from_json(spec), []), "mine", "homo")
    expected = statistics.fmean(VALUES.values()) * EV_TO_KCAL_MOL
    assert found["value"] == pytest.approx(expected, rel=1e-12)


def test_empty_cell_carries_its_reason(table: dict[str, Any]) -> None:
    found = cell(table, "mine", "md22")
    assert (found["value"], found["std"], found["n"], found["reason"]) == (None, None, 0, REASON)
    assert shown_cells(table)["mine", "md22"].text == "–"
    for text in (markdown(table), latex(table)):
        assert " ".join(text.split()).count(REASON) == 1
    assert csv_text(table).count(REASON) == 2


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "1.0", True, [1.0], {}])
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"metrics\.json.*property\.mae.*not a finite number"):
        lookup({"property": {"mae": value}}, ["property", "mae"], "metrics.json")


@pytest.mark.parametrize("document", [{}, {"property": {}}, {"property": 3}, [], None])
def test_missing_key_names_file_and_key(document: Any) -> None:
    with pytest.raises(DataError, match=r"metrics\.json.*property\.mae.*missing"):
        lookup(document, ["property", "mae"], "metrics.json")


@pytest.mark.parametrize("text", ['{"property": {"mae": NaN}}', '{"property": {"mse": 1}}', "{}"])
def test_bad_metrics_file_stops_the_table(text: str, spec: dict[str, Any]) -> None:
    path = Path(spec["cells"][3]["files"][2])
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(path.name)):
        build(TableSpec.from_json(spec), [])


@pytest.mark.parametrize("text", ["", '{"property": {"mae": 0.1'])
def test_torn_metrics_file_stops_the_table_by_name(text: str, spec: dict[str, Any]) -> None:
    path = Path(spec["cells"][3]["files"][2])
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(path.name)):
        build(TableSpec.from_json(spec), [])


def test_ratio_to_zero_is_refused(spec: dict[str, Any]) -> None:
    path = Path(spec["cells"][4]["divide_by"][1])
    path.write_text('{"x/0.01": {"s": 0.0}}')
    with pytest.raises(DataError, match=re.escape(path.name)):
        build(TableSpec.from_json(spec), [])


# ---- formats ---------------------------------------------------------------------------------


def grid_of_markdown(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[part.strip() for part in row.strip("|").split("|")] for row in rows]


def test_formats_agree(table: dict[str, Any], tmp_path: Path) -> None:
    write_table(table, tmp_path / "t" / "toy_1")
    folder = tmp_path / "t"
    assert sorted(p.suffix for p in folder.iterdir()) == [".csv", ".json", ".md", ".tex"]
    document = json.loads((folder / "toy_1.json").read_text())
    assert document == table
    lines = list(csv.DictReader(io.StringIO((folder / "toy_1.csv").read_text())))
    assert len(lines) == len(document["cells"])
    for line, found in zip(lines, document["cells"], strict=True):
        assert (line["row"], line["column"]) == (found["row"], found["column"])
        assert int(line["n"]) == found["n"]
        names = ("mean", "value"), ("std", "std"), ("low", "low"), ("high", "high")
        for name, key in names:
            assert (float(line[name]) if line[name] else None) == found[key]
        assert (line["reason"] or None) == found["reason"]
    texts = [shown_cells(table)[c["row"], c["column"]].text for c in document["cells"]]
    grid = grid_of_markdown((folder / "toy_1.md").read_text())
    assert [text for row in grid[1:] for text in row[1:]] == texts
    tex = (folder / "toy_1.tex").read_text()
    for text in texts:
        assert latex_escape(text).replace(" ", "~") in tex


def test_header_has_units_in_every_format(table: dict[str, Any]) -> None:
    assert "E_HOMO [meV]" in markdown(table)
    assert rf"[{latex_unit('meV')}]" in latex(table)
    units = {line["column"]: line["unit"] for line in csv.DictReader(io.StringIO(csv_text(table)))}
    assert units == {"homo": "meV", "ratio": "", "md22": "kcal/mol"}


def test_files_end_in_one_newline_and_are_the_same_twice(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        write_table(build(TableSpec.from_json(spec), []), tmp_path / name)
    for suffix in (".csv", ".md", ".tex", ".json"):
        first, second = ((tmp_path / f"{n}{suffix}").read_bytes() for n in ("one", "two"))
        assert first == second
        assert first.endswith(b"\n")
        assert not first.endswith(b"\n\n")


def test_leak_reports_join_the_caption(spec: dict[str, Any], tmp_path: Path) -> None:
    paths = []
    for k, (shared, total) in enumerate([(3, 100), (0, 50)]):
        paths.append(str(tmp_path / f"leak{k}.json"))
        report = {"dataset": "qm9", "shared": shared, "test_molecules": total}
        write_json(paths[-1], {**report, "pretrain_molecules": 64})
    caption = build(TableSpec.from_json(spec), paths)["caption"]
    assert caption.startswith(spec["caption"])
    assert "3 of 150 qm9" in caption
    assert caption.count("Pre-training draws from 64 molecules.") == 1


# ---- LaTeX -----------------------------------------------------------------------------------


def test_csv_says_every_cell_where_rows_and_columns_share_a_label() -> None:
    numbers = {
        ("b", "y"): (0.123456789012345, None, 1, None),
        ("b", "x"): (None, None, 0, "not run"),
        ("a", "y"): (1.0, 0.25, 3, None),
        ("a", "x"): (1e-7, None, 1, None),
    }
    cells = [
        {
            **{"row": row, "column": column, "value": value, "std": std, "n": n, "reason": reason},
            **{"low": 0.5 if n == 3 else None, "high": 1.5 if n == 3 else None},
        }
        for (row, column), (value, std, n, reason) in numbers.items()
    ]
    rows = [{"key": key, "label": "50%"} for key in "ba"]
    columns = [{"key": key, "label": "mu", "unit": ""} for key in "yx"]
    table = {"table": "same", "title": "T", "caption": "C"}
    table |= {"rows": rows, "columns": columns, "cells": cells}
    assert csv_text(table).splitlines()[1:] == [
        "b,50%,y,mu,,0.123456789012345,,,,1,,",
        "b,50%,x,mu,,,,,,0,,not run",
        "a,50%,y,mu,,1.0,0.25,0.5,1.5,3,,",
        "a,50%,x,mu,,1e-07,,,,1,,",
    ]


MADE = {"dataset": "x3bpa", "name": "x3bpa_test_600K", "theory": "GFN2-xTB", "frames": 60,
        "independent_frames": 11.7, "broken": ["seed 3: it broke"]}  # fmt: skip


def test_captions_say_how_many_frames_are_independent(tmp_path: Path) -> None:
    scan = MADE | {"name": "x3bpa_test_dih", "independent_frames": None, "broken": []}
    other = MADE | {"dataset": "xmd17", "name": "xmd17_ethanol", "frames": 400, "broken": []}
    files = [tmp_path / f"{number}.json" for number in range(3)]
    for file, made in zip(files, (MADE, scan, other), strict=True):
        write_json(file, made)
    first, broken, second = trajectory_sentences([str(file) for file in files])
    assert first.startswith("x3bpa is computed with GFN2-xTB")
    assert first.endswith(": test_600K 12 of 60.")
    assert broken == "Trajectories and scan points of x3bpa that broke, left out: 1."
    assert second.endswith(": ethanol 12 of 400.")
    assert trajectory_sentences([]) == []


def test_a_description_that_lacks_something_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {name: MADE[name] for name in MADE if name != "broken"})
    with pytest.raises(DataError, match=r"a\.json: lacks one of .*broken; rerun the job"):
        trajectory_sentences([str(tmp_path / "a.json")])
