"""No text, comment or setting names a file or a module of this repository that is not there."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.frame.repository import PACKAGE, ROOT, lines, python_names, tracked

TOP = (
    r"src|tests|docs|rules|config|workflow|envs|reports|benchmarks|slurm|sge|pbs|local"
    r"|\.ci|\.github"
)
ROOMS = "|".join(sorted({path.parent.name for path in PACKAGE.rglob("*/__init__.py")}))
# A path is whole: nothing before it that makes it part of a longer one or of a pattern, no
# placeholder after it.
START, END = r"(?<![\w/.~<>{}*$)-])", r"(?![\w*<{%])"
PATH = re.compile(rf"{START}((?:{TOP})/[\w./-]*\w){END}")
ROOM_PATH = re.compile(rf"{START}((?:{ROOMS})/[\w./-]*\.(?:py|cpp|h|js|css|j2))\b")
BARE = re.compile(rf"{START}(\w+\.(?:py|cpp|h|smk|j2)){END}")
MODULE = re.compile(r"(?<![\w./-])georecon((?:\.\w+)+)")
BASES = (ROOT, PACKAGE, PACKAGE / "reporting", PACKAGE / "data", ROOT / "tests")
# Not files of the repository, and why texts name them.
ELSEWHERE = {
    "slurm/site.yaml": "the user's, ignored by git",
    "src/georecon/objectives/noise_level.py": "the reader's of docs/add-a-method.md",
    "config/local.yaml": "the user's, ignored by git",
    "__main__.py": "Snakemake's",
    "version.py": "torch's",
    "Python.h": "of Python",
    "malloc.h": "of glibc",
    "output_modules.py": "of TorchMD-NET",
}
ENDINGS = {"yaml", "def", "sif", "pth", "zip", "params", "__file__", "__version__"}
"""What follows ``georecon.`` in names of files and configuration keys, or is in every module."""
DATA = {".json", ".txt", ".ipynb", ".svg"}


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a file; of a test its comments and docstrings, whose strings name toy files."""
    if path.suffix != ".py" or not path.is_relative_to(ROOT / "tests"):
        yield from lines(path)
        return
    with tokenize.open(path) as handle:
        alone = True
        for token in tokenize.generate_tokens(handle.readline):
            said = token.type == tokenize.COMMENT or (token.type == tokenize.STRING and alone)
            if said:
                yield from enumerate(token.string.splitlines(), token.start[0])
            if token.type not in (tokenize.COMMENT, tokenize.NL):
                alone = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


def citations(path: Path) -> Iterator[tuple[int, str]]:
    """Names of files that a file's prose gives, by line."""
    for number, line in prose(path):
        found = PATH.findall(line) + ROOM_PATH.findall(line) + BARE.findall(line)
        yield from ((number, name) for name in found if name not in ELSEWHERE)


def missing_files(path: Path, names: set[str]) -> list[str]:
    """Files that a file cites and that are not there."""
    here = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return [
        f"{here}:{number}: {name}"
        for number, name in citations(path)
        if not any((base / name).exists() for base in BASES) and name not in names
    ]


def module_exists(dotted: str) -> bool:
    """Whether a name after ``georecon`` is a module, or something that a module defines."""
    parts = dotted.strip(".").split(".")
    for count in range(len(parts), -1, -1):
        path = PACKAGE.joinpath(*parts[:count])
        files = [path.with_suffix(".py")] if count else []
        for file in filter(Path.is_file, [*files, path / "__init__.py"]):
            rest = ".".join(parts[count:])
            return not rest or rest in python_names(file.read_text(encoding="utf-8"))
    return False


def missing_modules(path: Path) -> list[str]:
    """Modules and names of the package that a file cites and that are not there."""
    return [
        f"{path.name}:{number}: georecon{dotted}"
        for number, line in prose(path)
        for dotted in MODULE.findall(line)
        if dotted.split(".")[1] not in ENDINGS and not module_exists(dotted)
    ]


def texts() -> list[Path]:
    """Files whose text may name others."""
    return [path for path in tracked() if path.suffix not in DATA and path != Path(__file__)]


def test_every_cited_file_exists() -> None:
    names = {path.name for path in tracked()}
    assert [line for path in texts() for line in missing_files(path, names)] == []


def test_every_cited_module_exists() -> None:
    assert [line for path in texts() for line in missing_modules(path)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see `docs/nowhere.md`", "docs/nowhere.md"),
        ("# as in models/twice.py", "models/twice.py"),
        ("the kernel of ``gone.cpp``", "gone.cpp"),
        ("in rules/data.smk, docs/method.md and data/store.py", None),
        ("results/laptop/tables/qm9.csv, src/georecon/objectives/<objective>.py", None),
        ('f"config/editions/{edition}.yaml"', None),
    ],
)
def test_a_missing_file_is_found(tmp_path: Path, text: str, found: str | None) -> None:
    (tmp_path / "page.md").write_text(text + "\n")
    lines = missing_files(tmp_path / "page.md", {"method.md"})
    assert [line.rpartition(": ")[2] for line in lines] == ([found] if found else [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`georecon.torchrun`", ["georecon.torchrun"]),
        (":func:`georecon.data.store.Store.open`, georecon.units", []),
        ("georecon.data.store.Shop", ["georecon.data.store.Shop"]),
        ("envs/georecon.yaml", []),
    ],
)
def test_a_missing_module_is_found(tmp_path: Path, text: str, found: list[str]) -> None:
    (tmp_path / "page.md").write_text(text + "\n")
    lines = missing_modules(tmp_path / "page.md")
    assert [line.rpartition(": ")[2] for line in lines] == found
