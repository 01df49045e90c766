"""What a cluster's partitions hold, asked from Slurm, and the rules whose jobs none of them can."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from georecon.jobs.planned_jobs import PlannedJob
from georecon.jobs.slurm import ask

_FIELDS = "%P|%a|%l|%m|%c|%G"
_TIME = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)$")


@dataclass(frozen=True, slots=True)
class Partition:
    """Most that a job can have there.

    Attributes:
        minutes: longest time [min]; infinite without a limit.
        megabytes, cpus, gpus: of its largest node.
        default: whether jobs that name none go there.
    """

    name: str
    minutes: float
    megabytes: int
    cpus: int
    gpus: int
    default: bool

    def __str__(self) -> str:
        time = "no time limit" if math.isinf(self.minutes) else f"{self.minutes:.0f} min"
        return f"{self.name} ({time}, {self.megabytes} MB, {self.cpus} CPUs, {self.gpus} GPUs)"

    def holds(self, job: PlannedJob) -> bool:
        """Whether a job's request can ever start there."""
        return (
            (job.minutes or 0) <= self.minutes
            and job.megabytes <= self.megabytes
            and job.cpus <= self.cpus
            and job.gpus <= self.gpus
        )


def real_partitions() -> list[Partition]:
    """Partitions that are up; none where there is no Slurm or it does not answer."""
    return parse(ask("sinfo", "--noheader", f"--format={_FIELDS}") or "")


def parse(text: str) -> list[Partition]:
    """Partitions from ``sinfo``'s lines, one for each kind of node."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != 6 or fields[1] != "up":
            continue
        name = fields[0].rstrip("*")
        before = found.get(name, Partition(name, 0.0, 0, 0, 0, fields[0].endswith("*")))
        found[name] = Partition(
            name,
            max(before.minutes, _minutes(fields[2])),
            max(before.megabytes, _whole(fields[3])),
            max(before.cpus, _whole(fields[4])),
            max(before.gpus, _gpus(fields[5])),
            before.default,
        )
    return list(found.values())


def _minutes(text: str) -> float:
    """``1-00:00:00``, ``10:00`` or ``infinite`` [min]."""
    match = _TIME.match(text.strip())
    if match is None:
        return math.inf
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 1440 * days + 60 * hours + minutes + seconds / 60


def _whole(text: str) -> int:
    """A number, with the ``+`` of nodes that have more."""
    digits = re.match(r"\d+", text.strip())
    return int(digits[0]) if digits else 0


def _gpus(text: str) -> int:
    """GPUs of a node from its generic resources: ``gpu:h100:4(S:0-1),shard:8``."""
    counts = re.findall(r"\bgpu(?::[^:,()]+)*?:(\d+)", text)
    return sum(map(int, counts))


def in_groups(jobs: Iterable[PlannedJob], profile: Path) -> list[PlannedJob]:
    """Jobs as the profile's groups ask for them: as many at a time as its resource ``small`` has.

    Args:
        jobs: of a dry run.
        profile: slurm/profile.yaml.
    """
    settings: dict[str, Any] = yaml.safe_load(profile.read_text(encoding="utf-8"))
    groups = dict(entry.split("=") for entry in settings.get("groups") or ())
    sizes = dict(entry.split("=") for entry in settings.get("group-components") or ())
    limits = dict(entry.split("=") for entry in settings.get("resources") or ())
    found = []
    for job in jobs:
        at_a_time = min(int(sizes.get(groups.get(job.rule), 1)), int(limits.get("small", 1)))
        found.append(job.together(at_a_time) if job.rule in groups and job.small else job)
    return found


def unfit(
    jobs: Sequence[PlannedJob], partitions: Sequence[Partition], named: Sequence[str]
) -> list[str]:
    """A sentence for each rule with a job that no partition can ever start.

    Args:
        jobs: of a dry run, those that run on the cluster.
        partitions: of the cluster.
        named: partitions of slurm/site.yaml; without any, jobs go to the default one.
    """
    allowed = [p for p in partitions if p.name in named or (p.default and not named)]
    found: dict[str, str] = {}
    for job in jobs:
        own = [p for p in partitions if p.name == job.partition] if job.partition else allowed
        if job.rule in found or any(partition.holds(job) for partition in own):
            continue
        there = "; ".join(map(str, own)) or "none"
        time = f"{job.minutes} min, " if job.minutes else ""
        found[job.rule] = (
            f"rule {job.rule} asks for {time}{job.megabytes} MB, {job.cpus} CPUs and {job.gpus} "
            f"GPUs, which no partition of its own can ever start: {there}. Ask for less "
            "(set-resources in slurm/profile.yaml), or name another in slurm/site.yaml"
        )
    return list(found.values())
