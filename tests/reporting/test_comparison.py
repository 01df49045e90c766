"""Methods compared: numbers of the predictions themselves, and pairs that belong together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from georecon.data.force_sums import force_sums
from georecon.errors import DataError
from georecon.experiments.specs import CellSpec, Column, Row, TableSpec
from georecon.files import read_json, write_json
from georecon.reporting.comparison import Comparison, compare, read_predictions, single_errors
from georecon.reporting.latex import latex
from georecon.reporting.layout import layout, shown_cells, worse_cells
from georecon.reporting.tables import build, values_by_seed, write_table
from georecon.reporting.texts import csv_text, markdown
from georecon.stages.evaluate import errors, force_columns, property_columns

SEEDS = (1, 2, 3)
ERRORS = {"scratch": 1.0, "coord": 0.8, "mine": 0.79}
TARGETS = ("homo", "gap")


def write_run(folder: Path, error: float, seed: int, *, forces: bool = False) -> None:
    """A fine-tuned run of molecules of two to five atoms, with errors of about ``error``."""
    rng = np.random.default_rng([seed, int(1000 * error)])
    label = np.random.default_rng(7).normal(size=80)
    shift = error * np.random.default_rng(8).normal(size=80)  # hard molecules are hard for all
    outputs = {
        "ids": np.arange(80),
        "label": label,
        "prediction": label + shift + 0.01 * rng.normal(size=80),
        "baseline": np.zeros(80),
        "naive": label + 0.7,
    }
    columns = property_columns(outputs)
    if forces:
        atoms = np.random.default_rng(9).integers(2, 6, size=80)
        force = np.random.default_rng(10).normal(size=(atoms.sum(), 3))
        noisy = force + error * rng.normal(size=force.shape)
        predicted = (force_sums(force, one, atoms) for one in (noisy, 0.0 * force, force + 0.7))
        columns |= force_columns(*predicted)
    folder.mkdir(parents=True, exist_ok=True)
    arrow = pyarrow.table({name: pyarrow.array(values) for name, values in columns.items()})
    pyarrow.parquet.write_table(arrow, folder / "predictions.parquet")
    write_json(folder / "metrics.json", errors(columns))


def spec_of(root: Path, methods: tuple[str, ...] = tuple(ERRORS), seeds: Any = SEEDS) -> TableSpec:
    """A property table with a naive row that nothing but one cell is worse than."""

    def files(target: str, method: str) -> dict[int, str]:
        return {s: str(root / target / method / f"seed{s}/metrics.json") for s in seeds}

    rows = [Row(key=name, label=name.title(), method=name) for name in methods]
    naive = Row(key="naive", label="Composition", method="scratch", kind="naive")
    cells = [
        CellSpec(row=row.key, column=target, files=files(target, row.method), unit="eV",
                 key=("property", "mae" if row.kind == "method" else "naive_mae"))
        for row in (naive, *rows)
        for target in TARGETS
    ]  # fmt: skip
    return TableSpec(
        table="toy",
        edition="tiny",
        title="Toy",
        caption="Caption.",
        rows=(naive, *rows),
        columns=tuple(Column(key=t, label=t, unit="meV", source="") for t in TARGETS),
        cells=tuple(cells),
        compare=("coord", "scratch"),
    )


@pytest.fixture
def spec(tmp_path: Path) -> TableSpec:
    for target in TARGETS:
        for method, error in ERRORS.items():
            for seed in SEEDS:
                write_run(tmp_path / target / method / f"seed{seed}", error, seed)
    return spec_of(tmp_path)


@pytest.fixture
def table(spec: TableSpec) -> dict[str, Any]:
    return build(spec, [])


def test_differences_wins_and_ranks_are_those_of_the_numbers(table: dict[str, Any]) -> None:
    found = Comparison.from_json(table["comparison"])
    values = {(c["row"], c["column"]): c["value"] for c in table["cells"]}
    assert {(d.row, d.reference) for d in found.differences} == {
        ("scratch", "coord"), ("mine", "coord"), ("coord", "scratch"), ("mine", "scratch")
    }  # fmt: skip
    for one in found.differences:
        wanted = values[one.row, one.column] - values[one.reference, one.column]
        assert one.value == pytest.approx(wanted, rel=1e-9)
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.value < one.high
        assert one.n == 3
    wins = {(w.row, w.reference): w for w in found.wins}
    assert wins["coord", "scratch"].surely_better == wins["coord", "scratch"].columns == 2
    assert wins["scratch", "coord"].surely_worse == 2
    assert found.ranks["scratch"] == 3.0
    assert found.ranks["mine"] + found.ranks["coord"] == 3.0


def test_bold_only_where_the_interval_allows_it(tmp_path: Path, spec: TableSpec) -> None:
    for seed in SEEDS:  # a clear winner of gap; of homo none is clear
        write_run(tmp_path / "gap/mine" / f"seed{seed}", 0.5, seed)
        write_run(tmp_path / "homo/mine" / f"seed{seed}", 0.8 + 0.01 * (-1) ** seed, seed)
    table = build(spec, [])
    assert table["comparison"]["best"] == [{"row": "mine", "column": "gap"}]
    shown = shown_cells(table)
    assert {place for place, cell in shown.items() if cell.bold} == {("mine", "gap")}
    text = markdown(table)
    assert f"**{shown['mine', 'gap'].text}**" in text
    assert text.count("**") == 2
    assert "Bold:" in text


def test_what_a_naive_prediction_beats_is_marked_and_never_bold(
    tmp_path: Path, spec: TableSpec
) -> None:
    for seed in SEEDS:
        for method in ERRORS:
            path = tmp_path / "gap" / method / f"seed{seed}/metrics.json"
            content = read_json(path)
            content["property"]["naive_mae"] = 1e-6
            write_json(path, content)
    table = build(spec, [])
    worse = worse_cells(table)
    assert {place for place in worse if place[1] == "gap"} == {(name, "gap") for name in ERRORS}
    assert ("naive", "gap") not in worse
    shown = shown_cells(table)
    assert not any(cell.bold and cell.worse for cell in shown.values())
    text = markdown(table)
    assert text.count("†") == len(worse) + 1  # each, and the sentence that says what it means
    assert "Composition" in " ".join(layout(table).sentences)
    assert csv_text(table).count(",yes,") == len(worse)


def test_formats_say_the_same_differences(table: dict[str, Any]) -> None:
    blocks = layout(table).differences
    assert {block.title for block in blocks} == {"Difference to Coord", "Difference to Scratch"}
    text, lines = markdown(table), csv_text(table).splitlines()
    for block in blocks:
        for line in block.lines:
            assert f"| {line.label} | " + " | ".join(c.text for c in line.cells) + " |" in text
    head = lines[0].split(",")
    at = head.index("difference_coord")
    mine = next(line.split(",") for line in lines if line.startswith("mine,Mine,gap"))
    differences = table["comparison"]["differences"]
    place = ("mine", "coord", "gap")
    (wanted,) = (d for d in differences if (d["row"], d["reference"], d["column"]) == place)
    assert [float(x) for x in mine[at : at + 3]] == [wanted[k] for k in ("value", "low", "high")]


def test_a_table_read_back_says_the_same(table: dict[str, Any], tmp_path: Path) -> None:
    """JSON sorts its keys: texts depend on the order of rows, not on that of objects."""
    table["comparison"]["ranks"] = dict.fromkeys(("scratch", "mine", "coord"), 2.0)
    write_table(table, tmp_path / "again")
    again = read_json(tmp_path / "again.json")
    assert again == table
    for suffix, text in (
        (".md", markdown(again)),
        (".csv", csv_text(again)),
        (".tex", latex(again)),
    ):
        assert (tmp_path / f"again{suffix}").read_text() == text


def test_two_seeds_have_differences_without_intervals(tmp_path: Path, spec: TableSpec) -> None:
    table = build(spec_of(tmp_path, seeds=(1, 2)), [])
    found = Comparison.from_json(table["comparison"])
    assert {one.low for one in found.differences} == {None}
    assert found.best == ()
    assert {w.surely_better for w in found.wins} == {0}
    assert "±" not in markdown(table)
    assert "no interval" in markdown(table)


# ---- pairs that do not belong together -----------------------------------------------------------


def other_molecules(spec: TableSpec, root: Path) -> TableSpec:
    path = root / "homo/mine/seed2/predictions.parquet"
    found = pyarrow.parquet.read_table(path)
    ids = pyarrow.array(found["id"].to_numpy()[::-1].copy())
    pyarrow.parquet.write_table(found.set_column(0, "id", ids), path)
    return spec


def other_labels(spec: TableSpec, root: Path) -> TableSpec:
    """The same ids in the same order, of other molecules: same errors, labels exchanged."""
    path = root / "homo/mine/seed2/predictions.parquet"
    found = pyarrow.parquet.read_table(path)
    label, guess = (found[name].to_numpy() for name in ("label", "prediction"))
    found = found.set_column(1, "label", pyarrow.array(label[::-1].copy()))
    found = found.set_column(2, "prediction", pyarrow.array(guess[::-1].copy()))
    pyarrow.parquet.write_table(found, path)
    return spec


def other_seeds(spec: TableSpec, root: Path) -> TableSpec:
    cells = []
    for cell in spec.cells:
        files = dict(cell.files)
        if cell.row == "mine":
            files = {1: files[1], 2: files[2], 4: files[3]}
        cells.append(replace(cell, files=files))
    return replace(spec, cells=tuple(cells))


def another_runs_predictions(spec: TableSpec, root: Path) -> TableSpec:
    other = root / "homo/scratch/seed2/predictions.parquet"
    (root / "homo/mine/seed2/predictions.parquet").write_bytes(other.read_bytes())
    return spec


def torn_predictions(spec: TableSpec, root: Path) -> TableSpec:
    path = root / "homo/mine/seed2/predictions.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    return spec


def no_predictions(spec: TableSpec, root: Path) -> TableSpec:
    (root / "homo/mine/seed2/predictions.parquet").unlink()
    return spec


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_molecules, r"toy/homo, .*mine.*: seed 2: .*tested on other molecules"),
        (other_labels, r"toy/homo, .*mine.*: seed 2: .*tested on other molecules"),
        (other_seeds, r"toy/homo, .*mine.*seeds .*4.* against .*; .*needs the same"),
        (another_runs_predictions, r"mine/seed2/predictions\.parquet: .*another run"),
        (torn_predictions, r"mine/seed2/predictions\.parquet: not readable.*rerun"),
        (no_predictions, r"mine/seed2/predictions\.parquet: not readable.*rerun"),
    ],
)
def test_a_swapped_pairing_is_refused(
    change: Callable[[TableSpec, Path], TableSpec], words: str, spec: TableSpec, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        build(change(spec, tmp_path), [])


# ---- single errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["property", "force"])
@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_single_errors_have_the_metric_as_their_mean(
    kind: str, metric: str, tmp_path: Path
) -> None:
    write_run(tmp_path, 0.5, 1, forces=True)
    path = tmp_path / "predictions.parquet"
    found = single_errors(read_predictions(path, "x"), kind, metric, "x")
    assert found.errors.mean() == pytest.approx(read_json(tmp_path / "metrics.json")[kind][metric])
    assert found.ids.tolist() == list(range(80))
    assert len(found.labels) == len(found.errors) == 80


@pytest.mark.parametrize("kind", ["property", "force"])
@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_the_spread_of_single_errors_is_that_of_the_metric_over_molecules(
    kind: str, metric: str, tmp_path: Path
) -> None:
    """Compared with a bootstrap of the metric itself."""
    write_run(tmp_path, 0.5, 1, forces=True)
    read = read_predictions(tmp_path / "predictions.parquet", "x")
    found = single_errors(read, kind, metric, "x")
    power = 1 if metric == "mae" else 2
    sums, counts = np.abs(read.prediction - read.label) ** power, np.ones(len(read.id))
    if kind == "force":
        assert read.forces is not None
        sums = read.forces.absolute if metric == "mae" else read.forces.square
        counts = read.forces.components
    rng = np.random.default_rng(0)
    drawn = [sums[k].sum() / counts[k].sum() for k in rng.integers(80, size=(4000, 80))]
    wanted = float(np.std(np.array(drawn) ** (1 / power)))
    assert found.errors.std() / np.sqrt(80) == pytest.approx(wanted, rel=0.08)


def test_no_predictions_of_a_kind_are_named(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5, 1)
    read = read_predictions(tmp_path / "predictions.parquet", "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: has no force predictions"):
        single_errors(read, "force", "mae", "x.parquet")


def test_parts_of_a_test_set_are_compared_by_seed(tmp_path: Path, spec: TableSpec) -> None:
    """Which molecules a part has is not in the predictions; its seeds still pair."""
    cells = []
    for cell in spec.cells:
        for file in cell.files.values():
            content = read_json(file)
            write_json(file, {**content, "parts": {"hot": {"property": content["property"]}}})
        key = ("parts", "hot", *cell.key) if cell.row != "naive" else cell.key
        cells.append(replace(cell, key=key))
    changed = replace(spec, cells=tuple(cells))
    whole, parts = (Comparison.from_json(build(s, [])["comparison"]) for s in (spec, changed))
    assert [d.value for d in parts.differences] == pytest.approx(
        [d.value for d in whole.differences]
    )
    for part, all_of_it in zip(parts.differences, whole.differences, strict=True):
        assert part.high is not None
        assert part.low is not None
        assert all_of_it.high is not None
        assert all_of_it.low is not None
        assert part.high - part.low < all_of_it.high - all_of_it.low


def test_validation_errors_are_compared_by_seed_and_losses_not_at_all(
    tmp_path: Path, spec: TableSpec
) -> None:
    cells = []
    for cell in spec.cells:
        files = {s: f.replace("metrics.json", "run.json") for s, f in cell.files.items()}
        for seed, file in files.items():
            write_json(file, {"final": {"val_mae": 1.0 / seed, "val_denoise": 0.5}})
        key = ("final", "val_mae" if cell.column == "gap" else "val_denoise")
        cells.append(replace(cell, files=files, key=key))
    found = build(replace(spec, cells=tuple(cells)), [])["comparison"]
    assert {one["column"] for one in found["differences"]} == {"gap"}
    assert {(one["value"], one["low"]) for one in found["differences"]} == {(0.0, 0.0)}


def test_energies_and_forces_are_compared_apart(tmp_path: Path) -> None:
    for method, error in {"coord": 0.5, "mine": 0.4}.items():
        for seed in SEEDS:
            write_run(tmp_path / method / f"seed{seed}", error, seed, forces=True)
    rows = tuple(
        Row(key=f"{q}_{m}", label=f"{q} {m}", method=m, unit="eV", quantity=q)
        for q in ("energy", "force")
        for m in ("coord", "mine")
    )
    kinds = {"energy": "property", "force": "force"}
    cells = tuple(
        CellSpec(row=row.key, column="a", unit="eV", key=(kinds[row.quantity or ""], "mae"),
                 files={s: str(tmp_path / row.method / f"seed{s}/metrics.json") for s in SEEDS})
        for row in rows
    )  # fmt: skip
    spec = TableSpec(table="t", edition="e", title="t", caption="c", rows=rows, cells=cells,
                     columns=(Column(key="a", label="a", unit="", source=""),),
                     compare=("coord",))  # fmt: skip
    found = Comparison.from_json(build(spec, [])["comparison"])
    pairs = [(d.row, d.reference) for d in found.differences]
    assert pairs == [("energy_mine", "energy_coord"), ("force_mine", "force_coord")]
    assert found.ranks == {f"{q}_{m}": r for q in kinds for m, r in (("mine", 1.0), ("coord", 2.0))}
    assert [block.title for block in layout(build(spec, [])).differences] == [
        "Difference to energy coord", "Difference to force coord"]  # fmt: skip


def test_many_predictions_are_read_fast(spec: TableSpec, tmp_path: Path) -> None:
    """150 files of 2,000 molecules in well under two seconds: a table is no long job."""
    label = np.random.default_rng(1).normal(size=2000)
    for number in range(150):
        columns = property_columns(
            {
                **{"ids": np.arange(2000), "label": label, "baseline": label, "naive": label},
                "prediction": label + np.random.default_rng(number).normal(size=2000),
            }
        )
        arrow = pyarrow.table({name: pyarrow.array(values) for name, values in columns.items()})
        pyarrow.parquet.write_table(arrow, tmp_path / f"{number}.parquet")
    read_predictions(tmp_path / "0.parquet", "x")  # imports
    start = time.process_time()
    for number in range(150):
        found = read_predictions(tmp_path / f"{number}.parquet", "x")
        single_errors(found, "property", "mae", "x")
    assert time.process_time() - start < 2.0


def test_a_table_without_compare_has_no_comparison(spec: TableSpec) -> None:
    changed = replace(spec, compare=())
    table = build(changed, [])
    assert table["comparison"] is None
    assert "Difference" not in markdown(table)
    values = values_by_seed(table["cells"])
    assert compare(changed, values).differences == ()
