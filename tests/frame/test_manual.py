"""The manual: every page is in it, links lead somewhere, its words are one each, and it builds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frame.repository import ROOT, load_script

manual = load_script(ROOT / "docs/build_manual.py")
INDEX = (ROOT / "docs/manual/index.rst").read_text(encoding="utf-8")
LISTED = re.findall(r"^   ([\w-]+)$", INDEX, re.MULTILINE)
OLD_WORDS = re.compile(r"code digest|digests? of (the )?code|code commit|\bother code(?!\")", re.I)
"""Code is a molecule's vector, the program's text is the source: docs/glossary.md."""


def test_every_page_is_in_the_manual_once() -> None:
    names = [name.removesuffix(".md") for name in manual.pages().values()]
    assert sorted([*LISTED, *manual.editions()]) == sorted([*names, "api", "editions"])


def test_published_editions_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manual, "editions", lambda: ["evidence", "laptop"])
    assert manual.editions_page().endswith("\n   evidence\n   laptop\n")
    monkeypatch.setattr(manual, "editions", list)
    assert "None so far" in manual.editions_page()


@pytest.mark.parametrize("place", manual.pages())
def test_links_of_a_page_lead_to_pages(place: str) -> None:
    text = (ROOT / place).read_text(encoding="utf-8")
    found = manual.staged(text, place, manual.pages())
    for _, _, address in manual.LINK.findall(manual.CODE.sub("", found)):
        path = address.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path):
            assert path in manual.pages().values() or path.endswith((".png", ".svg")), address


KNOWN = {"docs/a.md": "a.md", "docs/audit.md": "audit.md", "README.md": "readme.md"}


@pytest.mark.parametrize(
    ("place", "text", "right"),
    [
        ("README.md", "see [it](docs/audit.md#verdicts)", "see [it](audit.md#verdicts)"),
        ("docs/a.md", "[it](audit.md), [top](../README.md)", "[it](audit.md), [top](readme.md)"),
        ("README.md", "under [MIT](LICENSE)", "under MIT"),
        ("docs/a.md", "![e](images/errors_by_method.png)", "![e](images/errors_by_method.png)"),
        ("README.md", "![e](docs/architecture.svg)", "![e](architecture.svg)"),
        ("docs/a.md", "[x](https://example.org/y)", "[x](https://example.org/y)"),
        ("docs/a.md", "[x](#here)", "[x](#here)"),
        ("docs/a.md", "`[x](nowhere.md)`", "`[x](nowhere.md)`"),
        ("docs/a.md", "```snakemake\n[x](nowhere.md)\n```\n", "```text\n[x](nowhere.md)\n```\n"),
    ],
)  # fmt: skip
def test_links_are_those_of_the_manual(place: str, text: str, right: str) -> None:
    assert manual.staged(text, place, KNOWN) == right


def test_a_link_to_nowhere_stops_the_build() -> None:
    with pytest.raises(SystemExit, match=r"docs/a\.md: links to gone\.md, which is not there"):
        manual.staged("[x](gone.md)", "docs/a.md", KNOWN)


@pytest.mark.parametrize("place", [p for p in manual.pages() if p != "CHANGELOG.md"])
def test_code_is_a_vector_and_the_program_is_source(place: str) -> None:
    text = (ROOT / place).read_text(encoding="utf-8")
    found = [line for line in text.splitlines() if OLD_WORDS.search(line)]
    quoted = ("commit of other code", "records: other code", "loss, other code")
    assert [line for line in found if not any(words in line for words in quoted)] == []
    assert OLD_WORDS.search("Its code digest follows")


def built(output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "docs/build_manual.py", "--output", output]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.long
def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="needs Sphinx; `make manual` installs it")
    done = built(tmp_path / "site")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in LISTED:
        page = (tmp_path / "site" / f"{name}.html").read_text(encoding="utf-8")
        assert "georecon" in page
        assert not re.search(r"<(script|link|img)[^>]*(src|href)=\"https?:", page), "of a network"
    assert "StoreDataset" in (tmp_path / "site/api.html").read_text(encoding="utf-8")


def test_without_sphinx_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "sphinx.py").write_text("raise ImportError('not here')\n")
    done = subprocess.run(
        [sys.executable, ROOT / "docs/build_manual.py", "--output", tmp_path / "site"],
        env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "Sphinx is not installed; `make manual` installs it\n"
