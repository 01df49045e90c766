"""docs/architecture.md and its picture say what the code is."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree
from pathlib import Path

import pytest

from tests.frame.repository import PACKAGE, ROOT, defines, load_script, where_now

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
REFERENCE = re.compile(r"`([\w./-]+\.(?:py|smk|yaml|j2|js|css))(?::([\w.]+))?`")
drawing = load_script(ROOT / "docs" / "draw_architecture.py")


def section(title: str) -> str:
    """Text of a section of the page, to the next title of any level."""
    start = PAGE.index(f"# {title}")
    return PAGE[start:].partition("\n")[2].partition("\n#")[0]


def stale(text: str) -> list[str]:
    """References to files that are not there or do not define the name, with where it is now."""
    found = []
    for place, name in REFERENCE.findall(text):
        path = next((base / place for base in (ROOT, PACKAGE) if (base / place).is_file()), None)
        if path is None or (name and not defines(path, name)):
            hint = f"; now in {', '.join(where_now(name)) or 'no file'}" if name else ""
            found.append(f"{place}{':' + name if name else ''}{hint}")
    return found


def test_every_reference_of_the_page_exists() -> None:
    before, _, rest = PAGE.partition(drawing.BEGIN)
    text = before + rest.partition(drawing.END)[2]
    text = text.replace("`slurm/site.yaml`", "")  # a file of the user's, which git ignores
    assert len(REFERENCE.findall(text)) > 80
    assert stale(text) == []


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("data/split.py:Store", "now in data/store.py"),
        ("data/nowhere.py", "data/nowhere.py"),
        ("config/methods.yaml:georecon.params.sigma_wreck", "no file"),
        ("rules/data.smk:finetune", "stages/finetune.py"),
        ("reporting/web/static/site.js:openSesame", "no file"),
    ],
)
def test_a_stale_reference_is_found(reference: str, hint: str) -> None:
    (message,) = stale(f"see `{reference}`")
    assert hint in message


@pytest.mark.parametrize(
    "title",
    [
        "A position, from file to batch",
        "A label, to a cell of a table",
        "`sigma_rec`, from YAML to the loss",
        "A metric, to the web report",
    ],
)
def test_each_step_of_a_way_names_where_it_is(title: str) -> None:
    steps = re.split(r"^\d+\. ", section(title), flags=re.MULTILINE)[1:]
    assert len(steps) > 5
    assert [step for step in steps if not REFERENCE.search(step)] == []


def test_each_common_change_names_a_place() -> None:
    rows = [line for line in section("I want to change …").splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for row in rows[1:]:
        _, _, place, what, _ = row.split(" | ") if row.count(" | ") == 4 else row.split("|")
        folder = place.strip().strip("`").partition(":")[0]
        exists = (ROOT / folder).exists() or (PACKAGE / folder).exists()
        assert exists or folder == "slurm/site.yaml", row
        assert what.strip()


def test_picture_and_table_are_drawn_from_the_code_as_it_is() -> None:
    for path, text in drawing.wanted(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, "run: python docs/draw_architecture.py"


def test_the_picture_is_well_formed_and_shows_every_folder() -> None:
    root = xml.etree.ElementTree.parse(ROOT / "docs" / "architecture.svg").getroot()
    words = {element.text for element in root.iter() if element.tag.endswith("text")}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(folders) > 10
    assert {f"{name}/" for name in folders} <= words
    assert drawing.UPWARDS not in (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the drawing reads, to be changed."""
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("src", "rules", "workflow", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_a_changed_sentence_or_import_is_seen(copy: Path) -> None:
    page, picture = (copy / "docs" / f"architecture.{kind}" for kind in ("md", "svg"))
    before = drawing.wanted(copy)
    assert [text for text in before.values()] == [picture.read_text("utf-8"), PAGE]
    (copy / "src/georecon/data/__init__.py").write_text('"""Another sentence."""\n')
    after = drawing.wanted(copy)
    assert "Another sentence." in after[page]
    assert "Another sentence." in after[picture]
    module = copy / "src/georecon/data/upwards.py"
    module.write_text("def late():\n    from georecon.training import loop\n    return loop\n")
    assert drawing.UPWARDS in drawing.wanted(copy)[picture]


def test_a_rule_file_counts_with_its_imports(copy: Path) -> None:
    rooms = {room.name: room for room in drawing.read_rooms(copy)}
    assert "objectives" not in rooms[drawing.CALLERS].uses
    (copy / "rules/more.smk").write_text("from georecon.objectives import build\n")
    rooms = {room.name: room for room in drawing.read_rooms(copy)}
    assert rooms[drawing.CALLERS].uses["objectives"] == 1
