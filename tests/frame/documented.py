"""What the pages tell people to type or to paste: commands, and blocks of YAML and Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.frame.repository import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config" / "README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "reports").rglob("*.md"))
# their comments say how they are used
SETTINGS = [*sorted((ROOT / "config").rglob("*.yaml")), *sorted(ROOT.glob("*/profile.yaml"))]
# first words of what is a command where it stands alone in backticks
PROGRAMS = (
    "make", "snakemake", "python", "python3", "git", "pip", "conda", "apptainer", "apt-get",
    "export", "georecon", "printf", "lint-imports", "squeue", "scancel", "sbatch", "srun", "sinfo",
    "sacct",
    "generate-slurm-partition-config",
)  # fmt: skip
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_COMMENT = re.compile(r"(^|\s+)#.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page; ``language`` is "" where the page names none."""

    language: str
    text: str

    @property
    def head(self) -> str:
        """Its first line."""
        return self.text.partition("\n")[0].strip()


def blocks(text: str) -> list[Block]:
    """Fenced blocks of a page."""
    found = []
    for indent, language, body in _FENCE.findall(text):
        found.append(Block(language, re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)))
    return found


def commands(text: str) -> Iterator[str]:
    """Commands of a page, without comments: lines of ``sh`` blocks, and texts in backticks that
    begin with a program or an option.
    """
    for block in blocks(text):
        if block.language == "sh":
            for line in _COMMENT.sub("", block.text.replace("\\\n", " ")).splitlines():
                parts = (" ".join(part.split()) for part in line.split("&&"))
                yield from filter(None, parts)
    for inline in _INLINE.findall(_FENCE.sub("", text)):
        one = " ".join(inline.split())
        if is_command(one):
            yield one


def commands_of_settings(text: str) -> Iterator[str]:
    """Commands in the comments of a configuration file: a line, or what stands alone on it."""
    for line in re.findall(r"^# *(?:With n GPUs: )?(snakemake .*)$", text, re.MULTILINE):
        yield re.split(r"\s{3,}", line)[0].strip()


def is_command(text: str) -> bool:
    """Whether a text in backticks is typed rather than named."""
    first = text.partition(" ")[0]
    program = first.startswith((".venv/bin/", ".ci/")) or first in PROGRAMS
    return program or (first.startswith("--") and " " in text)


def all_commands() -> dict[str, list[str]]:
    """Each command with the pages that have it."""
    found: dict[str, list[str]] = {}
    for path in PAGES:
        for command in commands(path.read_text(encoding="utf-8")):
            found.setdefault(command, []).append(path.relative_to(ROOT).as_posix())
    for path in SETTINGS:
        for command in commands_of_settings(path.read_text(encoding="utf-8")):
            found.setdefault(command, []).append(path.relative_to(ROOT).as_posix())
    return found


def own_data() -> str:
    """The complete example of docs/own-data.md for energies and forces of one's own."""
    text = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
    (found,) = (
        b.text
        for b in blocks(text)
        if b.language == "yaml" and "mine:" in b.text and "sources:" in b.text
    )
    return found


def method_file() -> tuple[str, str]:
    """The file of docs/add-a-method.md: its path in the repository, and its text."""
    text = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    (block,) = (block for block in blocks(text) if block.language == "python")
    return block.head.removeprefix("# "), block.text.partition("\n")[2]


def method_entry() -> str:
    """The entry of docs/add-a-method.md, a configuration file."""
    text = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    (block,) = (block for block in blocks(text) if block.language == "yaml")
    return block.text


def all_blocks(language: str) -> list[tuple[Path, Block]]:
    """Blocks of one language, with their pages."""
    return [
        (path, block)
        for path in PAGES
        for block in blocks(path.read_text(encoding="utf-8"))
        if block.language == language
    ]
