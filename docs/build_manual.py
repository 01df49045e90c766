"""The manual as a site: the pages of the repository, put together by Sphinx, in build/manual.

``python docs/build_manual.py [--output FOLDER]``, or ``make manual``, which installs what it needs
(envs/manual.txt). Warnings are errors, nothing is loaded from a network, and the pages can be read
from disk. Pages that lie elsewhere in the repository come along under a name of their own; a link
that leads to a file of no page becomes the file's name.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "config/README.md": "configuration.md",
    "reports/published/README.md": "published.md",
}
"""Pages beside those of docs/, and what they are called in the manual."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
LANGUAGES = {"snakemake": "text"}  # which Pygments does not know


def pages() -> dict[str, str]:
    """Pages of the manual: path in the repository → name in the manual."""
    own = sorted((ROOT / "docs").glob("*.md"))
    return {path.relative_to(ROOT).as_posix(): path.name for path in own} | ELSEWHERE


def editions() -> list[str]:
    """Editions whose results have a page here (docs/publish_run.py)."""
    names = sorted(path.stem for path in (ROOT / "config/editions").glob("*.yaml"))
    return [name for name in names if (ROOT / f"docs/{name}.md").is_file()]


def editions_page() -> str:
    """The list of those pages."""
    found = editions()
    said = "Results that were published from a finished edition." if found else "None so far."
    names = "".join(f"   {name}\n" for name in found)
    tree = f"\n.. toctree::\n   :maxdepth: 1\n\n{names}" if found else ""
    return f"Published editions\n==================\n\n{said}\n{tree}"


def staged(text: str, place: str, known: dict[str, str]) -> str:
    """A page as the manual has it.

    Args:
        text: of the page.
        place: its path in the repository.
        known: all pages, see :func:`pages`.
    """

    def link(match: re.Match[str]) -> str:
        picture, words, address = match.groups()
        path, mark, anchor = address.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        name = os.path.normpath(PurePosixPath(place).parent / path)
        if not (ROOT / name).exists():
            raise SystemExit(f"{place}: links to {address}, which is not there")
        if picture:
            return f"![{words}]({name.removeprefix('docs/')})"
        return f"[{words}]({known[name]}{mark}{anchor})" if name in known else words

    for name, other in LANGUAGES.items():
        text = text.replace(f"```{name}\n", f"```{other}\n")
    parts = CODE.split(text)  # links stand in every other one
    return "".join(part if k % 2 else LINK.sub(link, part) for k, part in enumerate(parts))


def stage(folder: Path) -> None:
    """Lay the manual's sources down in a folder."""
    shutil.copytree(ROOT / "docs/manual", folder, dirs_exist_ok=True)
    known = pages()
    for place, name in known.items():
        text = (ROOT / place).read_text(encoding="utf-8")
        (folder / name).write_text(staged(text, place, known), encoding="utf-8")
    (folder / "editions.rst").write_text(editions_page(), encoding="utf-8")
    for name in ["images", *filter(lambda one: (ROOT / "docs" / one).is_dir(), editions())]:
        figures = shutil.ignore_patterns("*.md")  # tables are on the edition's page
        shutil.copytree(ROOT / "docs" / name, folder / name, ignore=figures)
    shutil.copy(ROOT / "docs/architecture.svg", folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit code of Sphinx."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "build/manual")
    options = parser.parse_args(arguments)
    try:
        from sphinx.cmd.build import build_main
    except ImportError:
        print("Sphinx is not installed; `make manual` installs it", file=sys.stderr)
        return 1
    sys.path.insert(0, str(ROOT / "src"))  # autodoc imports the package
    shutil.rmtree(options.output, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        stage(Path(folder, "pages"))
        flags = ["-q", "-W", "--keep-going", "-d", f"{folder}/doctrees"]
        code: int = build_main([*flags, f"{folder}/pages", str(options.output)])
    if code == 0:
        print(f"{options.output / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
