"""The five weakest links of a chain: said of every audit, whether or not anything is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from georecon.audit.findings import Context, Finding
from georecon.data.raw.lock import KINDS
from georecon.errors import ConfigError, DataError
from georecon.records.untrusted import read_strict_json
from georecon.reporting.significance import FEWEST_SEEDS


@dataclass(frozen=True, kw_only=True, slots=True)
class WeakLink:
    """One thing that a reader has to take on trust.

    Attributes:
        name: what it is.
        text: how it stands here, in a sentence.
        weak: whether it is weak here.
    """

    name: str
    text: str
    weak: bool


def weakest_links(context: Context, findings: Iterable[Finding]) -> list[WeakLink]:
    """Uncommitted code, mixed kernels, hashes that nobody published, too few seeds, leaks."""
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    return [
        _code(context, by_kind),
        _kernels(by_kind),
        _downloads(context),
        _seeds(context),
        _leaks(context),
    ]


def _code(context: Context, by_kind: dict[str, list[Finding]]) -> WeakLink:
    drafts = [*by_kind.get("uncommitted code", ()), *by_kind.get("unknown commit", ())]
    total = sum(1 for _ in context.runs())
    text = f"{len(drafts)} of {total} jobs ran code that no commit has"
    return WeakLink(name="uncommitted code", text=text, weak=bool(drafts))


def _kernels(by_kind: dict[str, list[Finding]]) -> WeakLink:
    mixed = by_kind.get("mixed kernels", [])
    text = f"{len(mixed)} columns have runs of several kernels or kinds of processor"
    return WeakLink(name="mixed kernels", text=text, weak=bool(mixed))


def _downloads(context: Context) -> WeakLink:
    files = list(_raw_files(context))
    weak = [path for path, known in files if not known]
    text = f"{len(weak)} of {len(files)} raw files have no published hash"
    text += f" ({', '.join(weak[:3])}{', …' if len(weak) > 3 else ''})" if weak else ""
    return WeakLink(name="unverified downloads", text=text, weak=bool(weak))


def _raw_files(context: Context) -> Iterator[tuple[str, bool]]:
    """Fetched files, each with whether its card gives a hash."""
    for record in context.runs("fetch"):
        claim = record.outputs.get("raw")
        if claim is None:
            continue
        try:
            dataset = str(record.settings.get("dataset"))
            file = context.experiments.data.raw_file(dataset, claim.path.rpartition("/")[2])
        except (ConfigError, KeyError):
            yield claim.path, False
            continue
        yield claim.path, any(getattr(file, kind) for kind in KINDS)


def _seeds(context: Context) -> WeakLink:
    filled = [cell for cell in context.graph.cells() if cell.value is not None]
    few = [cell for cell in filled if (cell.n or 0) < FEWEST_SEEDS]
    text = (
        f"{len(few)} of {len(filled)} numbers have fewer than {FEWEST_SEEDS} seeds, so no interval"
    )
    return WeakLink(name="few seeds", text=text, weak=bool(few))


def _leaks(context: Context) -> WeakLink:
    """The test set that shares the largest part with pre-training."""
    worst, where = (0.0, 0, 0), ""
    for record in context.runs("leak"):
        report = record.outputs.get("leak")
        if report is None:
            continue
        try:
            found = read_strict_json(context.root / report.path, report.path)
            shared, total = int(found["shared"]), int(found["test_molecules"])
        except (DataError, KeyError, TypeError, ValueError):
            continue  # said by the check of leaks
        worst, where = max((worst, where), ((shared / max(total, 1), shared, total), report.path))
    text = f"{worst[1]} of {worst[2]} test molecules have a structure that pre-training has"
    text += f" ({where})" if worst[1] else " at most"
    return WeakLink(name="leaks", text=text, weak=worst[1] > 0)
