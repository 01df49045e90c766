"""GPUs of a workstation, each for one job at a time.

Under Slurm every job sees its own GPUs. Elsewhere Snakemake counts the resource ``gpu`` but tells
no job which one to take; here each job locks as many as it asks for, by a file for each GPU of
this machine, and shows CUDA only these. A job that finds none free waits. The lock ends with the
process that holds it, however that ends.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from georecon.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_PAUSE = 1.0  # between two looks for a free GPU [s]


def visible_gpus() -> list[str]:
    """Identifiers of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    given = os.environ.get(VISIBLE)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    try:
        command = ["nvidia-smi", "--list-gpus"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"\(UUID: (GPU-[^)]+)\)", done.stdout)


@contextmanager
def own_gpus(count: int, say: Callable[[str], None]) -> Iterator[list[str]]:
    """Hold GPUs that no other job of this user on this machine holds; yields their identifiers.

    Does nothing for a job without GPUs, under Slurm, and on a machine without GPUs.

    Args:
        count: GPUs of the job.
        say: takes a line if the job has to wait.

    Raises:
        ConfigError: fewer GPUs than that are visible.
    """
    names = visible_gpus() if count and "SLURM_JOB_ID" not in os.environ else []
    if not names:
        yield []
        return
    if count > len(names):
        raise ConfigError(f"gpu is {count}; this machine shows {len(names)}: {', '.join(names)}")
    folder = Path(tempfile.gettempdir()) / f"georecon-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    held = _wait_for(folder, names, count, say)
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ",".join(held)
    try:
        yield list(held)
    finally:
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before
        for lock in held.values():
            lock.release()


def _wait_for(
    folder: Path, names: list[str], count: int, say: Callable[[str], None]
) -> dict[str, FileLock]:
    """Locks of ``count`` GPUs: all or none, so that two jobs never wait for each other."""
    waiting = False
    while True:
        held: dict[str, FileLock] = {}
        for name in names:
            lock = FileLock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            held[name] = lock
            if len(held) == count:
                return held
        for lock in held.values():
            lock.release()
        if not waiting:
            say(f"waits for {count} of {len(names)} GPUs")
            waiting = True
        time.sleep(_PAUSE)
