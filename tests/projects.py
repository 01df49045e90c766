"""Copies of the project in temporary folders, and Snakemake in them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import yaml
from filelock import FileLock

from georecon.files import sha256_file
from georecon.jobs.launch import OPTIONS, THREADS
from tests import snakemake_server

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    "Snakefile",
    "rules",
    "workflow",
    "src",
    "config",
    "reports",
    "envs",
    "slurm",
    "local",
    "pbs",
    "sge",
)
TRIGGERS = OPTIONS[OPTIONS.index("--rerun-triggers") : OPTIONS.index("--rerun-incomplete")]
# Loaded by every Python of a process tree: whoever opens a connection is stopped.
NO_NETWORK = """
import socket

def refuse(self, address, *rest):
    raise RuntimeError(f"network is off in this test: {address}")

_connect = socket.socket.connect

def connect(self, address):
    return _connect(self, address) if self.family == socket.AF_UNIX else refuse(self, address)

socket.socket.connect = connect
socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *given, **_: refuse(None, given)
"""


@dataclass(frozen=True)
class Project:
    """A folder with a copy of the workflow."""

    folder: Path

    def environment(self) -> dict[str, str]:
        """No network, one thread a job, the copy's own source."""
        guard = self.folder / ".no-network"
        guard.mkdir(exist_ok=True)
        (guard / "sitecustomize.py").write_text(NO_NETWORK)
        paths = os.pathsep.join([str(guard), str(self.folder / "src")])
        threads = dict.fromkeys(THREADS, "1")
        return {**os.environ, **threads, "PYTHONPATH": paths, "GEORECON_DEVICE": "cpu"}

    def command(self, *arguments: str, edition: str | None = "tiny") -> list[str]:
        """Snakemake with the launcher's triggers."""
        chosen = ["--config", f"edition={edition}"] if edition else []
        base = [sys.executable, "-m", "snakemake", "--cores", "2", *TRIGGERS]
        return [*base, *chosen, "--rerun-incomplete", *arguments]

    def snakemake(
        self, *arguments: str, edition: str | None = "tiny", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; output and errors together."""
        command = self.command(*arguments, edition=edition)
        if "-n" not in arguments:
            return self._run(command, check)
        assert command[1:3] == ["-m", "snakemake"]
        result = snakemake_server.dry_run(command[3:], self.folder, self.environment())
        assert not check or result.returncode == 0, result.stdout[-3000:]
        return result

    def launch_command(self, *arguments: str, edition: str | None = "tiny") -> list[str]:
        """What ``make`` runs; faster, because not each training imports torch anew."""
        chosen = ["--config", f"edition={edition}"] if edition else []
        return [sys.executable, "-m", "georecon.launch", "--cores", "2", *chosen, *arguments]

    def launch(self, *arguments: str, edition: str | None = "tiny") -> None:
        """Run as ``make`` does, to the end."""
        self._run(self.launch_command(*arguments, edition=edition), True)

    def _run(self, command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=900,
        )
        assert not check or result.returncode == 0, result.stdout[-3000:]
        return result

    def planned(self, *arguments: str, edition: str | None = "tiny") -> list[tuple[str, str]]:
        """Jobs of a dry run: rule and wildcards; targets without work are left out."""
        text = self.snakemake("-n", *arguments, edition=edition).stdout
        return jobs_of(text)

    def copy(self, folder: Path) -> Project:
        """This project with its results, to be changed.

        Files of resources are hard links: to be replaced and never written into.
        """
        later = shutil.ignore_patterns("resources", "__pycache__", "locks")
        shutil.copytree(self.folder, folder, symlinks=True, ignore=later)
        shutil.copytree(self.folder / "resources", folder / "resources", copy_function=os.link)
        return Project(folder)

    def edit(self, path: str, change: Callable[[str], str]) -> None:
        """Change a text file."""
        file = self.folder / path
        before = file.read_text(encoding="utf-8")
        after = change(before)
        assert after != before, f"{path}: nothing changed"
        file.write_text(after, encoding="utf-8")

    def configure(self, path: str, *keys: str, value: object) -> None:
        """Set one value of a YAML file."""

        def change(text: str) -> str:
            document = yaml.safe_load(text)
            place = document
            for key in keys[:-1]:
                place = place.setdefault(key, {})
            place[keys[-1]] = value
            return yaml.safe_dump(document, allow_unicode=True, sort_keys=False)

        self.edit(path, change)


def commit(folder: Path) -> None:
    """Make the folder a repository with everything committed, so that its code has a commit."""
    git = [
        "git",
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@test",
        "-c",
        "commit.gpgsign=false",
        "-C",
        str(folder),
    ]
    (folder / ".gitignore").write_text("resources\nresults\nlogs\n.snakemake\n__pycache__\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "Copy"]):
        subprocess.run([*git, *words], check=True)


COLLECTING = {"all", "tables", "figures", "report"}


def jobs_of(text: str) -> list[tuple[str, str]]:
    """Rules and wildcards of a dry run's listing."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if match := re.match(r"(?:local)?(?:rule|checkpoint) (\w+):$", line):
            found.append((match[1], ""))
        elif found and (match := re.match(r"    wildcards: (.*)$", line)):
            found[-1] = (found[-1][0], match[1])
    # `table_<name>` and the like only collect
    return [job for job in found if job[0] not in COLLECTING and not job[0].startswith("table_")]


def make_project(folder: Path) -> Project:
    """A fresh copy of the workflow without any data, committed."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / part, ignore=ignored)
        elif source.exists():
            shutil.copy2(source, folder / part)
    commit(folder)
    return Project(folder)


_KEPT_SECONDS = 86_400


def finished_project(place: Path) -> Project:
    """The tiny edition's tables, as an earlier run of the suite made them of the same files.

    Made anew where a source, Python, a package or a file of the results has changed since.

    Args:
        place: folder to keep it in.
    """
    sources = [file for part in PARTS if (ROOT / part).exists() for file in _files(ROOT / part)]
    versions = sorted(f"{found.name} {found.version}" for found in metadata.distributions())
    of = _digest(sources, [sys.version, str(place), *versions])
    here = place / of[:16]  # another suite may be using what was made of other sources
    project, seal = Project(here / "project"), here / "seal"
    here.mkdir(parents=True, exist_ok=True)
    with FileLock(place / "lock"):
        for old in place.glob(f"*/{seal.name}"):
            if old != seal and time.time() - old.stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(old.parent)
        if not seal.exists() or seal.read_text() != _seal(of, project):
            seal.unlink(missing_ok=True)
            shutil.rmtree(project.folder, ignore_errors=True)
            make_project(project.folder)
            project.launch("--", "tables")
            seal.write_text(_seal(of, project))
    return project


def _seal(of: str, project: Project) -> str:
    """What it was made of and what it holds."""
    held = [file for part in ("results", "resources") for file in _files(project.folder / part)]
    return _digest(held, [of])


def _files(path: Path) -> list[Path]:
    """Files of a folder, or the file itself, without those that Python compiled."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file for file in found if file.is_file() and "__pycache__" not in file.parts]


def _digest(files: list[Path], words: list[str]) -> str:
    """Of names, contents and words."""
    total = hashlib.sha256("\n".join(words).encode())
    for file in files:
        total.update(f"\n{file.relative_to(ROOT)} ".encode())
        total.update(sha256_file(file).encode())
    return total.hexdigest()
