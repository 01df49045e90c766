"""What the workflow knows about a Slurm site: its partition file, and jobs that a run left behind.

``slurm/site.yaml`` (ignored by git) is the partition file of Snakemake's Slurm plugin. It is found
without an option: the plugin then picks a partition for every job, and no job asks for more time
than the longest partition has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from georecon.commands import option_values, same_command, unlock_command
from georecon.jobs.snakemake_private import Partition, read_partitions

SITE = "slurm/site.yaml"
VARIABLE = "SNAKEMAKE_SLURM_PARTITIONS"
ASKED = "GEORECON_SLURM"
"""Environment variable that tells a job that Snakemake was called for Slurm."""
PREFIX = "georecon_"
"""Job names begin with it: ``slurm-jobname-prefix`` of slurm/profile.yaml, and the plugin's "_"."""
REFUSED = "georecon: nothing was submitted beside those jobs"
ENDING = "COMPLETING"
"""State of a job that is cancelled or done and about to leave the queue."""
_ENDING_SECONDS = 90.0
"""Time that such jobs are given."""


class Limits(NamedTuple):
    """Longest run time of the partitions [minutes]; None: without a limit."""

    cpu: float | None = None
    gpu: float | None = None


def use_site_file(root: Path) -> Limits:
    """Name the site's partition file to the plugin, if there is one.

    Args:
        root: folder of the Snakefile.

    Raises:
        ConfigError: the file is not a partition file.
    """
    if "slurm" in option_values(sys.argv, "--profile", "--executor", "-e"):
        os.environ[ASKED] = "1"
    given = os.environ.get(VARIABLE)
    path = Path(given) if given else root / SITE
    if not path.is_file():  # the plugin itself refuses a variable that names no file
        return Limits()
    os.environ[VARIABLE] = str(path)
    partitions = read_partitions(path)
    if partitions is None:
        return Limits()
    return Limits(_longest(partitions), _longest([p for p in partitions if p.gpus]))


def _longest(partitions: list[Partition]) -> float | None:
    longest = max((partition.minutes for partition in partitions), default=float("inf"))
    return None if longest == float("inf") else longest


class Job(NamedTuple):
    """A queued or running job."""

    id: str
    state: str
    comment: str


def left_over(folder: Path) -> list[Job]:
    """This user's queued or running jobs that a Snakemake started in this folder.

    None where there is no Slurm or it does not answer within ten seconds.
    """
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "--me", "--noheader", "--format=%i|%T|%k|%j|%Z"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return [
        Job(*row[:3])
        for row in rows
        if len(row) == 5 and row[3].startswith(PREFIX) and Path(row[4]).resolve() == folder
    ]


def recipe(jobs: list[Job], arguments: list[str]) -> str:
    """What to do after the Snakemake that watched these jobs was killed, in three lines."""
    shown = ", ".join(f"{job.id} ({job.comment}, {job.state})" for job in jobs[:5])
    more = f" and {len(jobs) - 5} more" if len(jobs) > 5 else ""
    return (
        f"georecon: jobs of an earlier run are still in this folder's queue: {shown}{more}.\n"
        "If its Snakemake is alive, in another terminal or on another login node, leave it alone.\n"
        "If it was killed, cancel its jobs (trainings save their state and go on from it):\n"
        f"  scancel {' '.join(job.id for job in jobs)}\n"
        f"  {unlock_command()}\n"
        f"  {same_command(arguments)}"
    )


def _watched(folder: Path) -> bool:
    """Whether another Snakemake works in this folder on this machine, a job's own aside."""
    import psutil  # type: ignore[import-untyped]

    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        program = {Path(word).name for word in (process.info["cmdline"] or ())[:4]}
        here = process.info["cwd"] == str(folder) and process.info["pid"] != os.getpid()
        if here and "snakemake" in program:
            with suppress(psutil.Error):
                if "SLURM_JOB_ID" not in process.environ():
                    return True
    return False


def explain_jobs(folder: Path) -> bool:
    """Print the recipe where a killed run's jobs go on without a Snakemake that watches them.

    Such a run has left its lock too, at which this one is about to stop.

    Returns:
        Whether it was printed.
    """
    if "--unlock" in sys.argv:
        return False
    jobs = [job for job in left_over(folder.resolve()) if job.state != ENDING]
    if not jobs or _watched(folder.resolve()):
        return False
    print(recipe(jobs, sys.argv[1:]), file=sys.stderr, flush=True)
    return True


def refuse_beside_jobs(folder: Path, *, explained: bool = False) -> None:
    """Stop before anything is submitted while jobs of an earlier run are at work in this folder.

    The plugin would submit the same jobs again, beside them. Cancelled ones that are about to end
    are waited for.

    Args:
        folder: working folder.
        explained: the recipe was printed before.

    Raises:
        SystemExit: with the recipe.
    """
    until = time.monotonic() + _ENDING_SECONDS
    while jobs := left_over(folder.resolve()):
        if any(job.state != ENDING for job in jobs) or time.monotonic() > until:
            raise SystemExit(REFUSED if explained else recipe(jobs, sys.argv[1:]))
        time.sleep(1.0)
