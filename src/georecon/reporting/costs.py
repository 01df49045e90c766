"""What an edition took: hours of GPUs and cores, memory and energy, by table, method and rule.

From the records of its jobs, what Snakemake measured of them (``benchmark:``) and Slurm's books. A
job counts once in each sum: an encoder that five tables need is in the cost of each of them, and
once in that of the edition.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from georecon import paths
from georecon.errors import ConfigError, DataError
from georecon.jobs.books import Entry
from georecon.keys import Json, from_json
from georecon.records.chain import Graph
from georecon.records.read import Record, known
from georecon.records.untrusted import read_strict_json

FILE = "cost.json"
OTHERS = "data and tables"
"""In place of a method, of jobs that belong to none."""
_PAGES = frozenset({"figure", "summary", "site", "report", "cost"})
"""Stages that are not counted: some of them run beside the job that counts, or after it."""
_SEEN_MB = 64.0
"""Less memory no Python has that computes: the process that Snakemake looked at only waited for
another one, of the warm process, which it does not see."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What some jobs took together.

    Attributes:
        jobs: how many.
        gpu_hours: each GPU of a job counted [h].
        cpu_hours: of processors; of jobs that nobody measured their wall time on every thread [h].
        cpu_bounded: the part of that [h], which the jobs took at most.
        peak_mb: most memory of a job's processes on the host [MB]; None where none was measured.
        energy_kwh: of the jobs that the cluster measured it of; None without any.
    """

    jobs: int
    gpu_hours: float
    cpu_hours: float
    cpu_bounded: float = 0.0
    peak_mb: float | None = None
    energy_kwh: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Cost of an edition, and of its jobs by table, method and rule.

    Attributes:
        notes: what is not in the numbers, as sentences.
    """

    edition: str
    total: Cost
    tables: Mapping[str, Cost]
    methods: Mapping[str, Cost]
    rules: Mapping[str, Cost]
    notes: tuple[str, ...] = ()

    def as_json(self) -> Json:
        """Content of ``cost.json``."""
        return asdict(self) | {"notes": [*self.notes]}


class Use(NamedTuple):
    """What one job took; attributes as of :class:`Cost`.

    Attributes:
        rule, method: of the job.
        earlier_hours: what a resumed training's earlier attempts took by its later speed [h].
    """

    rule: str
    method: str
    gpu_hours: float
    cpu_hours: float
    bounded: bool
    peak_mb: float | None
    energy_kwh: float | None
    earlier_hours: float


def costs_of(graph: Graph, root: Path, books: Mapping[str, Entry]) -> Costs:
    """Cost of all jobs of an edition.

    Args:
        graph: of the edition.
        root: working folder.
        books: entries of Slurm's books by number of the job.
    """
    tables: dict[str, set[str]] = {}
    for cell in graph.cells():
        behind = {link.path for link in graph.chain(cell.path) if link.kind == "run"}
        tables.setdefault(cell.table, set()).update(behind)
    own, needed = paths.RESULTS.format(edition=graph.edition), set().union(*tables.values())
    records = {  # resources has records of other editions' data too
        path: record
        for path, record in graph.records.items()
        if record.stage not in _PAGES and (path in needed or path.startswith(f"{own}/"))
    }
    shares = _shares(records.values())
    uses = {
        path: _use(record, root, graph.edition, books.get(record.slurm or ""), shares[path])
        for path, record in records.items()
    }
    rules = dict.fromkeys(use.rule for use in uses.values())
    methods = dict.fromkeys(use.method for use in uses.values())
    return Costs(
        edition=graph.edition,
        total=_sum(uses.values()),
        tables={n: _sum(uses[path] for path in sorted(runs)) for n, runs in tables.items()},
        methods={m: _sum(use for use in uses.values() if use.method == m) for m in methods},
        rules={name: _sum(use for use in uses.values() if use.rule == name) for name in rules},
        notes=tuple(_notes(records.values(), uses.values())),
    )


def _sum(uses: Iterable[Use]) -> Cost:
    listed = list(uses)
    peaks = [use.peak_mb for use in listed if use.peak_mb is not None]
    energies = [use.energy_kwh for use in listed if use.energy_kwh is not None]
    return Cost(
        jobs=len(listed),
        gpu_hours=sum(use.gpu_hours for use in listed),
        cpu_hours=sum(use.cpu_hours for use in listed),
        cpu_bounded=sum(use.cpu_hours for use in listed if use.bounded),
        peak_mb=max(peaks, default=None),
        energy_kwh=sum(energies) if energies else None,
    )


def _shares(records: Iterable[Record]) -> dict[str, float]:
    """Part of its Slurm job that each record is: the jobs of a group have one, by their seconds."""
    listed, seconds = list(records), dict[str, float]()
    for record in listed:
        seconds[record.slurm or ""] = seconds.get(record.slurm or "", 0.0) + (record.seconds or 0)
    return {
        r.path: (r.seconds or 0) / total if (total := seconds[r.slurm or ""]) else 1.0
        for r in listed
    }


def _use(record: Record, root: Path, edition: str, entry: Entry | None, share: float) -> Use:
    hours = (record.seconds or 0.0) / 3600
    processes = record.training.processes or 1
    gpu_hours = hours * processes if record.compute.device == "cuda" else 0.0
    cpu_hours, bounded = hours * processes * (record.compute.threads or 1), True
    peak = None
    if (seen := _benchmark(root, edition, record)) is not None:
        cpu_hours, peak, bounded = seen.cpu_seconds / 3600, seen.peak_mb, False
    energy = None
    if entry is not None:
        gpu_hours = share * entry.gpu_hours or gpu_hours
        if entry.cpu_hours:
            cpu_hours, bounded = share * entry.cpu_hours, False
        if share == 1.0:
            peak = entry.peak_mb or peak
        energy = None if entry.energy_kwh is None else share * entry.energy_kwh
    return Use(
        rule=record.stage,
        method=_method(record),
        gpu_hours=gpu_hours,
        cpu_hours=cpu_hours,
        bounded=bounded,
        peak_mb=peak,
        energy_kwh=energy,
        earlier_hours=_earlier_hours(root, record),
    )


def _method(record: Record) -> str:
    """Method of a run, by its folder: ``.../<method>/seed<k>``, ``encoders/<method>``."""
    folder = PurePosixPath(record.path).parent
    if folder.name.startswith("seed"):
        return folder.parent.name
    return folder.name if record.stage == "import_encoder" else OTHERS


class _Seen(NamedTuple):
    """What Snakemake measured of a job."""

    cpu_seconds: float
    peak_mb: float


def _benchmark(root: Path, edition: str, record: Record) -> _Seen | None:
    """What Snakemake measured; None where it did not, or looked at a process that only waited."""
    folder, results = PurePosixPath(record.path).parent, paths.RESULTS.format(edition=edition)
    if not folder.is_relative_to(results) or not folder.name.startswith("seed"):
        return None
    run = PurePosixPath(*folder.relative_to(results).parts[1:])
    path = root / paths.BENCHMARKS.format(edition=edition) / record.stage / f"{run}.tsv"
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            row = next(csv.DictReader(handle, delimiter="\t"))
        found = _Seen(float(row["cpu_time"]), float(row["max_rss"]))
    except (OSError, StopIteration, KeyError, TypeError, ValueError):
        return None  # no file, or "NA" of a job that was too short to be looked at
    return found if found.peak_mb >= _SEEN_MB else None


def _earlier_hours(root: Path, record: Record) -> float:
    """What a resumed training took before: the steps until then, at the speed of the others."""
    if record.training.steps is None:
        return 0.0
    training = known(read_strict_json(root / record.path, record.path), "training", dict, "")
    resumed = known(training, "resumed_at", int, record.path) or 0
    seconds, own = known(training, "seconds", float, record.path) or 0.0, record.training.steps
    return seconds * resumed / (own - resumed) / 3600 if 0 < resumed < own else 0.0


def _notes(records: Iterable[Record], uses: Iterable[Use]) -> Iterable[str]:
    listed = list(uses)
    resumed = [use.earlier_hours for use in listed if use.earlier_hours]
    if resumed:
        yield (
            f"{len(resumed)} trainings went on from a save; the {sum(resumed):.2g} h that their "
            "earlier attempts took, by the speed of the last one, are not in the numbers"
        )
    imported = sum(record.imported is not None for record in records)
    if imported:
        yield f"{imported} jobs were taken from published results: what they took there is counted"
    if any(use.bounded for use in listed):
        yield (
            "where nobody measured processor time, wall time on every thread is counted, which "
            "bounds it from above (≤)"
        )
    yield "figures, pages, and jobs that failed are not counted"


def read_costs(folder: Path) -> Costs | None:
    """Cost as the report's folder has it; None where it has not.

    Raises:
        DataError: the file has another form than this code writes.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    content = read_strict_json(path)
    try:
        return from_json(Costs, content)
    except ConfigError as error:
        raise DataError(path, None, f"no costs as this code writes them ({error!s:.200})") from None


class CostRow(NamedTuple):
    """A line of a table of costs, numbers as text."""

    name: str
    jobs: str
    gpu_hours: str
    cpu_hours: str
    peak: str
    energy: str


HEADINGS = ("", "jobs", "GPU-hours", "CPU-hours", "peak memory [GB]", "energy [kWh]")


def cost_rows(costs: Costs) -> dict[str, list[CostRow]]:
    """Lines to show, by what they are sums over."""
    groups = {"table": costs.tables, "method": costs.methods, "rule": costs.rules}
    total = _row("all, each job once", costs.total)
    return {
        name: [*(_row(key, cost) for key, cost in group.items()), total]
        for name, group in groups.items()
    }


def _row(name: str, cost: Cost) -> CostRow:
    bound = "≤ " if cost.cpu_bounded > 0.05 * cost.cpu_hours else ""
    return CostRow(
        name=name,
        jobs=str(cost.jobs),
        gpu_hours=_hours(cost.gpu_hours),
        cpu_hours=bound + _hours(cost.cpu_hours),
        peak="–" if cost.peak_mb is None else f"{cost.peak_mb / 1000:.2g}",
        energy="–" if cost.energy_kwh is None else f"{cost.energy_kwh:.3g}",
    )


def _hours(hours: float) -> str:
    """Three digits, without an exponent."""
    if not hours:
        return "0"
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}" if hours >= 0.01 else f"{hours:.4f}"
