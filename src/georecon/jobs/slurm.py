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
import threading
import time
from pathlib import Path
from typing import NamedTuple

from georecon.commands import option_values, recover_command, same_command, unlock_command
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
NEVER = frozenset(
    {
        "AccountingPolicy",
        "AssocMaxCpuPerJobLimit",
        "AssocMaxMemPerJob",
        "AssocMaxWallDurationPerJobLimit",
        "BadConstraints",
        "InvalidAccount",
        "InvalidQOS",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "QOSMaxCpuPerJobLimit",
        "QOSMaxMemoryPerJob",
        "QOSMaxWallDurationPerJobLimit",
    }
)
"""Slurm's reasons for waiting that waiting does not end (squeue's manual page)."""
_LOOK_SECONDS = 20.0


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


def leave_outer_job() -> None:
    """Keep what Slurm says of this Snakemake's own job from the jobs that it submits.

    Where Snakemake runs in a Slurm job itself, ``sbatch`` and ``srun`` would take that job's
    variables for theirs (its CPUs, memory, number). The plugin deletes them too, but with the place
    of Slurm's configuration, and only after a warning not to do this.
    """
    outer = os.environ.get("SLURM_JOB_ID")
    if outer is None or ASKED not in os.environ:
        return
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SRUN_"))]:
        if name != "SLURM_CONF":
            del os.environ[name]
    line = f"georecon: Snakemake runs in Slurm job {outer}; its jobs get none of that job's limits"
    print(line, file=sys.stderr, flush=True)


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
    return [
        Job(*row[:3])
        for row in _squeue("%i|%T|%k|%j|%Z")
        if len(row) == 5 and row[3].startswith(PREFIX) and Path(row[4]).resolve() == folder
    ]


def _squeue(fields: str) -> list[list[str]]:
    """This user's jobs, or none where Slurm does not answer within ten seconds."""
    text = ask("squeue", "--me", "--noheader", f"--format={fields}") or ""
    return [line.split("|") for line in text.splitlines()]


def ask(*command: str) -> str | None:
    """What a Slurm client prints; None if there is none, it fails or takes over ten seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def stuck(folder: Path, shown: set[str]) -> list[str]:
    """A line for each of this folder's jobs that Slurm says it will never start, each once.

    Args:
        folder: working folder.
        shown: ids of those that had a line; grows.
    """
    reasons = _squeue("%i|%r|%k|%j|%Z|%P|%l|%m")
    lines = []
    for row in reasons:
        if len(row) != 8 or row[1] not in NEVER or row[0] in shown:
            continue
        number, reason, comment, name, place, partition, time_limit, memory = row
        if not name.startswith(PREFIX) or Path(place).resolve() != folder:
            continue
        shown.add(number)
        lines.append(
            f"georecon: Slurm will never start job {number} ({comment}): {reason}; it asks for "
            f"{time_limit} and {memory} of partition {partition}. It waits: press Ctrl-C, and ask "
            "for less or name another partition (docs/cluster.md)"
        )
    return lines


def watch_stuck(folder: Path) -> None:
    """Print those lines while this process lives; they come within ``_LOOK_SECONDS``."""

    def look() -> None:
        shown: set[str] = set()
        while True:
            time.sleep(_LOOK_SECONDS)
            for line in stuck(folder, shown):
                print(line, file=sys.stderr, flush=True)

    if shutil.which("squeue") is not None:
        threading.Thread(target=look, daemon=True, name="stuck jobs").start()


def in_words(jobs: list[Job]) -> str:
    """The first jobs with rule and state, and how many more there are."""
    shown = ", ".join(f"{job.id} ({job.comment}, {job.state})" for job in jobs[:5])
    return f"{shown} and {len(jobs) - 5} more" if len(jobs) > 5 else shown


def recipe(jobs: list[Job], arguments: list[str]) -> str:
    """What to do after the Snakemake that watched these jobs was killed, in three lines or one."""
    return (
        f"georecon: jobs of an earlier run are still in this folder's queue: {in_words(jobs)}.\n"
        "If its Snakemake is alive, in another terminal, on another login node or in a job of its "
        "own, leave it alone.\n"
        "If it was killed, cancel its jobs (trainings save their state and go on from it):\n"
        f"  scancel {' '.join(job.id for job in jobs)}\n"
        f"  {unlock_command()}\n"
        f"  {same_command(arguments)}\n"
        "Or let them end, which trains nothing twice; this waits for them and then goes on:\n"
        f"  {recover_command(arguments)}"
    )


def watched(folder: Path) -> bool:
    """Whether another Snakemake works in this folder on this machine, a job's own aside.

    Snakemake gives the one that it starts for a job ``--mode``; users have no use for that option.
    """
    import psutil  # type: ignore[import-untyped]

    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        words = process.info["cmdline"] or ()
        program = {Path(word).name for word in words[:4]}
        here = process.info["cwd"] == str(folder) and process.info["pid"] != os.getpid()
        if here and "snakemake" in program and "--mode" not in words:
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
    if not jobs or watched(folder.resolve()):
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
