"""Resources of jobs: memory and time that grow with the attempt, within what the site has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from georecon.jobs.slurm import Limits

SMALL_ROUNDS = 8
"""A group of small jobs runs in at most so many rounds; its time limit is the sum over them."""
Limit = Callable[[Any, int], int]
"""What Snakemake takes as a resource: a function of wildcards and attempt."""


class JobLimits:
    """Resources by kind of job.

    Args:
        site: longest run times of the site's partitions [minutes].
        gpus: of a training job; 0 for the CPU.
    """

    def __init__(self, site: Limits, gpus: int) -> None:
        self.site, self.gpus = site, gpus

    def gpu_job(self, minutes: float) -> dict[str, Any]:
        """A training, on the edition's GPUs if it has any."""
        longest = self.site.gpu if self.gpus else self.site.cpu
        return {"mem_mb": memory(8000), "runtime": runtime(minutes, longest), "gpu": self.gpus}

    def cpu_job(self, megabytes: int, minutes: float) -> dict[str, Any]:
        """A job without a GPU."""
        return {"mem_mb": memory(megabytes), "runtime": runtime(minutes, self.site.cpu)}

    def small_job(self, megabytes: int, minutes: float) -> dict[str, Any]:
        """One that a profile may put in a group: few of a group run at a time, and the sum over
        its rounds must fit the site as well.
        """
        longest = self.site.cpu and self.site.cpu / SMALL_ROUNDS
        return {"mem_mb": memory(megabytes), "runtime": runtime(minutes, longest), "small": 1}


def runtime(base: float, longest: float | None) -> Limit:
    """Time limit [minutes], growing with the attempt up to the site's longest."""

    def limit(wildcards: Any, attempt: int) -> int:
        return int(min(base * attempt, longest or base * attempt))

    return limit


def memory(base: int) -> Limit:
    """Memory [MB], growing with the attempt."""

    def limit(wildcards: Any, attempt: int) -> int:
        return base * attempt

    return limit
