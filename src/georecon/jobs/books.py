"""What Slurm's books (``sacct``) say of jobs that have ended."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from georecon.jobs.slurm import ask

_FIELDS = ("JobIDRaw", "ElapsedRaw", "TotalCPU", "MaxRSS", "ConsumedEnergyRaw", "AllocTRES")
_AT_ONCE = 200  # jobs a question
_TIME = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_SIZE = re.compile(r"([\d.]+)([KMGT]?)")
_GPUS = re.compile(r"(?:^|,)gres/gpu=(\d+)")
_MEGABYTES = {"": 1e-6, "K": 1.024e-3, "M": 1.048576, "G": 1073.741824, "T": 1099511.627776}


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One job, all its attempts under one number together.

    Attributes:
        cpu_hours: of all its processes [h].
        gpu_hours: that it held GPUs, each counted [h].
        peak_mb: most memory of a step [MB]; None where that was not kept.
        energy_kwh: None where the cluster does not measure it.
    """

    cpu_hours: float
    gpu_hours: float
    peak_mb: float | None
    energy_kwh: float | None


def read_books(jobs: Iterable[str]) -> dict[str, Entry]:
    """Entries of jobs by their numbers; those that Slurm does not know or answer for are left out.

    Args:
        jobs: numbers of jobs.
    """
    wanted, found = sorted({job for job in jobs if job.isdigit()}), dict[str, Entry]()
    for start in range(0, len(wanted), _AT_ONCE):
        numbers = ",".join(wanted[start : start + _AT_ONCE])
        text = ask(
            *("sacct", "--noheader", "--parsable2", "--duplicates", "--jobs", numbers),
            f"--format={','.join(_FIELDS)}",
        )
        if text is None:  # no Slurm here, or no books: neither will the next question be answered
            break
        found |= parse_books(text)
    return found


def parse_books(text: str) -> dict[str, Entry]:
    """Entries from what ``sacct --parsable2`` prints: a line for each job and for each step."""
    rows: dict[str, list[dict[str, str]]] = {}
    for line in text.splitlines():
        values = line.split("|")
        if len(values) == len(_FIELDS):
            row = dict(zip(_FIELDS, values, strict=True))
            rows.setdefault(row["JobIDRaw"].split(".")[0], []).append(row)
    return {job: _entry(own) for job, own in rows.items()}


def _entry(rows: list[dict[str, str]]) -> Entry:
    whole = [row for row in rows if "." not in row["JobIDRaw"]]  # one an attempt
    seconds = sum(_seconds(row["TotalCPU"]) for row in whole)
    held = sum(int(row["ElapsedRaw"] or 0) * _gpus(row["AllocTRES"]) for row in whole)
    peaks = [size for row in rows if (size := _megabytes(row["MaxRSS"])) is not None]
    # some versions say the energy of the job, some that of its steps alone
    joules = [float(row["ConsumedEnergyRaw"] or 0) for row in rows]
    of_jobs = sum(x for x, row in zip(joules, rows, strict=True) if "." not in row["JobIDRaw"])
    energy = of_jobs or max(joules, default=0.0)
    return Entry(
        cpu_hours=seconds / 3600,
        gpu_hours=held / 3600,
        peak_mb=max(peaks, default=None),
        energy_kwh=energy / 3.6e6 if energy else None,
    )


def _seconds(text: str) -> float:
    """Seconds of ``[days-][hours:]minutes:seconds``; 0 of anything else."""
    match = _TIME.fullmatch(text)
    if match is None:
        return 0.0
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds


def _megabytes(text: str) -> float | None:
    match = _SIZE.fullmatch(text)
    return float(match[1]) * _MEGABYTES[match[2]] if match else None


def _gpus(text: str) -> int:
    match = _GPUS.search(text)
    return int(match[1]) if match else 0
