from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

from georecon.reporting.figures.inputs import figure_names, figure_spec, notebook_digest
from georecon.reporting.render import NotebookError, render
from tests import toy_results as toy

NAMES = figure_names(toy.NOTEBOOKS)


def sources(name: str) -> nbformat.NotebookNode:
    return nbformat.read(toy.NOTEBOOKS / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_clean_and_small(name: str) -> None:
    node = sources(name)
    nbformat.validate(node)
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert [cell.metadata.get("tags") for cell in code] == [["parameters"], None]
    assert sum(cell.cell_type == "markdown" for cell in node.cells) == 1
    assert set(node.metadata) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("name", NAMES)
def test_notebook_only_calls_the_library(name: str) -> None:
    code = [cell.source for cell in sources(name).cells if cell.cell_type == "code"]
    parameters = ast.parse(code[0])
    assert all(isinstance(part, ast.Assign) for part in parameters.body)
    drawing = ast.parse(code[1])
    assert ast.unparse(drawing.body[0]) == "from georecon.reporting.figures.draw import draw"
    assert ast.unparse(drawing.body[1]) == f"draw('{name}', edition, spec, outputs)"
    assert len(drawing.body) == 2


def rendered(folder: Path, notebook: Path, parameters: dict[str, object]) -> None:
    render(
        notebook,
        parameters,
        executed=folder / "out" / "figure.ipynb",
        page=folder / "out" / "figure.html",
        log=folder / "logs" / "figure.log",
    )


def test_render_gives_four_files_without_machine_or_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments = toy.experiments_of("tiny")
    toy.write_results(experiments)
    parameters = {
        "edition": "tiny",
        "spec": figure_spec(experiments, "ablations").as_json(),
        "outputs": ["out/figure.pdf", "out/figure.png"],
    }
    contents = []
    for _ in range(2):
        rendered(tmp_path, toy.NOTEBOOKS / "ablations.ipynb", parameters)
        contents.append({path.name: path.read_bytes() for path in Path("out").iterdir()})
    assert sorted(contents[0]) == ["figure.html", "figure.ipynb", "figure.pdf", "figure.png"]
    assert contents[0] == contents[1]
    page = contents[0]["figure.html"].decode()
    assert "data:image/png;base64," in page
    assert "<script" not in page
    assert "://" not in page
    assert str(tmp_path) not in contents[0]["figure.ipynb"].decode()
    assert not list(Path("logs").iterdir())


HOSTILE = """text.usetex: True
figure.figsize: 1, 1
savefig.bbox: tight
axes.prop_cycle: cycler('color', ['r'])
font.family: Nothing Like This
axes.xmargin: a word that is no number
no.such.key: 1
backend: TkAgg
"""


@pytest.mark.parametrize("where", ["folder, broken", "MATPLOTLIBRC", "HOME"])
def test_the_users_matplotlibrc_changes_nothing(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments = toy.experiments_of("tiny")
    spec = figure_spec(experiments, "pretraining_curves").as_json()
    parameters = {"edition": "tiny", "spec": spec, "outputs": ["out/figure.pdf"]}
    contents = []
    for name in ("clean", "hostile"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        toy.write_results(experiments)
        if name == "hostile":
            home = folder / "home/.config/matplotlib"
            home.mkdir(parents=True)
            place = home if where == "HOME" else folder
            data = HOSTILE.encode() + (b"font.size: 3 # \xf6" if "broken" in where else b"")
            (place / "matplotlibrc").write_bytes(data)
            if where == "MATPLOTLIBRC":
                monkeypatch.setenv("MATPLOTLIBRC", str((place / "matplotlibrc").rename("x.rc")))
            if where == "HOME":
                monkeypatch.setenv("HOME", str(folder / "home"))
                monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
                monkeypatch.delenv("MPLCONFIGDIR", raising=False)
        rendered(folder, toy.NOTEBOOKS / "pretraining_curves.ipynb", parameters)
        contents.append({path.name: path.read_bytes() for path in Path("out").iterdir()})
    assert contents[0] == contents[1]


def test_failed_notebook_is_kept_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    panel = {"quantity": "", "rows": {"scratch": "scratch"}}
    table = {"name": "qm9", "file": "no.json", "panels": [panel]}
    spec = {"methods": {"scratch": "scratch"}, "tables": [table]}
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
