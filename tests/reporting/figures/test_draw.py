from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from georecon.errors import ConfigError
from georecon.experiments.experiments import Experiments
from georecon.files import read_json, write_json
from georecon.reporting.figures import draw
from georecon.reporting.figures.inputs import figure_files, figure_names, figure_spec
from georecon.reporting.figures.panels import seed_curves
from georecon.reporting.figures.style import COLOURS, colour
from tests import toy_results as toy

NAMES = figure_names(toy.NOTEBOOKS)


def texts(drawn: draw.Drawn) -> str:
    found = [text.get_text() for text in drawn.figure.findobj() if hasattr(text, "get_text")]
    return "\n".join(found)


def draw_tiny(experiments: Experiments, name: str) -> draw.Drawn:
    return draw.draw(name, "tiny", figure_spec(experiments, name).as_json())


def test_every_notebook_has_a_figure_and_every_figure_a_notebook() -> None:
    assert sorted(draw.FIGURES) == NAMES


@pytest.mark.parametrize("shape", [toy.only_scratch, toy.many_methods])
def test_all_figures_are_drawn_from_any_shape_of_edition(
    shape: Callable[[Experiments], Experiments], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = shape(toy.experiments_of("tiny"))
    toy.write_results(experiments)
    for name in NAMES:
        spec = figure_spec(experiments, name)
        drawn = draw.draw(name, "tiny", spec.as_json(), [f"{name}.pdf", f"{name}.png"])
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / f"{name}.png").read_bytes() == drawn._repr_png_()
        assert "tiny edition" in texts(drawn)


def test_settings_of_matplotlib_do_not_matter_and_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.experiments_of("tiny")
    toy.write_results(experiments)
    plain = draw_tiny(experiments, "smoothness").png
    hostile = {"text.usetex": True, "savefig.bbox": "tight", "axes.grid.axis": "x"}
    hostile |= {"figure.constrained_layout.h_pad": 1.0, "axes.unicode_minus": False}
    with matplotlib.rc_context(hostile):
        before = dict(matplotlib.rcParams)
        assert draw_tiny(experiments, "smoothness").png == plain
        assert dict(matplotlib.rcParams) == before


def test_the_same_data_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.experiments_of("tiny")
    toy.write_results(experiments)
    spec = figure_spec(experiments, "predictions").as_json()
    for name in ("first", "second"):
        draw.draw("predictions", "tiny", spec, [f"{name}.pdf", f"{name}.png"])
    for kind in ("pdf", "png"):
        assert Path(f"first.{kind}").read_bytes() == Path(f"second.{kind}").read_bytes()


def test_empty_cells_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.experiments_of("tiny")
    toy.write_results(experiments)
    empty = {"value": None, "std": None, "n": 0, "reason": "not in this edition"}
    for name, rows in (("qm9", ["scratch", "coord"]), ("noise_scale", ["0.04"])):
        table = read_json(f"results/tiny/tables/{name}.json")
        assert {cell["row"] for cell in table["cells"]} >= set(rows)
        for cell in table["cells"]:
            if cell["row"] in rows and cell["column"] == table["columns"][0]["key"]:
                cell.update(empty)
        write_json(f"results/tiny/tables/{name}.json", table)
    drawn = draw_tiny(experiments, "errors_by_method")
    assert "no scratch" in texts(drawn)
    draw_tiny(experiments, "ablations")


def test_error_in_a_panel_is_the_tables_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.experiments_of("tiny")
    toy.write_results(experiments)
    table = read_json("results/tiny/tables/qm9.json")
    shown = texts(draw_tiny(experiments, "predictions"))
    for cell in table["cells"]:
        if cell["row"] in experiments.methods.names():
            assert f"{cell['value']:.3g}" in shown


def test_points_and_bars_are_the_tables_mean_and_deviation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.many_methods(toy.experiments_of("tiny"))
    toy.write_results(experiments)
    table = read_json("results/tiny/tables/qm9.json")
    cells = {(cell["row"], cell["column"]): cell for cell in table["cells"]}
    drawn = draw_tiny(experiments, "errors_by_method")
    lines = drawn.figure.axes[0].lines
    heights = {float(y) for line in lines for y in np.asarray(line.get_ydata(), dtype=float)}

    def shown(height: float) -> bool:
        return any(abs(height - found) < 1e-9 for found in heights)

    for (row, column), cell in cells.items():
        scratch = cells["scratch", column]["value"]
        if row in experiments.methods.names():
            for height in (cell["value"], cell["value"] - cell["std"], cell["value"] + cell["std"]):
                assert shown(height / scratch), (row, column)
            assert not shown((cell["value"] + 0.9 * cell["std"]) / scratch)  # the twin


def test_a_curves_band_runs_from_the_lowest_to_the_highest_seed() -> None:
    axes = Figure().add_subplot()
    values = np.array([[3.0, 2.0, 1.0], [5.0, 4.0, 1.5], [4.0, 2.5, 0.5]])
    seed_curves(axes, np.array([10, 20, 30]), values, "#000000", "o")
    np.testing.assert_allclose(axes.lines[0].get_ydata(), values.mean(0))
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    for step, column in zip((10, 20, 30), values.T, strict=True):
        found = corners[corners[:, 0] == step, 1]
        assert (found.min(), found.max()) == (column.min(), column.max())


def test_total_energies_are_shown_less_their_references(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.experiments_of("tiny")
    config = experiments.config
    qm9 = config.tables["qm9"]
    qm9 = replace(qm9, columns=(replace(qm9.columns[0], targets=("u0",)),))
    experiments = Experiments(replace(config, tables={**config.tables, "qm9": qm9}))
    toy.write_results(experiments)
    drawn = draw_tiny(experiments, "predictions")
    assert "less atomic references" in texts(drawn)
    low, high = drawn.figure.axes[0].get_xlim()
    assert -50 < low < high < 50


@pytest.mark.parametrize("edition", ["tiny", "laptop", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_specification_names_only_files_of_its_edition(name: str, edition: str) -> None:
    files = figure_files(figure_spec(toy.experiments_of(edition), name))
    assert files
    assert all(file.startswith(f"results/{edition}/") for file in files)
    assert len(files) == len(set(files))


def test_a_figure_reads_exactly_its_declared_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.experiments_of("tiny")
    toy.write_results(experiments)
    everything = {path for path in Path("results").rglob("*") if path.is_file()}
    for name in NAMES:
        spec = figure_spec(experiments, name)
        hidden = everything - {Path(file) for file in figure_files(spec)}
        for path in hidden:
            path.rename(path.with_name(path.name + ".hidden"))
        draw.draw(name, "tiny", spec.as_json())
        for path in hidden:
            path.with_name(path.name + ".hidden").rename(path)


@pytest.mark.parametrize("edition", ["tiny", "laptop", "paper"])
@pytest.mark.parametrize("name", [*NAMES, "something_new"])
def test_a_specification_comes_back_from_json(name: str, edition: str) -> None:
    spec = figure_spec(toy.experiments_of(edition), name)
    text = json.dumps(spec.as_json())
    again = type(spec).from_json(json.loads(text))
    assert again == spec
    assert json.dumps(again.as_json()) == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": [{"name": "qm9", "panels": []}]}, r"spec\.tables\.0\.file: missing"),
        ({"tables": "qm9"}, r"spec\.tables: is 'qm9'; must be a list"),
        ({"groups": []}, r"spec\.groups: unknown key; allowed: methods, tables"),
    ],
)
def test_a_specification_of_another_shape_is_refused(
    change: dict[str, object], message: str
) -> None:
    spec = figure_spec(toy.experiments_of("tiny"), "errors_by_method").as_json()
    with pytest.raises(ConfigError, match=message):
        draw.draw("errors_by_method", "tiny", spec | change)


def test_a_new_notebook_gets_the_tables() -> None:
    spec = figure_spec(toy.experiments_of("tiny"), "something_new")
    assert figure_files(spec)[0] == "results/tiny/tables/qm9.json"


def test_colours_stay_with_their_method() -> None:
    few, many = ["scratch", "coord", "mine"], ["frad", "scratch", "coord", "mine", "yours"]
    assert [colour(few, name) for name in few] == [colour(many, name) for name in few]
    assert len({colour(many, name) for name in many}) == len(many)
    assert colour(many, "coord") == COLOURS["coord"]
