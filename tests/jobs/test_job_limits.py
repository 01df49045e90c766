"""Memory and time grow with the attempt, time up to what the site has."""

from __future__ import annotations

from georecon.jobs.job_limits import SMALL_ROUNDS, JobLimits
from georecon.jobs.slurm import Limits


def times(resources: dict[str, object], attempts: int = 3) -> list[int]:
    limit = resources["runtime"]
    assert callable(limit)
    return [limit(None, attempt) for attempt in range(1, attempts + 1)]


def test_time_and_memory_grow_with_the_attempt() -> None:
    found = JobLimits(Limits(), gpus=1).cpu_job(2000, minutes=60)
    assert times(found) == [60, 120, 180]
    assert [found["mem_mb"](None, attempt) for attempt in (1, 2)] == [2000, 4000]


def test_no_job_asks_for_more_time_than_its_partition_has() -> None:
    limits = JobLimits(Limits(cpu=100, gpu=30), gpus=2)
    assert times(limits.cpu_job(1000, minutes=60)) == [60, 100, 100]
    assert times(limits.gpu_job(minutes=60)) == [30, 30, 30]
    assert limits.gpu_job(minutes=60)["gpu"] == 2
    assert times(JobLimits(Limits(cpu=100, gpu=30), gpus=0).gpu_job(minutes=60))[0] == 60


def test_all_rounds_of_a_group_fit_the_site_together() -> None:
    found = JobLimits(Limits(cpu=100), gpus=0).small_job(1000, minutes=60)
    assert times(found)[0] * SMALL_ROUNDS <= 100
    assert found["small"] == 1
