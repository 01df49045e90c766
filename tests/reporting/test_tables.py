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
from georecon.reporting.tables import (
    build,
    cell_text,
    csv_text,
    latex,
    latex_escape,
    latex_unit,
    lookup,
    markdown,
    number_text,
    write_table,
)
from georecon.units import EV_TO_KCAL_MOL, allowed_units

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
    assert found["std"] == pytest.approx(statistics.stdev(numbers), rel=1e-12)
    assert found["values"] == pytest.approx(
        {str(k): 1000 * v for k, v in VALUES.items()}, rel=1e-14
    )


def test_one_seed_has_no_std(table: dict[str, Any]) -> None:
    found = cell(table, "baseline", "ratio")
    assert (found["value"], found["std"], found["n"]) == (3.0, None, 1)


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
    assert cell_text(found) == "–"
    for text in (markdown(table), latex(table)):
        assert text.count(REASON) == 1
    assert csv_text(table).count(REASON) == 2


@pytest.mark.parametrize(
    ("value", "std", "text"),
    [
        (1.23456, 0.0123, "1.235 ± 0.012"),
        (12.3456, 1.9, "12.3 ± 1.9"),
        (123.456, 12.3, "123 ± 12"),
        (0.000123456, 0.0000021, "0.0001235 ± 0.0000021"),
        (1234567.0, 12.0, "1.235e+06 ± 12"),
        (2.0, 0.0, "2"),
        (3.14159, None, "3.142"),
        (0.00012345, None, "0.0001234"),
        (-1.5, 0.25, "-1.50 ± 0.25"),
        (0.0, None, "0"),
    ],
)
def test_number_text(value: float, std: float | None, text: str) -> None:
    found = number_text(value, std)
    if "0.0000021" in text:  # more than six digits: in exponents, but the same number
        assert re.fullmatch(r"0\.0001235 ± (2\.1e-06|0\.0000021)", found)
    else:
        assert found == text


@pytest.mark.parametrize("std", [0.0996, 0.00999, 9.97, 0.95, 0.0949])
def test_rounding_up_keeps_value_and_std_at_the_same_digits(std: float) -> None:
    mean, spread = number_text(1.23456789, std).split(" ± ")
    assert len(mean.partition(".")[2]) == len(spread.partition(".")[2])
    assert float(spread) == pytest.approx(std, rel=0.05)


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
        for name, key in (("mean", "value"), ("std", "std")):
            assert (float(line[name]) if line[name] else None) == found[key]
        assert (line["reason"] or None) == found["reason"]
    texts = [cell_text(c) for c in document["cells"]]
    grid = grid_of_markdown((folder / "toy_1.md").read_text())
    assert [text for row in grid[1:] for text in row[1:]] == texts
    body = (folder / "toy_1.tex").read_text().split(r"\midrule")[1].split(r"\bottomrule")[0]
    rows = [line.removesuffix(r" \\") for line in body.strip().splitlines()]
    found_texts = [part.strip() for row in rows for part in re.split(r"(?<!\\)&", row)[1:]]
    assert found_texts == [latex_escape(text) for text in texts]


def test_header_has_units_in_every_format(table: dict[str, Any]) -> None:
    assert "E_HOMO [meV]" in markdown(table)
    assert r"[$\mathrm{meV}$]" in latex(table)
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


def test_latex_special_characters() -> None:
    assert latex_escape("50% & a_b #1 {x} $") == r"50\% \& a\_b \#1 \{x\} \$"
    assert latex_escape("a\\b~c^d") == r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"
    assert latex_escape("1 ± 2 Å") == r"1 $\pm$ 2 \AA{}"


def test_latex_is_ascii(table: dict[str, Any]) -> None:
    text = latex(table)
    odd = {character for character in text if ord(character) > 127}
    assert not odd, odd
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize("unit", allowed_units())
def test_every_unit_has_latex(unit: str) -> None:
    text = latex_unit(unit)
    assert text.startswith("$")
    assert text.isascii()


WHOLE = r"""\begin{table}
\centering
\begin{tabular}{lrr}
\toprule
 & mu & mu \\
\midrule
50\% & 0.1235 (1) & -- \\
50\% & 1.00 $\pm$ 0.25 (3) & 1e-07 (1) \\
\bottomrule
\end{tabular}
\caption{T. C In brackets: number of seeds. Empty cells: not run.}
\label{tab:same}
\end{table}
"""


def test_whole_text_where_rows_and_columns_share_a_label() -> None:
    """pandas writes both texts; what it must not do is merge, sort, round or pad."""
    numbers = {
        ("b", "y"): (0.123456789012345, None, 1, None),
        ("b", "x"): (None, None, 0, "not run"),
        ("a", "y"): (1.0, 0.25, 3, None),
        ("a", "x"): (1e-7, None, 1, None),
    }
    cells = [
        {"row": row, "column": column, "value": value, "std": std, "n": n, "reason": reason}
        for (row, column), (value, std, n, reason) in numbers.items()
    ]
    rows = [{"key": key, "label": "50%"} for key in "ba"]
    columns = [{"key": key, "label": "mu", "unit": ""} for key in "yx"]
    table = {"table": "same", "title": "T", "caption": "C"}
    table |= {"rows": rows, "columns": columns, "cells": cells}
    assert latex(table) == WHOLE
    assert csv_text(table).splitlines()[1:] == [
        "b,50%,y,mu,,0.123456789012345,,1,",
        "b,50%,x,mu,,,,0,not run",
        "a,50%,y,mu,,1.0,0.25,3,",
        "a,50%,x,mu,,1e-07,,1,",
    ]


@pytest.mark.parametrize("edition", ["laptop", "paper", "tiny"])
def test_every_configured_title_and_label_is_ascii_in_latex(edition: str) -> None:
    from georecon.experiments.experiments import Experiments

    folder = Path(__file__).resolve().parents[2] / "config"
    found = Experiments.load(folder, {"edition": edition})
    for table in found.config.tables:
        spec = found.tables.spec(table).as_json()
        words = [spec["title"], spec["caption"]]
        words += [entry["label"] for entry in (*spec["rows"], *spec["columns"])]
        words += [c["reason"] for c in spec["cells"] if "reason" in c]
        for word in words:
            assert latex_escape(word).isascii(), word
        for column in spec["columns"]:
            assert latex_unit(column["unit"]).isascii(), column["unit"]
