"""Which code made a number, or why that is not known."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from georecon.jobs.doctor import NOTE, _code
from georecon.records.record import git_state
from tests.projects import ROOT, commit


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "it's a checkout"
    (folder / "src").mkdir(parents=True)
    (folder / "src/a.py").write_text("a = 1\n")
    commit(folder)
    return folder


def test_a_checkout_is_known_by_its_commit(checkout: Path) -> None:
    state = git_state(checkout)
    assert state.commit is not None
    assert (len(state.commit), state.dirty, state.changed, state.reason) == (40, False, (), None)
    (checkout / "src/b.py").touch()
    state = git_state(checkout)
    assert (state.dirty, state.changed) == (True, ("src/b.py",))
    (note,) = _code(checkout)
    assert note.text == "records will say that code is not committed: src/b.py"


@pytest.mark.parametrize("locale", ["C", "de_DE.UTF-8", "nowhere"])
def test_dubious_ownership_is_said_with_what_helps(
    locale: str, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own, for its tests
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LC_ALL", locale)
    state = git_state(checkout)
    assert (state.commit, state.dirty) == (None, None)
    assert state.reason is not None
    assert "belongs to another user (dubious ownership)" in state.reason
    (note,) = _code(checkout)
    assert (note.verdict, state.reason in note.text) == (NOTE, True)
    advice = state.reason.split("`")[1]
    subprocess.run(["/bin/sh", "-c", advice], check=True)
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    assert git_state(checkout).commit is not None


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder to another user: root only")
def test_a_folder_of_another_user(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (checkout, checkout / ".git"):
        os.chown(path, 12345, 12345)
    reason = git_state(checkout).reason
    assert reason is not None
    subprocess.run(["/bin/sh", "-c", reason.split("`")[1]], check=True)
    assert git_state(checkout).commit is not None


def test_no_checkout_and_no_git_have_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git_state(tmp_path).words() == "made without a checkout"
    assert git_state(ROOT / "src").commit is None, "a folder of a checkout is none"
    monkeypatch.setenv("PATH", "")
    assert git_state(ROOT).commit is None
