"""Draw docs/architecture.svg, and the table of folders in docs/architecture.md, from the code.

The order of the folders is that of the import contract in pyproject.toml, the sentences are the
first ones of the packages' docstrings, the imports those of the sources. ``--check`` changes
nothing and ends with 1 where picture or page are out of step.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path

from georecon.files import write_text
from georecon.records.code import parse_python

ROOT = Path(__file__).resolve().parents[1]
GROUND = "ground"
CALLERS = "Snakefile, rules/, workflow/scripts/"
BEGIN, END = "<!-- drawn from the code: begin -->\n", "<!-- drawn from the code: end -->"
# a rule file is no Python; a name in brackets on the lines below belongs to the module before it
IMPORT = re.compile(r"^\s*from (georecon[\w.]*) import ([\w, ]*)", re.MULTILINE)
NO_SOURCE = {".pyc", ".typed"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """A folder of the package, its ground modules, or what calls it.

    Attributes:
        name: as written in the picture.
        sentence: what it is for.
        files: source files, with those of folders inside.
        parts: folders inside, or ground modules, with the sentence of each.
        uses: how many of its files import from each room.
    """

    name: str
    sentence: str
    files: int
    parts: dict[str, str]
    uses: dict[str, int]


# ---- what the code says -----------------------------------------------------------------------


def read_rooms(root: Path) -> list[Room]:
    """Rooms from top to bottom.

    Args:
        root: folder of the repository.

    Raises:
        FileNotFoundError: the contract names a folder or module that is not there.
    """
    package = root / "src" / "georecon"
    folders, ground = read_order(root)
    scripts = [root / "Snakefile", *root.glob("rules/*.smk"), *root.glob("workflow/scripts/*.py")]
    first = (root / "Snakefile").read_text(encoding="utf-8").splitlines()[0]
    rooms = [
        Room(
            name=CALLERS,
            sentence=first.strip("# ").partition(". ")[0] + ".",
            files=len(scripts),
            parts={},
            uses=count_uses(scripts, folders, ""),
        )
    ]
    for name in folders:
        inside = sorted(path.parent for path in (package / name).glob("*/__init__.py"))
        files = sources(package / name)
        rooms.append(
            Room(
                name=name,
                sentence=sentence(package / name / "__init__.py"),
                files=len(files),
                parts={path.name: sentence(path / "__init__.py") for path in inside},
                uses=count_uses(files, folders, name),
            )
        )
    rooms.append(
        Room(
            name=GROUND,
            sentence=sentence(package / "__init__.py", paragraph=1),
            files=len(ground),
            parts={name: sentence(package / f"{name}.py") for name in ground},
            uses={},
        )
    )
    return rooms


def read_order(root: Path) -> tuple[list[str], list[str]]:
    """Folders from top to bottom, and ground modules, as the import contract has them."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(entry["layers"] for entry in contracts if entry.get("id") == "layers")
    folders = [layer for layer in layers if ":" not in layer]
    ground = [name.strip("()") for name in layers[-1].split(" : ")]  # in brackets: may be absent
    package = root / "src" / "georecon"
    return folders, [name for name in ground if (package / f"{name}.py").is_file()]


def sources(folder: Path) -> list[Path]:
    """Source files of a folder and of those inside it."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in found if p.suffix not in NO_SOURCE and "__pycache__" not in p.parts)


def sentence(path: Path, paragraph: int = 0) -> str:
    """First sentence of a paragraph of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    words = " ".join([*text.split("\n\n"), ""][paragraph].split())
    return re.split(r"(?<=[.:]) (?=[A-Z])", words)[0] if words else ""


def count_uses(files: list[Path], folders: list[str], own: str) -> dict[str, int]:
    """How many of the files import from each room other than their own."""
    found: Counter[str] = Counter()
    for path in files:
        parts = (name.split(".")[1:2] for name in imported(path))
        rooms = {part if part in folders else GROUND for [part] in filter(None, parts)}
        found.update(rooms - {own})
    return dict(found)


def imported(path: Path) -> tuple[str, ...]:
    """Dotted names that a file imports from the package."""
    if path.suffix not in (".py", ".smk", ""):
        return ()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return parse_python(text).imports
    pairs = IMPORT.findall(text)
    return tuple(f"{module}.{name.strip()}" for module, names in pairs for name in names.split(","))


# ---- the picture ------------------------------------------------------------------------------

LEFT, TEXT, CELL, HEAD, LINE = 24, 620, 44, 128, 17
"""Margin, width of a room's box, of a column, height of the head, of a line [pixels]."""
INK, SOFT, PAPER = "#1c2733", "#5d6b7a", "#ffffff"
BOX, MARK, EMPTY = "#eef3f8", "#2a6f97", "#f6f7f9"
UPWARDS = "#c1121f"
"""Colour of an import that the contract forbids."""


def draw(rooms: list[Room]) -> str:
    """The picture as SVG text: a row a room, top to bottom, and who imports from whom beside it."""
    columns = rooms[1:]
    x0 = LEFT + TEXT + 16
    y = HEAD + 44
    body: list[str] = []
    for index, room in enumerate(rooms):
        height = 34 + LINE * (len(wrap(room.sentence)) + len(part_lines(room)))
        body += box(room, y, height)
        body += marks(room, index, columns, x0, y, height)
        y += height + 8
    width = x0 + CELL * len(columns) + LEFT + 40
    head = [
        label(LEFT, 36, "georecon: from top to bottom", size=22, bold=True),
        label(LEFT, 62, "A folder imports only from folders below it.", fill=SOFT, size=15),
        label(LEFT, 84, "A number: how many of the row's files import", fill=SOFT, size=15),
        label(LEFT, 104, "from the column's folder.", fill=SOFT, size=15),
        *(
            f'<g transform="translate({x0 + CELL * (k + 0.5) + 5:g},{HEAD + 30}) rotate(-45)">'
            f"{label(0, 0, room.name, size=14, bold=True)}</g>"
            for k, room in enumerate(columns)
        ),
    ]
    size = f'width="{width}" height="{y + 12}" viewBox="0 0 {width} {y + 12}"'
    font = 'font-family="DejaVu Sans, Verdana, Arial, sans-serif"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} role="img">',
        "<title>Folders of georecon and their imports</title>",
        f'<rect width="100%" height="100%" fill="{PAPER}"/>',
        *head,
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def box(room: Room, y: int, height: int) -> list[str]:
    """What a room is: name, number of files, sentence, and what is inside."""
    called = room.name == CALLERS
    fill = f'fill="{PAPER if called else BOX}" stroke="{SOFT if called else BOX}"'
    name = room.name if room.name in (CALLERS, GROUND) else f"{room.name}/"
    lines = [
        f'<rect x="{LEFT}" y="{y}" width="{TEXT}" height="{height}" rx="7" {fill}/>',
        label(LEFT + 14, y + 23, name, size=16, bold=True),
        label(LEFT + TEXT - 14, y + 22, f"{room.files} files", fill=SOFT, anchor="end"),
    ]
    below = y + 25
    for text in wrap(room.sentence):
        below += LINE
        lines.append(label(LEFT + 14, below, text, size=14))
    for text in part_lines(room):
        below += LINE
        lines.append(label(LEFT + 30, below, text, fill=SOFT))
    return lines


def marks(room: Room, index: int, columns: list[Room], x0: int, y: int, height: int) -> list[str]:
    """One row of the matrix; a mark left of the diagonal would be an import upwards."""
    lines = []
    for k, column in enumerate(columns):
        x, count = x0 + CELL * k, room.uses.get(column.name, 0)
        own = column is room
        fill = SOFT if own else BOX if k >= index else EMPTY
        lines.append(
            f'<rect x="{x + 1}" y="{y}" width="{CELL - 2}" height="{height}" rx="4" fill="{fill}"/>'
        )
        if count:
            middle = f'cx="{x + CELL / 2:g}" cy="{y + height / 2:g}"'
            radius = 10 + min(count, 16) * 0.6
            colour = MARK if k >= index else UPWARDS
            said = f"{count} files of {room.name} import from {column.name}"
            lines.append(
                f'<g><title>{escape(said)}</title><circle {middle} r="{radius:g}" fill="{colour}"/>'
                + label(x + CELL / 2, y + height / 2 + 5, str(count), fill=PAPER, anchor="middle")
                + "</g>"
            )
    return lines


def part_lines(room: Room) -> list[str]:
    """What is inside a room, a line each."""
    end = ".py" if room.name == GROUND else "/"
    texts = (f"{name}{end} · {plain(text)}" for name, text in room.parts.items())
    return [text if len(text) <= 88 else f"{text[:87].rsplit(' ', 1)[0]} …" for text in texts]


def wrap(text: str, width: int = 82) -> list[str]:
    """Text in lines of at most ``width`` characters."""
    lines = [""]
    for word in plain(text).split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def plain(text: str) -> str:
    """A docstring's sentence without its marks."""
    return text.replace("``", "")


def label(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 13,
    fill: str = INK,
    anchor: str = "",
    bold: bool = False,
) -> str:
    """A piece of text."""
    more = f' text-anchor="{anchor}"' if anchor else ""
    more += ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}"{more}>{escape(text)}</text>'


# ---- the page ---------------------------------------------------------------------------------


def folder_table(rooms: list[Room]) -> str:
    """Markdown table of the folders and the modules on the ground."""
    lines = ["| place | what it is |", "|---|---|"]
    for room in rooms[1:]:
        ground = room.name == GROUND
        lines.append(
            f"| {'**ground**' if ground else f'**`{room.name}/`**'} | {mark(room.sentence)} |"
        )
        for name, text in room.parts.items():
            place = f"{name}.py" if ground else f"{room.name}/{name}/"
            lines.append(f"| &emsp;`{place}` | {mark(text)} |")
    return "\n".join(lines) + "\n"


def mark(text: str) -> str:
    """A docstring's sentence with Markdown's marks."""
    return text.replace("``", "`").replace("|", "\\|")


def with_table(page: str, table: str) -> str:
    """The page with its drawn part replaced."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + table + END + rest.split(END, 1)[1]


def wanted(root: Path) -> dict[Path, str]:
    """Each drawn file and what it must say."""
    rooms = read_rooms(root)
    page = root / "docs" / "architecture.md"
    text = page.read_text(encoding="utf-8")
    return {
        page.with_suffix(".svg"): draw(rooms),
        page: with_table(text, folder_table(rooms)),
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if out of step")
    check = parser.parse_args().check
    stale = 0
    for path, text in wanted(ROOT).items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if check:
            print(f"{path.name} is out of step with the code: run docs/draw_architecture.py")
        else:
            write_text(path, text)
            print(f"drawn: {path.name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
