"""Partitions as sinfo prints them, and the jobs that none of them can ever start."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from georecon.jobs.partitions import Partition, in_groups, parse, unfit
from georecon.jobs.planned_jobs import PlannedJob

SINFO = """\
cpu*|up|1:00:00|64000|8|(null)
gpu|up|2-00:00:00|192000+|16|gpu:h100:4(S:0-1)
gpu|up|2-00:00:00|64000|32|gpu:a100:2,gpu:h100:1,shard:8
long|up|infinite|1000|1|(null)
gone|down|infinite|999999|99|gpu:9
old|up|30:00|1000|1|gpu:2
"""
CPU = Partition("cpu", 60.0, 64000, 8, 0, True)
GPU = Partition("gpu", 2880.0, 192000, 32, 4, False)
JOB = PlannedJob("finetune", (), 60, megabytes=8000, cpus=1)


def test_the_most_of_each_partition_that_is_up() -> None:
    cpu, gpu, long, old = parse(SINFO)
    assert cpu == CPU
    assert gpu == GPU
    assert math.isinf(long.minutes)
    assert (old.minutes, old.gpus) == (30.0, 2)
    assert parse("slurm_load_partitions: Unable to contact slurm controller\n") == []


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"minutes": None}, True),
        ({"minutes": 61}, False),
        ({"megabytes": 64001}, False),
        ({"cpus": 9}, False),
        ({"gpus": 1}, False),
    ],
)
def test_a_job_fits_if_all_of_it_does(change: dict[str, int | None], fits: bool) -> None:
    values = {"minutes": JOB.minutes, "megabytes": JOB.megabytes, "cpus": 1, "gpus": 0} | change
    assert CPU.holds(PlannedJob("finetune", (), **values)) is fits  # type: ignore[arg-type]


def test_each_rule_that_fits_nowhere_is_named_once() -> None:
    day = PlannedJob("pretrain", (), 1440, megabytes=8000, gpus=1)
    assert unfit([JOB, day], [CPU, GPU], ["cpu", "gpu"]) == []
    (text,) = unfit([JOB, day, day], [CPU, GPU], [])  # without a site file: the default one
    assert text.startswith(
        "rule pretrain asks for 1440 min, 8000 MB, 1 CPUs and 1 GPUs, which no partition of its "
        "own can ever start: cpu (60 min, 64000 MB, 8 CPUs, 0 GPUs)."
    )
    (text,) = unfit([JOB, day], [CPU, GPU], ["cpu"])
    assert "rule pretrain" in text
    named = PlannedJob("pretrain", (), 1440, megabytes=8000, gpus=1, partition="gpu")
    assert unfit([named], [CPU, GPU], []) == []
    (text,) = unfit([PlannedJob("table", (), 5, partition="gone")], [CPU, GPU], ["cpu"])
    assert "can ever start: none." in text


def test_grouped_jobs_ask_for_those_that_run_at_a_time(tmp_path: Path) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(
        "groups: [evaluate=evaluate, leak=leak, table=tables]\n"
        "group-components: [evaluate=24, leak=2]\nresources: [small=4]\n"
    )
    jobs = [
        PlannedJob(rule, (), 15, megabytes=3000, small=rule != "finetune")
        for rule in ("evaluate", "leak", "table", "finetune")
    ]
    asked = {job.rule: (job.megabytes, job.cpus) for job in in_groups(jobs, profile)}
    assert asked == {
        "evaluate": (12000, 4), "leak": (6000, 2), "table": (3000, 1), "finetune": (3000, 1)
    }  # fmt: skip
    assert unfit(in_groups(jobs, profile), [Partition("cpu", 60, 8000, 8, 0, True)], []) != []
