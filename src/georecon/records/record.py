"""Where a number comes from: code digests, run records and hashes of inputs and outputs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from georecon import __version__
from georecon.files import sha256_file, sha256_json, write_json

_ROOT = Path(__file__).parents[3]
_SCRIPTS = _ROOT / "workflow" / "scripts"
_LOCK = _ROOT / "envs" / "lock.txt"
_SOURCE = ("Snakefile", "rules", "workflow", "src", "config", "envs", "reports")

RECORD_VERSION = 2
LOG_VARIABLE = "GEORECON_LOG"
"""Environment variable with this job's log file, set by :func:`georecon.jobs.job.job`."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class GitState:
    """Which code this is.

    Attributes:
        commit: of the checkout; None where there is none.
        dirty: whether a file that can change a number (source, rules, configuration, environment,
            expected values) differs from the commit or is unknown to it.
        changed: the first ten of these files.
        reason: why no commit is known, where git says so.
    """

    commit: str | None = None
    dirty: bool | None = None
    changed: tuple[str, ...] = ()
    reason: str | None = None

    def words(self) -> str:
        """Why no commit is known."""
        return self.reason or "made without a checkout"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRecord:
    """A file as a record names it."""

    path: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: str | Path) -> FileRecord:
        """Size and hash of a file as it is now."""
        return cls(path=str(path), bytes=Path(path).stat().st_size, sha256=sha256_file(path))


def git_state(root: Path = _ROOT) -> GitState:
    """Commit of the checkout and what differs from it.

    Args:
        root: folder of the Snakefile.
    """
    top, errors = _git(root, "rev-parse", "--show-toplevel", "HEAD")
    if "dubious ownership" in errors:
        return GitState(
            reason=f"git does not trust {root}, which belongs to another user (dubious ownership): "
            f"`git config --global --add safe.directory {shlex.quote(str(root))}` allows it"
        )
    if top is None or Path(top.splitlines()[0]).resolve() != root.resolve():
        return GitState()
    status, _ = _git(root, "status", "--porcelain", "--untracked-files=normal", "--", *_SOURCE)
    changed = [line[3:] for line in (status or "").splitlines()]
    return GitState(commit=top.splitlines()[1], dirty=bool(changed), changed=tuple(changed[:10]))


def _git(root: Path, *arguments: str) -> tuple[str | None, str]:
    """What git prints, None where it fails, and its errors, in English."""
    command, english = ["git", "-C", str(root), *arguments], {**os.environ, "LC_ALL": "C"}
    try:
        result = subprocess.run(
            command, env=english, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.SubprocessError) as error:
        return None, str(error)
    return None if result.returncode else result.stdout.rstrip("\n"), result.stderr


def environment() -> dict[str, str | None]:
    """The lock file of the checkout by its hash; null where the package is installed without it."""
    return {"lock": "envs/lock.txt", "sha256": sha256_file(_LOCK) if _LOCK.is_file() else None}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on, as far as installed."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def file_records(files: Mapping[str, str | Path]) -> dict[str, FileRecord]:
    """Path, size and sha256 of named files."""
    return {name: FileRecord.of(path) for name, path in files.items()}


def compute_device() -> dict[str, str | int | None]:
    """Processor or GPU that this process computes on, and its threads.

    Once a kernel was used, also which, and the instruction set that it was compiled for (null for
    one that is not).
    """
    torch: Any = sys.modules.get("torch")
    threads = 1 if torch is None else torch.get_num_threads()
    forced = os.environ.get("GEORECON_DEVICE")
    cuda = torch is not None and forced != "cpu" and torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    name = torch.cuda.get_device_name() if cuda else _processor()
    native = sys.modules.get("georecon.kernels.native")
    kernel = {}
    if native is not None:
        sets = native.instruction_set(device)
        kernel = {"kernel": native.kernel(device), "instruction_set": sets}
    return {"device": device, "name": name, "threads": threads, **kernel}


def _processor() -> str:
    """Model of the processor, or its architecture where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _jsonable(files: Mapping[str, FileRecord]) -> Mapping[str, object]:
    return {name: asdict(file) for name, file in files.items()}


def record_digest(record: Mapping[str, Any]) -> str:
    """Digest of a record's content, its own ``sha256`` apart."""
    return sha256_json({name: value for name, value in record.items() if name != "sha256"})


class RunRecord:
    """run.json of one job: made when the job starts, written when its outputs exist.

    Written last, after the job's last log line: it holds the hash of the log as well. Its own
    ``sha256`` is the digest of all else in it (:func:`record_digest`), so that no fact can be
    edited alone.

    Args:
        stage: which station of the line this is.
        settings: resolved settings of the job, all that its numbers depend on.
        inputs: files read, by name.
    """

    def __init__(
        self, stage: str, settings: dict[str, Any], inputs: Mapping[str, str | Path]
    ) -> None:
        self.stage = stage
        self.settings = json.loads(json.dumps(settings))  # as read back: keys are text
        self.inputs = file_records(inputs)
        self.code = git_state()
        self.started = time.time()

    def write(
        self,
        path: str | Path,
        outputs: Mapping[str, str | Path],
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Hash the outputs and the log and write run.json.

        Args:
            path: where run.json goes.
            outputs: files written, by name.
            extra: further facts, such as the number of steps taken.
        """
        ended = time.time()
        log = os.environ.get(LOG_VARIABLE)
        record = {
            "format_version": RECORD_VERSION,
            "stage": self.stage,
            "settings": self.settings,
            "settings_sha256": sha256_json(self.settings),
            "seed": self.settings.get("seed"),
            "code": {"version": __version__, **asdict(self.code)},
            "environment": environment(),
            "inputs": _jsonable(self.inputs),
            "outputs": _jsonable(file_records(outputs)),
            "compute": compute_device(),
            "versions": versions(),
            "started": _iso(self.started),
            "ended": _iso(ended),
            "seconds": round(ended - self.started, 3),
            "job": {
                "slurm": os.environ.get("SLURM_JOB_ID"),
                "pid": os.getpid(),
                "log": asdict(FileRecord.of(log)) if log else None,
            },
            **(extra or {}),
        }
        write_json(path, record | {"sha256": record_digest(record)})


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
