"""Homes that are not there, users without a name, closed streams, odd locales."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from georecon.jobs import surroundings
from georecon.jobs.surroundings import HOME, settle
from tests.projects import ROOT

VARIABLES = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "PYTHONUTF8", "GIT_CONFIG_GLOBAL")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is as before after the test
        monkeypatch.delenv(name)
    return []


def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(surroundings.pwd, "getpwuid", unknown)


@pytest.mark.parametrize("kind", ["missing", "a file", "empty", "relative and missing"])
def test_a_home_that_cannot_be_written_is_replaced(
    kind: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    homes = {
        "missing": tmp_path / "x",
        "a file": tmp_path / "file",
        "empty": "",
        "relative and missing": "x",
    }
    monkeypatch.setenv("HOME", str(homes[kind]))
    settle(tmp_path, said.append)
    assert os.environ["HOME"] == str(tmp_path / HOME)
    assert Path(os.environ["HOME"]).is_dir()
    assert len(said) == 1
    assert HOME in said[0]


def test_without_home_the_list_of_users_is_asked(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = pwd.struct_passwd(("me", "x", 1, 1, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(surroundings.pwd, "getpwuid", lambda uid: entry)
    settle(tmp_path / "work", said.append)
    assert os.environ["HOME"] == str(tmp_path)
    assert said == []
    assert "LOGNAME" not in os.environ


def test_a_user_without_an_entry_gets_a_name_and_a_home(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import getpass

    nobody(monkeypatch)
    settle(tmp_path, said.append)
    assert said == [f"georecon: there is no home folder; caches go to {HOME}"]
    assert getpass.getuser() == f"uid{os.getuid()}"
    assert Path.home() == tmp_path / HOME


def test_a_sound_home_is_left_alone(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settle(tmp_path, said.append)
    assert (os.environ["HOME"], said) == (str(tmp_path), [])
    assert list(tmp_path.iterdir()) == []


def test_git_goes_on_reading_the_old_homes_configuration(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text("[safe]\n  directory = *\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(surroundings, "_is_writable", lambda folder: False)
    settle(tmp_path, said.append)
    assert os.environ["GIT_CONFIG_GLOBAL"] == str(tmp_path / "home/.gitconfig")


CLOSED = """
import os, subprocess, sys
from georecon.jobs.surroundings import open_streams
open_streams()
with open("file", "w") as handle:
    assert handle.fileno() > 2, handle.fileno()
    print("out")
    print("err", file=sys.stderr)
    os.write(1, b"out"), os.write(2, b"err")
    handle.write("mine")
child = "import os; assert os.open(os.devnull, 0) > 2"
subprocess.run([sys.executable, "-c", child], check=True)
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_file_of_ours(closed: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -c '{CLOSED}' {closed}"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "mine"
