"""Files that nobody asked for: among an edition's results, or among those that a record names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from georecon import paths
from georecon.audit.findings import CODE, Context, Finding
from georecon.audit.records import WROTE
from georecon.records.read import Record
from georecon.reporting.figures.inputs import figure_names

_OURS = ("audit", "bundle", "state", "rerun", "benchmarks")
"""Folders of an edition whose files are no results: what the audit itself, unfinished trainings,
repeated cells and Snakemake's measurements leave."""
_UNRECORDED = ("report/state.html", "report/report.html")
"""Pages of a moment, and Snakemake's own, which has a record where the launcher made it."""
_TEMPORARY = re.compile(r"\..*\.(tmp|old)(\.\w+)?")
_SHOWN = {
    "table": tuple(f"{paths.TABLE}{suffix}" for suffix in (".json", ".csv", ".md", ".tex")),
    "figure": (
        *(f"{paths.FIGURE}{suffix}" for suffix in (".png", ".pdf")),
        *(f"{paths.NOTEBOOK}{suffix}" for suffix in (".ipynb", ".html")),
    ),
    "summary": (
        *(f"{paths.REPORT}/{name}" for name in ("summary.md", "summary.html", "claims.json")),
        f"{paths.REPORT}/runs.csv",
        f"{paths.REPORT}/tables/{{table}}.html",
    ),
    "cost": (f"{paths.REPORT}/cost.json",),
    "site": (f"{paths.REPORT}/index.html",),
    "report": (f"{paths.REPORT}/report.html",),
}
"""What the jobs write whose files a reader looks at, by stage (rules/tables.smk and its kind)."""


_FOLDERS = ("tables", "figures", "notebooks", "report")
"""Where those files lie: nothing else does."""


def check_strangers(context: Context) -> Iterator[Finding]:
    """Among an edition's results lies no file but those that jobs of this workflow write."""
    results = context.experiments.runs.folder(paths.RESULTS)
    named, shown = _named(context.graph.records), _shown_files(context)
    for place, files in _folders(context.root, results):
        top = place.removeprefix(f"{results}/").split("/")[0]
        for name in files:
            path = f"{place}/{name}"
            if _TEMPORARY.fullmatch(name) or (
                path in named and (top not in _FOLDERS or path in shown)
            ):
                continue
            if path.removeprefix(f"{results}/") in _UNRECORDED:
                context.cannot(f"{path}: no record has its hash")
                continue
            if context.bundle and name == "MODEL_CARD.md":
                continue
            text = "no record of a job that writes it; remove it, or what else is a result?"
            yield Finding(kind="file of nobody", path=path, text=text)
    for table in context.graph.tables:
        if table not in context.experiments.config.tables:
            path = context.experiments.runs.folder(paths.TABLE, table=table) + ".json"
            text = "is a table that the configuration does not have: nothing says what it must hold"
            yield Finding(kind="file of nobody", path=path, text=text)


def _named(records: Mapping[str, Record]) -> set[str]:
    """Records of jobs that this workflow has, and the files that such a job writes."""
    found = set()
    for path, record in records.items():
        if record.stage not in {*WROTE, *_SHOWN}:
            continue
        wrote = record.outputs
        names = WROTE.get(record.stage, {*wrote})
        found |= {path, *(claim.path for name, claim in wrote.items() if name in names)}
    return found


def _folders(root: Path, results: str) -> Iterator[tuple[str, list[str]]]:
    """Folders of an edition with the names of their files; behind links too, each once."""
    seen = set()
    for folder, below, files in os.walk(root / results, followlinks=True):
        place = Path(folder).relative_to(root).as_posix()
        if place == results:
            below[:] = [name for name in below if name not in _OURS]
        if (own := os.path.realpath(folder)) in seen:
            below.clear()
            continue
        seen.add(own)
        yield place, files


def _shown_files(context: Context) -> set[str]:
    """All that a reader of this configuration's results can be shown."""
    e = context.experiments
    figures = figure_names(e, CODE / "reports" / "notebooks")
    if context.bundle:  # its notebooks need not be those that are here
        figures += [
            PurePosixPath(record.path).stem
            for record in context.graph.records.values()
            if record.stage == "figure"
        ]
    names = {"table": e.tables.names(), "figure": figures}
    found = set()
    for templates in _SHOWN.values():
        for template in templates:
            kind = next((kind for kind in names if f"{{{kind}}}" in template), None)
            for name in names[kind] if kind else [""]:
                found.add(e.runs.folder(template, **({kind: name} if kind else {})))
    return found
