"""What the Slurm profile would submit, from a dry run of it: rules, limits, outputs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from georecon.errors import GeoreconError
from georecon.experiments.rates import Rate
from georecon.experiments.trainings import Training
from georecon.files import write_json


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One job of a dry run.

    Attributes:
        rule: its rule.
        outputs: paths in the working folder.
        minutes: time limit of the first attempt, None where there is none.
        megabytes, cpus, gpus: what it asks for.
        partition: the one that it names, or "".
        small: whether few of its kind run at a time in a group.
    """

    rule: str
    outputs: tuple[str, ...]
    minutes: int | None
    megabytes: int = 0
    cpus: int = 1
    gpus: int = 0
    partition: str = ""
    small: bool = False

    def together(self, times: int) -> PlannedJob:
        """What so many of them ask for that run side by side in one allocation."""
        return replace(self, megabytes=times * self.megabytes, cpus=times * self.cpus)


def read_jobs(path: Path) -> list[PlannedJob]:
    """Jobs that the georecon logger wrote during a dry run (``--logger-georecon-jobs-file``)."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return [_planned(job["rule"], job["output"], job["resources"]) for job in found]


def _planned(rule: str, outputs: list[str], resources: dict[str, Any]) -> PlannedJob:
    return PlannedJob(
        rule,
        tuple(outputs),
        resources.get("runtime"),
        megabytes=int(resources.get("mem_mb") or 0),
        cpus=int(resources.get("_cores") or 1),
        gpus=int(resources.get("gpu") or 0),
        partition=str(resources.get("slurm_partition") or ""),
        small=bool(resources.get("small")),
    )


def planned_jobs(root: Path, folder: Path, config: dict[str, Any]) -> list[PlannedJob]:
    """Jobs left to do for the target ``all`` under slurm/profile.yaml.

    Args:
        root: folder of the Snakefile.
        folder: working folder.
        config: Snakemake's configuration as it was given.

    Raises:
        GeoreconError: Snakemake refuses the dry run; its last line says why.
    """
    with tempfile.TemporaryDirectory() as place:
        given, jobs = Path(place) / "given.json", Path(place) / "jobs.jsonl"
        write_json(given, config)
        command = [
            *(sys.executable, "-m", "snakemake", "--dry-run", "--nolock"),
            *("--snakefile", str(root / "Snakefile"), "--directory", str(folder)),
            *("--profile", str(root / "slurm"), "--configfile", str(given)),
            *("--logger", "georecon", "--logger-georecon-jobs-file", str(jobs), "--", "all"),
        ]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
            raise GeoreconError(f"snakemake --dry-run --profile slurm: {reason}")
        return read_jobs(jobs)


def attempts(root: Path) -> int:
    """How often the profile submits a job in all."""
    text = (root / "slurm/profile.yaml").read_text(encoding="utf-8")
    return 1 + int(yaml.safe_load(text).get("retries", 0))


def job_lines(jobs: list[PlannedJob]) -> list[str]:
    """Number of jobs by rule."""
    counts = Counter(job.rule for job in jobs if job.rule != "all")
    listed = ", ".join(f"{rule} {count}" for rule, count in counts.most_common())
    return [f"Jobs of target all, by rule: {listed or 'none'}; {sum(counts.values())} in all"]


def limit_lines(
    jobs: list[PlannedJob],
    runs: list[Training],
    rates: Mapping[str, Mapping[str, Rate]],
    times: int,
) -> list[str]:
    """A warning for each device on which trainings take longer than the profile's time limit.

    Args:
        jobs: of the dry run.
        runs: trainings left to do.
        rates: what was measured, by device and kind.
        times: how often a job is submitted in all.
    """
    minutes = {output: job.minutes for job in jobs for output in job.outputs}
    lines = []
    for device, known in rates.items():
        longer = []
        for run in runs:
            limit, cost = minutes.get(f"{run.folder}/run.json"), run.estimate(known)
            if limit is not None and cost is not None and cost.hours * 60 > limit:
                longer.append((cost.hours * 60 / limit, cost.hours, limit / 60))
        if not longer:
            continue
        ratio, hours, limit_hours = max(longer)
        what = f"{len(longer)} trainings take longer than their time limit on {device}"
        worst = f"at most {hours:.3g} h of {limit_hours:.3g} h"
        enough = ratio <= times
        then = (
            "each goes on from its save in the next attempt"
            if enough
            else f"more than the {times} attempts together: raise runtime or retries"
        )
        lines.append(f"WARNING: {what} ({worst}): {then} (slurm/profile.yaml)")
    return lines
