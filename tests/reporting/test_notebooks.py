from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import nbformat
import pytest

from georecon.experiments.experiments import Experiments
from georecon.files import read_json, write_json
from georecon.reporting.figures.inputs import (
    configured,
    figure_names,
    figure_spec,
    notebook_digest,
    notebook_names,
)
from georecon.reporting.figures.specs import FigureSpec
from georecon.reporting.render import NotebookError, render
from tests import toy_results as toy

NAMES = notebook_names(toy.NOTEBOOKS)
MOST_LINES = 40
EVIDENCE, PAPER = ("label_efficiency",), ("error_by_temperature",)
"""Figures that the tiny edition has no data for."""


def sources(name: str) -> nbformat.NotebookNode:
    return nbformat.read(toy.NOTEBOOKS / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_clean_and_small(name: str) -> None:
    node = sources(name)
    nbformat.validate(node)
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert [cell.metadata.get("tags") for cell in code] == [["parameters"], None, None]
    assert sum(cell.cell_type == "markdown" for cell in node.cells) == 1
    assert set(node.metadata) == {"kernelspec", "language_info"}
    for cell in code:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= MOST_LINES
        assert max(map(len, lines)) <= 140


@pytest.mark.parametrize("name", NAMES)
def test_notebook_reads_a_frame_shows_its_head_and_draws_in_plain_code(name: str) -> None:
    parameters, reading, drawing = (
        ast.parse(cell.source) for cell in sources(name).cells if cell.cell_type == "code"
    )
    assert all(isinstance(part, ast.Assign) for part in parameters.body)
    head = ast.unparse(reading.body[-1])
    frame = head.removesuffix(".head()")
    assert head == f"{frame}.head()"
    assert f"Results('{name}', edition, spec)" in ast.unparse(reading)
    calls = ast.unparse(drawing)
    assert frame in calls
    assert "axes." in calls, "drawn here, not in the library"
    assert ast.unparse(drawing.body[-1]).startswith("results.finish(figure, outputs")
    imported = [part for part in ast.walk(reading) if isinstance(part, ast.ImportFrom)]
    ours = {part.module for part in imported if (part.module or "").startswith("georecon")}
    assert ours == {"georecon.reporting.figures.shared"}, "one small module is shared"


def test_bars_points_and_lines_are_explained_in_the_picture() -> None:
    for name in NAMES:
        drawing = sources(name).cells[-1].source
        assert "note=" in drawing, name
        if "yerr" in drawing:
            assert "95 % interval" in drawing, name


def edition_of(name: str) -> Experiments:
    """A small edition that has the figure's data."""
    if name in EVIDENCE:
        config = toy.experiments_of("evidence").config
        return Experiments(replace(config, tables={"labels": config.tables["labels"]}))
    if name in PAPER:
        config = toy.experiments_of("paper").config
        names = ("scratch", "coord", "georecon")
        methods = {key: config.methods[key] for key in names}
        return Experiments(replace(config, tables={"3bpa": config.tables["3bpa"]}, methods=methods))
    return toy.experiments_of("tiny")


def execute(name: str, experiments: Experiments, outputs: list[str]) -> None:
    """Run a notebook's cells here, as Jupyter would, in the current folder."""
    space = {"edition": experiments.edition, "outputs": outputs}
    space["spec"] = figure_spec(experiments, name).as_json()
    with matplotlib.rc_context():
        matplotlib.use("agg")
        for cell in sources(name).cells[2:]:
            exec(compile(cell.source, f"{name}.ipynb", "exec"), space)


@pytest.mark.parametrize("shape", [toy.only_scratch, toy.many_methods])
def test_all_figures_are_drawn_from_any_shape_of_edition(
    shape: Callable[[Experiments], Experiments], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = shape(toy.experiments_of("tiny"))
    toy.write_results(experiments)
    for name in figure_names(experiments, toy.NOTEBOOKS):
        execute(name, experiments, [f"{name}.pdf", f"{name}.png"])
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


def test_figures_survive_cells_that_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.experiments_of("tiny")
    toy.write_results(experiments)
    for path in Path("results/tiny/tables").glob("*.json"):
        table = read_json(path)
        table["comparison"] = table["comparison"] and {**table["comparison"], "differences": []}
        for cell in table["cells"]:
            cell.update(value=None, low=None, high=None, n=0, values={}, reason="not here")
        write_json(path, table)
    for name in figure_names(experiments, toy.NOTEBOOKS):
        execute(name, experiments, [])


def test_a_figure_reads_exactly_its_declared_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.experiments_of("tiny")
    toy.write_results(experiments)
    folders = (Path("results"), Path("resources"))
    everything = {path for one in folders for path in one.rglob("*") if path.is_file()}
    for name in figure_names(experiments, toy.NOTEBOOKS):
        declared = {Path(file) for file in figure_spec(experiments, name).files()}
        stores = {path.parent for path in declared if path.name == "manifest.json"}
        beside = {path for path in everything if path.parent in stores}
        beside |= {path.with_suffix(".json") for path in declared if path.suffix == ".npz"}
        hidden = everything - declared - beside
        for path in hidden:
            path.rename(path.with_name(path.name + ".hidden"))
        execute(name, experiments, [])
        for path in hidden:
            path.with_name(path.name + ".hidden").rename(path)


def rendered(folder: Path, notebook: Path, parameters: dict[str, object]) -> None:
    render(
        notebook,
        parameters,
        executed=folder / "out" / "figure.ipynb",
        page=folder / "out" / "figure.html",
        log=folder / "logs" / "figure.log",
    )


@pytest.mark.parametrize("name", NAMES)
def test_papermill_gives_four_files_without_machine_or_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = edition_of(name)
    toy.write_results(experiments)
    parameters = {
        "edition": experiments.edition,
        "spec": figure_spec(experiments, name).as_json(),
        "outputs": ["out/figure.pdf", "out/figure.png"],
    }
    contents = []
    for _ in range(2 if name == "ablations" else 1):
        rendered(tmp_path, toy.NOTEBOOKS / f"{name}.ipynb", parameters)
        contents.append({path.name: path.read_bytes() for path in Path("out").iterdir()})
    assert sorted(contents[0]) == ["figure.html", "figure.ipynb", "figure.pdf", "figure.png"]
    assert contents[0] == contents[-1]
    page = contents[0]["figure.html"].decode()
    assert "data:image/png;base64," in page
    assert "<table" in page, "the head of the results"
    assert "<script" not in page
    assert "://" not in page
    assert str(tmp_path) not in contents[0]["figure.ipynb"].decode()
    assert not list(Path("logs").iterdir())


@pytest.mark.long
def test_every_figure_has_the_same_bytes_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.experiments_of("tiny")
    toy.write_results(experiments)
    for name in figure_names(experiments, toy.NOTEBOOKS):
        for time in ("first", "second"):
            execute(name, experiments, [f"{time}.pdf", f"{time}.png"])
        for kind in ("pdf", "png"):
            assert Path(f"first.{kind}").read_bytes() == Path(f"second.{kind}").read_bytes(), name


def test_a_notebook_runs_alone_on_its_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Jupyter: no parameters, any working folder, results where the checkout is."""
    experiments, (project, elsewhere) = toy.experiments_of("tiny"), (tmp_path / "a", tmp_path / "b")
    project.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(project)
    toy.write_results(experiments)
    monkeypatch.chdir(elsewhere)
    asked = []

    def finished(figure: str, edition: str) -> tuple[FigureSpec, Path]:
        asked.append((figure, edition))
        return figure_spec(experiments, figure), project

    monkeypatch.setattr("georecon.reporting.figures.shared.configured", finished)
    space: dict[str, object] = {}
    with matplotlib.rc_context():
        for cell in sources("smoothness").cells[1:]:
            exec(compile(cell.source, "smoothness.ipynb", "exec"), space)
    assert asked == [("smoothness", "laptop")]
    assert not list(elsewhere.iterdir()), "it writes nothing unless asked"


def test_the_defaults_are_those_of_the_checkout() -> None:
    spec, base = configured("smoothness", "laptop")
    assert spec == figure_spec(toy.experiments_of("laptop"), "smoothness")
    assert base == toy.ROOT


HOSTILE = """text.usetex: True
figure.figsize: 1, 1
savefig.bbox: tight
axes.prop_cycle: cycler('color', ['r'])
font.family: Nothing Like This
axes.xmargin: a word that is no number
no.such.key: 1
backend: TkAgg
"""


def curves_in(folder: Path) -> dict[str, bytes]:
    """The files of a figure that is made in a folder, from results there."""
    experiments = toy.experiments_of("tiny")
    toy.write_results(experiments)
    spec = figure_spec(experiments, "pretraining_curves").as_json()
    parameters = {"edition": "tiny", "spec": spec, "outputs": ["out/figure.pdf"]}
    rendered(folder, toy.NOTEBOOKS / "pretraining_curves.ipynb", parameters)
    return {path.name: path.read_bytes() for path in Path("out").iterdir()}


@pytest.fixture(scope="module")
def clean_curves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What it is where the user has set nothing."""
    folder = tmp_path_factory.mktemp("clean")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return curves_in(folder)


@pytest.mark.parametrize("where", ["folder, broken", "MATPLOTLIBRC", "HOME"])
def test_the_users_matplotlibrc_changes_nothing(
    where: str, clean_curves: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home/.config/matplotlib"
    home.mkdir(parents=True)
    place = home if where == "HOME" else tmp_path
    data = HOSTILE.encode() + (b"font.size: 3 # \xf6" if "broken" in where else b"")
    (place / "matplotlibrc").write_bytes(data)
    if where == "MATPLOTLIBRC":
        monkeypatch.setenv("MATPLOTLIBRC", str((place / "matplotlibrc").rename("x.rc")))
    if where == "HOME":
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    assert curves_in(tmp_path) == clean_curves


def test_failed_notebook_is_kept_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = {"methods": {"scratch": "scratch"}, "tables": [{"name": "qm9", "path": "no.json"}]}
    parameters = {"edition": "tiny", "spec": spec}
    with pytest.raises(NotebookError, match=r"errors_by_method.ipynb.*no\.json.*logs/figure.ipynb"):
        rendered(tmp_path, toy.NOTEBOOKS / "errors_by_method.ipynb", parameters)
    assert "no.json" in Path("logs/figure.ipynb").read_text()
    assert not Path("out").exists()


def test_digest_follows_the_notebooks_content(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text("one")
    first = notebook_digest(tmp_path, "a")
    path.write_text("two")
    assert notebook_digest(tmp_path, "a") != first
