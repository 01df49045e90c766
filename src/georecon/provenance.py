"""Where a number comes from: code digests, run records and hashes of inputs and outputs."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from georecon import __version__
from georecon.files import sha256_file, sha256_json, write_json

_PACKAGE = Path(__file__).parent
_SCRIPTS = _PACKAGE.parent.parent / "workflow" / "scripts"

_MODEL = (
    "graph.py",
    "noise.py",
    "models/*.py",
    "training/*.py",
    "data/store.py",
    "data/molecules.py",
)
STAGES: dict[str, tuple[str, ...]] = {
    "fetch": ("data/fetch.py",),
    "xmd17": ("data/xmd17.py", "units.py"),
    "preprocess": ("units.py", *(f"data/{name}.py" for name in (
        "archives", "checks", "elements", "extxyz", "md17", "molecules", "preprocess", "qm9",
        "qm9_raw", "sdf", "store"))),
    "split": ("data/partition.py", "data/split.py", "data/structure_key.py", "data/store.py"),
    "pretrain": (*_MODEL, "objectives/__init__.py", "pretrain.py"),
    "finetune": (*_MODEL, "finetune.py"),
    "evaluate": ("evaluate.py",),
    "smoothness": (*_MODEL, "smoothness.py"),
    "table": ("tables.py", "experiments.py", "runs.py", "units.py"),
    "figure": ("figure*.py", "render.py", "html_page.py", "units.py"),
    "summary": ("report.py", "html_page.py", "tables.py", "units.py"),
}  # fmt: skip
"""Source files that each stage's results depend on, as patterns under src/georecon."""

_RECORDED = (
    "numpy",
    "torch",
    "safetensors",
    "pandas",
    "pyarrow",
    "tblite",
    "ase",
    "rdkit",
    "snakemake",
)


@functools.cache
def code_digest(stage: str, *extra: str) -> str:
    """Digest of the source a stage depends on: the same files with other time stamps give the same.

    Args:
        stage: a key of ``STAGES``.
        extra: further patterns under src/georecon, such as the file of one objective.
    """
    digest = hashlib.sha256()
    for pattern in (*STAGES[stage], *extra):
        for path in sorted(_PACKAGE.glob(pattern)):
            digest.update(path.relative_to(_PACKAGE).as_posix().encode())
            digest.update(path.read_bytes())
    script = _SCRIPTS / f"{stage}.py"
    if script.exists():
        digest.update(script.read_bytes())
    return digest.hexdigest()[:16]


def git_state() -> dict[str, Any]:
    """Commit of the checkout and whether tracked files differ from it; nulls without git."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(_PACKAGE), *arguments]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            return None
        return result.stdout.strip()

    commit = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--untracked-files=no") if commit else None
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on, as far as installed."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def file_records(files: Mapping[str, str | Path]) -> dict[str, dict[str, Any]]:
    """Path, size and sha256 of named files."""
    return {
        name: {"path": str(path), "bytes": Path(path).stat().st_size, "sha256": sha256_file(path)}
        for name, path in files.items()
    }


def compute_device() -> dict[str, Any]:
    """Processor or GPU that this process computes on, and its number of threads."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"device": "cpu", "name": platform.machine(), "threads": 1}
    if torch.cuda.is_available():
        return {
            "device": "cuda",
            "name": torch.cuda.get_device_name(),
            "threads": torch.get_num_threads(),
        }
    return {"device": "cpu", "name": platform.machine(), "threads": torch.get_num_threads()}


class RunRecord:
    """run.json of one job: made when the job starts, written when its outputs exist.

    Args:
        stage: which station of the line this is.
        settings: resolved settings of the job, all that its numbers depend on.
        inputs: files read, by name.
    """

    def __init__(
        self, stage: str, settings: dict[str, Any], inputs: Mapping[str, str | Path]
    ) -> None:
        self.stage, self.settings = stage, settings
        self.inputs = file_records(inputs)
        self.started = time.time()

    def write(
        self,
        path: str | Path,
        outputs: Mapping[str, str | Path],
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Hash the outputs and write run.json.

        Args:
            path: where run.json goes.
            outputs: files written, by name.
            extra: further facts, such as the number of steps taken.
        """
        ended = time.time()
        record = {
            "format_version": 1,
            "stage": self.stage,
            "settings": self.settings,
            "settings_sha256": sha256_json(self.settings),
            "seed": self.settings.get("seed"),
            "code": {"version": __version__, **git_state()},
            "inputs": self.inputs,
            "outputs": file_records(outputs),
            "compute": compute_device(),
            "versions": versions(),
            "started": _iso(self.started),
            "ended": _iso(ended),
            "seconds": round(ended - self.started, 3),
            "job": {"slurm": os.environ.get("SLURM_JOB_ID"), "pid": os.getpid()},
            **(extra or {}),
        }
        write_json(path, record)


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
