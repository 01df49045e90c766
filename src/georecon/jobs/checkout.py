"""Folder of the workflow where Snakemake reads the Snakefile out of a git repository.

As a remote module (``github(...)``, ``gitlab(...)``, ``gitfile(...)``, ``git+file:...``) the
Snakefile is no file on this disk, and neither are the package, configuration and notebooks beside
it. They are then cloned, at the very commit, into ``.snakemake/georecon/<commit>`` of the working
folder, once. ``workflow/Snakefile`` runs this file before the package can be imported, so it needs
the standard library only.

Of Snakemake's source objects, which are not public, it asks ``ref``, ``path`` and, for its own bare
clone of a hosted repository, ``hosted_repo.repo.git_dir``, for a local one ``repo_path``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

CLONES = ".snakemake/georecon"


def local_folder(source: Any) -> Path:
    """Folder of a Snakefile on this disk.

    Args:
        source: ``workflow.current_basedir``, the folder as Snakemake knows it.

    Raises:
        SystemExit: the Snakefile is neither a file nor in a git repository, or git fails; says so
            in one sentence.
    """
    if isinstance(source, os.PathLike):
        return Path(source)
    if hasattr(source, "repo_path"):
        repository = source.repo_path
    elif hasattr(type(source), "hosted_repo"):
        repository = source.hosted_repo.repo.git_dir
    else:
        raise SystemExit(
            f"georecon: cannot run from {source}: it needs all of its files; use github(...), "
            "gitlab(...) or gitfile(...) with a tag or commit, or a clone"
        )
    commit = _git(repository, "rev-parse", "--verify", f"{source.ref}^{{commit}}")
    folder = Path(CLONES).absolute() / commit[:16]
    if not folder.is_dir():
        _clone(str(repository), commit, folder)
    return folder / source.path


def _clone(repository: str, commit: str, folder: Path) -> None:
    """Clone under a temporary name, then rename: jobs may do so at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".clone-"))
    try:
        _git(folder.parent, "clone", "--quiet", "--no-checkout", repository, str(scratch / "new"))
        _git(scratch / "new", "checkout", "--quiet", "--detach", commit)
        try:
            os.rename(scratch / "new", folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _git(folder: str | Path, *arguments: str) -> str:
    command = ["git", "-C", os.path.abspath(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SystemExit(
            f"georecon: git is needed to use this workflow as a module: {error}"
        ) from None
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[0]
        raise SystemExit(f"georecon: git {arguments[0]} failed in {folder}: {reason}")
    return done.stdout.strip()
