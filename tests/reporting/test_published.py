"""Published values: each with unit and source, in its own place, and in no statistic."""

from __future__ import annotations

import copy
import csv
import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from georecon.errors import ConfigError, DataError, GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.reporting.claims import verdicts
from georecon.reporting.expected import load_expected
from georecon.reporting.latex import latex
from georecon.reporting.layout import PUBLISHED, layout, shown_cells, worse_cells
from georecon.reporting.published import load_published
from georecon.reporting.published_rows import check_published, published_json
from georecon.reporting.tables import build
from georecon.reporting.texts import csv_text, markdown
from tests.projects import ROOT
from tests.reporting.test_comparison import ERRORS, SEEDS, TARGETS, spec_of, write_run

FOLDER = ROOT / "reports" / "published"
TINY = {
    "dataset": "qm9",
    "metric": "mae",
    "train": 110000,
    "split": "110,000 training molecules",
    "read_on": "2026-11-25",
    "columns": {"homo": {"unit": "meV", "target": "homo"}},
    "rows": [
        {"label": "A", "values": {"homo": 17.7}, "source": "S", "read_where": "R", "grade": "B"}
    ],
}


def experiments(edition: str = "paper", **changes: Any) -> Experiments:
    return Experiments.load(ROOT / "config", {"edition": edition, **changes})


def write(folder: Path, change: Callable[[Any], object] = lambda _: None) -> Path:
    """One published table, changed in place, in a folder of its own."""
    document = copy.deepcopy(TINY)
    change(document)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "qm9.yaml").write_text(yaml.safe_dump(document, allow_unicode=True))
    return folder


def row(document: Any) -> Any:
    return document["rows"][0]


# ---- the files -----------------------------------------------------------------------------------


def test_all_values_came_over() -> None:
    tables = load_published(FOLDER)
    rows = [one for table in tables.values() for one in table.rows]
    assert sum(len(one.values) for one in rows) == 376
    assert sum(len(one.std) for one in rows) == 50
    mirror = Path(os.environ.get("GEORECON_MIRROR", "")) / "published/published.yaml"
    if not mirror.is_file():
        return
    numbers: list[float] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            [collect(one) for one in value.values()]
        else:
            numbers.append(float(value))

    for table in yaml.safe_load(mirror.read_text())["tables"].values():
        for one in table["rows"].values():
            collect(one["values"])
            collect(one.get("std", {}))
    ours = [value for one in rows for value in (*one.values.values(), *one.std.values())]
    assert sorted(ours) == sorted(numbers)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["columns"]["homo"].pop("unit"), "record columns.homo: has no unit"),
        (lambda d: d["columns"]["homo"].update(unit="furlong"), "columns.homo: unknown unit"),
        (lambda d: row(d)["values"].update(gap=1.0), "record A: gap has no unit"),
        (lambda d: row(d).pop("source"), "record A: has no source"),
        (lambda d: row(d).update(source="  "), "record A: has no source"),
        (lambda d: row(d).pop("read_where"), "record A: has no read_where"),
        (lambda d: row(d).update(grade="D"), "record A: grade is 'D'; allowed: A, B, C"),
        (lambda d: row(d)["values"].update(homo=-1.0), "record A: homo is -1.0"),
        (lambda d: row(d)["values"].update(homo=float("nan")), "rows.0.values.homo: is nan"),
        (lambda d: row(d)["values"].update(homo="17.7"), "rows.0.values.homo: is '17.7'"),
        (lambda d: row(d).update(std={"lumo": 1.0}), "record A: lumo has no unit"),
        (lambda d: d["rows"].append(row(d)), "record A: is there twice"),
        (lambda d: d.update(metric="median"), "metric: is 'median'; allowed: mae, rmse"),
        (lambda d: d.update(colums={}), "colums: unknown key"),
        (lambda d: d.pop("split"), "split: missing"),
    ],
)
def test_a_value_without_unit_or_source_is_refused(
    tmp_path: Path, change: Callable[[Any], object], words: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=r"qm9\.yaml") as refused:
        load_published(write(tmp_path, change))
    assert words in str(refused.value)
    load_published(write(tmp_path))  # and the same file without the fault is taken


def test_a_bad_file_stops_before_any_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, lambda d: row(d).pop("source"))
    with pytest.raises(SystemExit):
        check_published(experiments(), folder)
    assert "record A: has no source" in capsys.readouterr().err
    check_published(experiments(), FOLDER)


def test_a_table_that_names_no_file_is_refused() -> None:
    found = experiments(tables={"qm9": {"published": ["qm8"]}})
    with pytest.raises(ConfigError, match=r"tables\.qm9\.published\.0: is 'qm8'; allowed: .*qm9"):
        published_json(found, FOLDER, "qm9")


# ---- places, units, grades -----------------------------------------------------------------------


def block(found: Experiments, table: str, folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Rows of a table's block by label, the cells by column."""
    rows: Any = published_json(found, folder, table)
    return {r["label"]: r | {"cells": {c["column"]: c for c in r["cells"]}} for r in rows}


def test_values_stand_under_their_column_in_its_unit() -> None:
    bpa = block(experiments(), "3bpa")
    cells = bpa["Force [meV/Å], MACE (L=2)"]["cells"]
    assert (cells["1200K_rmse"]["value"], cells["1200K_rmse"]["std"]) == (62.0, 0.7)
    assert bpa["Energy [meV], MACE (L=2)"]["cells"]["dihedrals_rmse"]["value"] == 7.8
    assert not any(column.endswith("_mae") for r in bpa.values() for column in r["cells"])
    md17 = block(experiments(), "md17")
    assert md17["Force [kcal/mol/Å], Frad"]["cells"]["salicylic"]["value"] == 0.1081
    nequip = md17["Force [kcal/mol/Å], NequIP (l=3)"]["cells"]["aspirin"]
    assert nequip["value"] == pytest.approx(8.2e-3 * 23.06, rel=0.01)
    assert nequip["value"] == 0.189  # a digit more than was published
    qm9 = block(experiments(), "qm9")
    assert qm9["PVD: TorchMD-NET with pre-training (= Coord, authors' own)"]["cells"]["homo"][
        "value"
    ] == pytest.approx(15.6)


def test_grades_follow_the_configuration() -> None:
    def grades(**changes: Any) -> set[str]:
        return {r["grade"] for r in block(experiments(**changes), "qm9").values()}

    assert grades() == {"A", "B"}
    assert grades(published=["A"]) == {"A"}
    assert grades(published=["A", "B", "C"]) == {"A", "B", "C"}
    assert grades(published=[]) == set()
    with pytest.raises(GeoreconError, match="published"):
        experiments(published=["D"])


def test_other_data_and_splits_stand_in_the_note() -> None:
    small = block(experiments("laptop"), "md17")["Force [kcal/mol/Å], Frad"]["settings"]
    assert "Values of MD17, other data than this table's xmd17: not to be compared." in small
    assert "here 200 training" in small
    whole = block(experiments(), "md17")["Force [kcal/mol/Å], Frad"]["settings"]
    assert "other data" not in whole
    assert "; here" not in whole
    coord = block(experiments(), "qm9")["Coord (ET, re-run in the Frad and SliDe tables)"]
    assert "15.6 and 13.2" in coord["note"]
    assert "encoder (GET)" in block(experiments(), "qm9")["SliDe (GET encoder, not ET)"]["note"]


def test_a_presumed_unit_is_never_converted(tmp_path: Path) -> None:
    presumed = write(tmp_path / "a", lambda d: d["columns"]["homo"].update(presumed=True))
    shown = block(experiments(), "qm9", presumed)["A"]
    assert shown["cells"]["homo"]["value"] == 17.7
    assert "Unit presumed: meV" in shown["note"]
    other = {"unit": "eV", "target": "homo"}
    known = write(tmp_path / "b", lambda d: d["columns"].update(homo=other))
    assert block(experiments(), "qm9", known)["A"]["cells"]["homo"]["value"] == 17700.0
    guessed = write(tmp_path / "c", lambda d: d["columns"].update(homo=other | {"presumed": True}))
    left = block(experiments(), "qm9", guessed)["A"]
    assert left["cells"] == {}
    assert "Not converted: HOMO 17.7 eV, not meV." in left["note"]


# ---- never in a statistic ------------------------------------------------------------------------

BETTER = [
    {
        "label": "Published", "method": "Published", "unit": "", "grade": "A",
        "source": "S, table 1", "read_where": "R", "note": "Another encoder.",
        "settings": "Split there: other.",
        "cells": [{"column": t, "value": 1e-6, "std": None} for t in TARGETS],
    }
]  # fmt: skip
"""Better than every row of ours: wherever it counted it would be seen."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published")
    for method, error in ERRORS.items():
        for target in TARGETS:
            for seed in SEEDS:
                write_run(root / target / method / f"seed{seed}", error, seed)
    return root


def statistics(table: Any) -> list[Any]:
    """All that a table says of its rows among each other."""
    claims = verdicts(load_expected(ROOT / "reports" / "expected"), [{**table, "table": "qm9"}])
    found = layout(table)
    return [
        table["comparison"], table["cells"], table["rows"], shown_cells(table), worse_cells(table),
        found.main, found.differences, claims,
    ]  # fmt: skip


def test_no_statistic_knows_published_values(toy: Path) -> None:
    with_them, without = build(spec_of(toy), [], published=BETTER), build(spec_of(toy), [])
    assert statistics(with_them) == statistics(without)
    assert layout(with_them).published is not None


def test_one_among_our_rows_would_change_them(toy: Path) -> None:
    """The broken twin: the same values as a row of ours."""
    table = build(spec_of(toy), [])
    mixed = copy.deepcopy(table)
    mixed["rows"].append({"key": "p", "label": "Published", "method": "p", "unit": ""})
    cell = {"std": None, "low": None, "high": None, "n": 1, "runs": [], "reason": None}
    for one in BETTER[0]["cells"]:
        mixed["cells"].append({**cell, **one, "row": "p", "values": {"1": one["value"]}})
    assert statistics(mixed) != statistics(table)


@pytest.mark.parametrize("grade", ["A"])
def test_every_format_shows_the_block_apart_with_its_source(toy: Path, grade: str) -> None:
    table = build(spec_of(toy), [], published=BETTER)
    text = markdown(table)
    before, _, after = text.partition(f"{PUBLISHED}:\n")
    assert "| Published |" not in before
    assert f"| Published | 1e-06 | 1e-06 | {grade} |" in after
    assert "S, table 1; read in: R. Another encoder." in after
    assert "All published rows: Split there: other." in after
    tex = latex(table)
    assert rf"\emph{{{PUBLISHED}}}" in tex
    assert "S, table 1" in tex
    lines = list(csv.DictReader(io.StringIO(csv_text(table))))
    theirs = [line for line in lines if line["published_grade"]]
    assert [line["row"] for line in theirs] == ["published"] * 2
    assert {line["n"] + line["best"] + line["mean_rank"] for line in theirs} == {""}
    assert all("Split there" in line["published_source"] for line in theirs)
    assert {line["published_source"] for line in lines if not line["published_grade"]} == {""}
    plain = csv_text(build(spec_of(toy), []))
    assert "published" not in plain


def test_a_row_of_many_quantities_keeps_the_order_of_the_table() -> None:
    labels = list(block(experiments(), "3bpa"))
    energies = [label.startswith("Energy") for label in labels]
    assert energies == sorted(energies, reverse=True)


def test_an_edition_that_switches_them_off_changes_nothing_else() -> None:
    found = experiments()
    off = Experiments(replace(found.config, published=()))
    assert found.tables.spec("qm9") == off.tables.spec("qm9")
