"""GPUs of a workstation, each for one job at a time, or for as many as ``GEORECON_GPU_SHARE`` says.

Under Slurm every job sees its own GPUs. Elsewhere Snakemake counts the resource ``gpu`` but tells
no job which one to take; here each job locks as many as it asks for, by a file for each share of
each GPU of this machine, and shows CUDA only these. A job that finds none free waits. The lock ends
with the process that holds it, however that ends.

A training of small systems is bound by the host, and leaves most of a card to others: eight on one
take little longer than one (docs/performance.md). A job takes the GPUs that fewest others hold; all
jobs of a machine need the same value.

A job that asks for GPUs never computes on the CPU unless ``GEORECON_DEVICE=cpu`` allows it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from georecon.errors import ConfigError

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICE = "GEORECON_DEVICE"
SHARE = "GEORECON_GPU_SHARE"
ALLOWED = f"{DEVICE}=cpu allows the CPU"
_PAUSE = 1.0  # between two looks for a free GPU [s]


def visible_gpus() -> list[str]:
    """Identifiers of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    given = os.environ.get(VISIBLE)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    return _listed()


def _listed() -> list[str]:
    """UUIDs of the GPUs that the driver shows; none where it is not there."""
    try:
        command = ["nvidia-smi", "--list-gpus"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"\(UUID: (GPU-[^)]+)\)", done.stdout)


def forced_device() -> str | None:
    """Value of ``GEORECON_DEVICE``.

    Raises:
        ConfigError: it is neither cpu nor cuda.
    """
    forced = os.environ.get(DEVICE)
    if forced not in (None, "cpu", "cuda"):
        raise ConfigError(f"{DEVICE} is {forced!r}; allowed: cpu, cuda")
    return forced


def gpu_share() -> int | None:
    """Value of ``GEORECON_GPU_SHARE``: jobs that may use a GPU at the same time; None if not set.

    Raises:
        ConfigError: it is no positive integer.
    """
    given = os.environ.get(SHARE)
    if given is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,2}", given):
        raise ConfigError(f"{SHARE} is {given!r}; must be an integer from 1 to 999")
    return int(given)


def torch_without_gpus() -> str | None:
    """Version of a torch in this environment that can use no GPU; None of one that can.

    Read from the package's own description: importing it takes seconds.
    """
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return "(none)"
    build = runpy.run_path(str(Path(found.submodule_search_locations[0], "version.py")))
    return None if build.get("cuda") or build.get("hip") else str(build["__version__"])


def why_no_gpus(count: int) -> str | None:
    """Why trainings that ask for GPUs would be refused in this environment, as far as one can tell
    without a GPU; None where they ask for none, or ``GEORECON_DEVICE=cpu`` allows the CPU.

    Args:
        count: GPUs of a training.
    """
    version = torch_without_gpus() if count and forced_device() != "cpu" else None
    if version is None:
        return None
    return (
        f"a training asks for {count} GPU(s), and torch {version} of this environment uses none: "
        f"`make setup TORCH=cuda` installs one that can; {ALLOWED}"
    )


def refuse_start(count: int) -> None:
    """Stop before jobs are submitted that would all be refused.

    Raises:
        SystemExit: with the reason.
    """
    if (problem := why_no_gpus(count)) is not None:
        raise SystemExit(f"georecon: {problem}")


def check_gpus(count: int) -> None:
    """Refuse to compute on the CPU what asks for GPUs.

    Args:
        count: GPUs that this process's job has on this machine.

    Raises:
        ConfigError: torch finds fewer, and ``GEORECON_DEVICE`` does not allow the CPU.
    """
    import torch

    forced = forced_device()
    wanted = count or int(forced == "cuda")
    if forced == "cpu" or not wanted:
        return
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found >= wanted:
        return
    if (problem := why_no_gpus(wanted)) is not None:
        raise ConfigError(problem)
    shown = os.environ.get(VISIBLE)
    where = f"{socket.gethostname()} ({VISIBLE} {'not set' if shown is None else repr(shown)})"
    raise ConfigError(f"the job asks for {wanted} GPU(s); CUDA finds {found} on {where}; {ALLOWED}")


@contextmanager
def own_gpus(count: int, say: Callable[[str], None]) -> Iterator[list[str]]:
    """Hold GPUs, or shares of them, that no other job of this user on this machine holds.

    Yields their identifiers. Does nothing for a job without GPUs, under Slurm (unless
    ``GEORECON_GPU_SHARE`` is set, for many jobs inside one of Slurm's), and without GPUs.

    Args:
        count: GPUs of the job.
        say: takes a line if the job has to wait.

    Raises:
        ConfigError: fewer GPUs than that are visible.
    """
    share = gpu_share()
    ours = share is not None or "SLURM_JOB_ID" not in os.environ
    names = visible_gpus() if count and ours else []
    if not names:
        yield []
        return
    if count > len(names):
        raise ConfigError(f"gpu is {count}; this machine shows {len(names)}: {', '.join(names)}")
    folder = Path(tempfile.gettempdir()) / f"georecon-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    held = _wait_for(folder, _cards(names), count, share or 1, say)
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


def _cards(names: list[str]) -> dict[str, str]:
    """What locks are named after, by GPU: its UUID where that can be known.

    Every allocation of a cluster may call its first card 0.
    """
    known = _listed() if any(name.isdigit() for name in names) else []  # others are UUIDs
    return {
        name: known[int(name)] if name.isdigit() and int(name) < len(known) else name
        for name in names
    }


def _wait_for(
    folder: Path, cards: dict[str, str], count: int, share: int, say: Callable[[str], None]
) -> dict[str, FileLock]:
    """Locks of ``count`` GPUs: all or none, so that two jobs never wait for each other."""
    waiting = False
    while True:
        with FileLock(folder / "choice"):  # one chooses at a time
            held = _choose(folder, cards, count, share)
        if held:
            return held
        if not waiting:
            say(f"waits for {count} of {len(cards)} GPUs")
            waiting = True
        time.sleep(_PAUSE)


def _choose(folder: Path, cards: dict[str, str], count: int, share: int) -> dict[str, FileLock]:
    """A share of each of the ``count`` GPUs of which most are free; empty if fewer have any."""
    free: dict[str, list[FileLock]] = {}
    for name, card in cards.items():
        file = re.sub(r"[^A-Za-z0-9-]", "_", card)
        locks = [FileLock(folder / f"{file}.{place}.lock") for place in range(share)]
        free[name] = [lock for lock in locks if _taken(lock)]
    best = sorted((name for name in free if free[name]), key=lambda name: -len(free[name]))
    chosen = best[:count] if len(best) >= count else []
    held = {name: free[name].pop(0) for name in chosen}
    for locks in free.values():
        for lock in locks:
            lock.release()
    return held


def _taken(lock: FileLock) -> bool:
    """Whether this process could take it, and has."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
