"""Every example of docs/library.md, and that of the README, runs as it stands."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path

import pytest

from tests.projects import ROOT, Project

PAGES = ("docs/library.md", "README.md")
TEXT = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def test_there_are_examples_of_each_kind() -> None:
    assert len(EXAMPLES) == 5
    assert all(len(text.splitlines()) <= 14 for text in EXAMPLES)


@pytest.mark.workflow
@pytest.mark.parametrize("place", range(len(EXAMPLES)))
def test_an_example_runs(
    place: int, finished: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(finished.folder)
    text = EXAMPLES[place].replace("results/laptop/", "results/tiny/")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(text, f"example {place}", "exec"), {})
    assert said.getvalue().strip()
