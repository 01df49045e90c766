"""A training where programs miss what they take for granted; the same weights as anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from georecon.files import sha256_file
from tests.projects import Project, make_project

pytestmark = [pytest.mark.workflow, pytest.mark.long, pytest.mark.timeout(600)]

ENCODER = "results/tiny/pretrain/coord/seed1/encoder.safetensors"
STRANGER = 12345
NAMES = (
    "HOME",
    "LOGNAME",
    "USER",
    "LNAME",
    "USERNAME",
    "XDG_CACHE_HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in a folder with other letters than ASCII's, and its weights."""
    project = make_project(tmp_path_factory.mktemp("odd") / "größe-数据")
    project.launch("--", ENCODER)
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """The same before its training."""
    again = made.copy(tmp_path / "größe-数据")
    for name in ("results", "logs", ".snakemake"):
        shutil.rmtree(again.folder / name, ignore_errors=True)
    return again


def train(project: Project, redirect: str = "", *before: str, **variables: str | None) -> str:
    """What the launcher says of the training, started by a shell."""
    given = {k: v for k, v in project.environment().items() if k not in NAMES}
    given |= {"HOME": os.environ.get("HOME", "/"), **variables}
    words = " ".join([*before, *project.launch_command("--", ENCODER)])
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {words} {redirect}"],
        cwd=project.folder,
        env={name: value for name, value in given.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    said = done.stdout.decode("utf-8", errors="replace")
    assert "Traceback" not in said, said
    assert done.returncode == 0, said
    return said


def same(project: Project, made: Project) -> bool:
    return sha256_file(project.folder / ENCODER) == sha256_file(made.folder / ENCODER)


@pytest.mark.parametrize(
    "variables",
    [
        {"HOME": None},
        {"HOME": "/nowhere/at/all", "TMPDIR": "/nowhere"},
        {"LC_ALL": "C"},
        {"LC_ALL": "xx_YY.ISO-8859-1", "LANG": "xx_YY"},
    ],
    ids=lambda variables: " ".join(f"{k}={v}" for k, v in variables.items()),
)
def test_it_trains_the_same_weights(
    variables: dict[str, str | None], project: Project, made: Project
) -> None:
    said = train(project, **variables)
    assert same(project, made)
    assert "no compiled kernels" not in said
    home = variables.get("HOME", "")
    assert ("caches go to .snakemake/home" in said) == bool(home)
    assert not Path("/nowhere").exists()


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_reason_to_fail(closed: str, project: Project, made: Project) -> None:
    train(project, closed)
    assert same(project, made)
    for path in project.folder.rglob("*.json"):
        assert "jobs (" not in path.read_text(encoding="utf-8"), f"the header is in {path}"


@pytest.fixture
def outside(project: Project) -> Iterator[Project]:
    """The project where another user can reach it, and his."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        copy = Path(name) / "project"
        ignored = shutil.ignore_patterns("raw", ".git", "home")
        shutil.copytree(project.folder, copy, ignore=ignored)
        for path in (copy, *copy.rglob("*")):
            os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
        yield Project(copy)


BECOME = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups")
STARTS = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("setpriv"), reason="becomes another user")
def test_a_user_without_a_name_or_a_home_trains(outside: Project, made: Project) -> None:
    if subprocess.run([*BECOME, sys.executable, "-c", STARTS], check=False).returncode:
        pytest.skip("this Python lies where no other user may run it")
    given = outside.environment()  # writes a file as this user
    os.chown(outside.folder / ".no-network", STRANGER, STRANGER)
    assert given["PYTHONPATH"]
    said = train(outside, "", *BECOME, HOME=None)
    assert same(outside, made)
    assert "there is no home folder; caches go to .snakemake/home" in said
