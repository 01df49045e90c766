"""What figures are drawn from: files of their edition, and no figure without any."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from georecon.errors import ConfigError
from georecon.experiments.encoder_files import with_absent_files
from georecon.experiments.experiments import Experiments
from georecon.reporting.figures.inputs import (
    SPECIFICATIONS,
    figure_names,
    figure_spec,
    notebook_names,
)
from georecon.reporting.figures.specs import FigureSpec
from tests import toy_results as toy

NAMES = notebook_names(toy.NOTEBOOKS)


def test_every_notebook_has_a_specification_and_every_specification_a_notebook() -> None:
    assert sorted(SPECIFICATIONS) == NAMES


@pytest.mark.parametrize("edition", ["tiny", "laptop", "evidence", "workstation", "paper"])
@pytest.mark.parametrize("name", [*NAMES, "something_new"])
def test_a_specification_names_files_of_its_edition_and_comes_back_from_json(
    name: str, edition: str
) -> None:
    spec = figure_spec(toy.experiments_of(edition), name)
    files = spec.files()
    data = {file for scan in spec.scans for file in (scan.store, scan.split)}
    assert all(file.startswith("resources/") for file in data)
    assert all(file.startswith(f"results/{edition}/") for file in {*files} - data)
    assert len(files) == len(set(files))
    text = json.dumps(spec.as_json())
    again = FigureSpec.from_json(json.loads(text))
    assert again == spec
    assert json.dumps(again.as_json()) == text


def test_a_figure_without_data_is_not_made() -> None:
    def made(edition: str) -> set[str]:
        return set(figure_names(toy.experiments_of(edition), toy.NOTEBOOKS))

    assert "label_efficiency" in made("evidence")
    assert "label_efficiency" not in made("laptop")
    assert "error_by_temperature" in made("paper")
    assert "ablations" in made("laptop")
    assert "ablations" not in made("readings")
    for name in ("dihedral_scan", "energy_drift"):
        assert all(
            name in made(one) for one in ("tiny", "laptop", "evidence", "workstation", "paper")
        )
        assert name not in made("readings")
    alone = figure_names(toy.only_scratch(toy.experiments_of("tiny")), toy.NOTEBOOKS)
    assert "errors_by_method" not in alone, "nothing to compare with"
    assert "pretraining_curves" not in alone


def test_a_scan_is_drawn_where_its_part_has_data() -> None:
    laptop = figure_spec(toy.experiments_of("laptop"), "dihedral_scan")
    (scan,) = laptop.scans
    assert (scan.panel, scan.theory, scan.part) == ("x3bpa", "GFN2-xTB", "dihedrals")
    assert scan.store == "resources/store/x3bpa/3bpa/manifest.json"
    assert (scan.turned, scan.slices) == ((1, 6, 7, 8), (6, 7, 8, 9))
    runs = {(run.method, run.seed, run.unit, run.shown_unit) for run in laptop.runs}
    assert runs == {(m, k, "eV", "meV") for m in laptop.methods for k in (1, 2, 3)}
    (official,) = figure_spec(toy.experiments_of("paper"), "dihedral_scan").scans
    assert (official.panel, official.theory) == ("3BPA", "wB97X/6-31G(d)")
    missing = {"default_source": "inferred"}  # without the file of the scan
    given = {"edition": "paper", "mirror": "x", "datasets": {"3bpa": missing}}
    found = Experiments.load(toy.ROOT / "config", given)
    assert not figure_spec(found, "dihedral_scan").files()


def test_dynamics_are_drawn_where_the_edition_has_them() -> None:
    spec = figure_spec(toy.experiments_of("laptop"), "energy_drift")
    place = "results/laptop/nve/force/ethanol"
    assert spec.files()[:1] == [f"{place}/scratch/seed1/curve.csv"]
    assert len(spec.runs) == 3 * len(spec.methods)
    assert {run.panel for run in spec.runs} == {"xmd17 ethanol from 300 K"}
    found = toy.experiments_of("laptop").config
    assert found.nve is not None
    until = found.nve.steps * found.nve.timestep_fs
    assert {run.until_fs for run in spec.runs} == {until}
    columns = tuple(c for c in found.tables["physics"].columns if c.source != "nve")
    tables = found.tables | {"physics": replace(found.tables["physics"], columns=columns)}
    for config in (replace(found, tables=tables, nve=None), replace(found, tables=tables)):
        assert not figure_spec(Experiments(config), "energy_drift").files()


def test_axes_say_what_the_configuration_says() -> None:
    (labels,) = figure_spec(toy.experiments_of("evidence"), "label_efficiency").tables
    assert {mark.x for mark in labels.columns.values()} == {100, 300, 1000, 3000, 10000}
    (hot,) = figure_spec(toy.experiments_of("paper"), "error_by_temperature").tables
    assert {mark.x for mark in hot.columns.values()} == {300, 600, 1200}
    assert "dihedrals_rmse" not in hot.columns
    sweeps = figure_spec(toy.experiments_of("tiny"), "ablations").tables
    assert [(table.name, table.own) for table in sweeps] == [
        ("noise_scale", 0.04),
        ("decoder_depth", 2.0),
    ]
    assert len({table.title for table in sweeps}) == 2


@pytest.mark.parametrize(
    "edition", ["tiny", "laptop", "evidence", "readings", "workstation", "paper"]
)
def test_no_panel_shows_two_tables_or_two_sets_of_labels_as_one(edition: str) -> None:
    found = toy.experiments_of(edition)
    for name in NAMES:
        spec = figure_spec(found, name)
        assert len({table.title for table in spec.tables}) == len(spec.tables)
        runs = [(run.panel, run.method, run.seed) for run in spec.runs if run.panel]
        assert len(set(runs)) == len(runs), name


def test_a_method_whose_file_is_absent_is_in_no_figure(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    entry = {"label": "Public", "encoder_file": {"local": "nowhere.ckpt"}}
    changes = {"edition": "tiny", "methods": {"public": entry}}
    found = Experiments.load(toy.ROOT / "config", changes)
    assert "public" in figure_spec(found, "smoothness").methods
    config = with_absent_files(
        found.config, tmp_path_factory.mktemp("empty"), mirror=None, offline=True
    )
    for name in NAMES:
        spec = figure_spec(Experiments(config), name)
        assert "public" not in spec.methods
        assert not any("public" in file for file in spec.files())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": [{"name": "qm9"}]}, r"spec\.tables\.0\.path: missing"),
        ({"tables": "qm9"}, r"spec\.tables: is 'qm9'; must be a list"),
        ({"groups": []}, r"spec\.groups: unknown key; allowed: methods, runs, tables, scans"),
    ],
)
def test_a_specification_of_another_shape_is_refused(
    change: dict[str, object], message: str
) -> None:
    spec = figure_spec(toy.experiments_of("tiny"), "errors_by_method").as_json()
    with pytest.raises(ConfigError, match=message):
        FigureSpec.from_json(spec | change)


def test_a_new_notebook_gets_the_tables() -> None:
    spec = figure_spec(toy.experiments_of("tiny"), "something_new")
    assert spec.files()[0] == "results/tiny/tables/qm9.json"


def test_a_table_that_compares_with_nobody_has_no_differences() -> None:
    found = toy.experiments_of("tiny")
    qm9 = found.config.tables["qm9"]
    alone = replace(qm9, rows=replace(qm9.rows, compare=()))
    config = replace(found.config, tables={**found.config.tables, "qm9": alone})
    names = [t.name for t in figure_spec(Experiments(config), "errors_by_method").tables]
    assert "qm9" not in names
    assert "md17" in names
