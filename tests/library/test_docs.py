"""Every example of docs/library.md, and that of the README, runs as it stands."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
import subprocess
import sys
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


COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S)
    for line in block.splitlines()
    if re.match("python -m georecon (card|export|tensorboard) ", line)
]


def test_there_are_commands_of_each_kind() -> None:
    assert [line.split()[3] for line in COMMANDS] == ["card", "export", "export", "tensorboard"]


@pytest.mark.workflow
@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_runs(line: str, working: Project) -> None:
    """On results of the tiny edition."""
    if " tensorboard " in line and importlib.util.find_spec("tensorboard") is None:
        pytest.skip("needs the package tensorboard (extra `curves`)")
    words = shlex.split(line.replace("laptop", "tiny"))
    output = working.folder / words[words.index("-o") + 1]
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=working.folder, env=working.environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert output.exists()


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
