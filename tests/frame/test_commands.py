"""Commands in the pages can be typed: their targets, modules and options' files exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.frame.repository import PACKAGE, ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config" / "README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
# a command alone in backticks, or at the beginning of a line of a block
COMMAND = re.compile(r"(?:`|^)((?:make|snakemake|python -m georecon)\b[^`\n#]*)", re.MULTILINE)
WORD = re.compile(r"[a-z][a-z0-9_-]*")
OPTIONS_WITH_VALUE = {"--cores", "--config", "--configfile", "--profile", "--set-resources"}
OPTIONS_WITH_VALUE |= {"--set-threads", "--resources", "--logger", "--sdm"}


def targets() -> set[str]:
    """Names that make and Snakemake take as targets."""
    rules = "".join(path.read_text("utf-8") for path in ROOT.glob("rules/*.smk"))
    rules += (ROOT / "Snakefile").read_text("utf-8")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    names = set(re.findall(r"^rule (\w+):", rules, re.MULTILINE))
    names |= set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    tables = yaml.safe_load((ROOT / "config" / "tables.yaml").read_text("utf-8"))
    return names | {f"table_{name}" for name in tables}


def wanted(command: str) -> Iterator[str]:
    """Targets that a command asks for."""
    words = command.split()
    takes_value, ended = False, False
    for word in words[1:]:
        if takes_value and not word.startswith("-") and not ended:
            takes_value = "=" in word and words[0] == "snakemake"  # more pairs of --config
            continue
        takes_value = word in OPTIONS_WITH_VALUE
        ended = ended or word == "--"
        if not word.startswith("-") and "=" not in word and WORD.fullmatch(word):
            yield word


def unknown(text: str) -> list[str]:
    """Commands of a page whose target or module does not exist."""
    known = targets()
    found = []
    for command in COMMAND.findall(text):
        if command.startswith("python"):
            module = command.split()[2].removeprefix("georecon.").replace(".", "/")
            module = "__main__" if module == "georecon" else module
            if not (PACKAGE / f"{module}.py").is_file():
                found.append(command)
        elif not set(wanted(command)) <= known:
            found.append(command)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_of_a_page_exist(page: Path) -> None:
    assert unknown(page.read_text(encoding="utf-8")) == []


def test_the_readme_has_commands_to_check() -> None:
    commands = COMMAND.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"table_qm9", "all", "rerun"} <= {name for c in commands for name in wanted(c)}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`make tabel_qm9`", True),
        ("```sh\nsnakemake --cores all --config edition=paper -- everything\n```", True),
        ("`python -m georecon.torchrun`", True),
        ("`snakemake --config edition=tiny cell=qm9/coord/homo --cores all rerun`", False),
        ("`make PYTHON=python3.12 lint`", False),
    ],
)
def test_a_command_that_cannot_be_typed_is_found(text: str, found: bool) -> None:
    assert bool(unknown(text)) is found
