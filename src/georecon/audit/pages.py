"""Summary and web report written again from the tables, and compared with those that lie there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from georecon import paths
from georecon.audit.findings import CODE, Context, Finding
from georecon.audit.table_texts import first_difference
from georecon.errors import DataError
from georecon.records.code import code_digest
from georecon.records.read import Record
from georecon.reporting.expected import expected_digest
from georecon.reporting.figures.inputs import figure_names
from georecon.reporting.summary import banner, report_texts
from georecon.reporting.web.plan import site_plan
from georecon.reporting.web.site import unlike

_NOT_AGAIN = (
    "figures and notebooks: their inputs, not their pictures, are held against the tables",
    "report/report.html: Snakemake's; its hash alone is compared",
    "report/cost.json: its hash alone is compared; what jobs took is in no number of a table",
)


def check_pages(context: Context) -> Iterator[Finding]:
    """Pages say what the tables say."""
    for sentence in _NOT_AGAIN:
        context.cannot(sentence)
    missing = [name for name in ("jinja2", "markdown_it") if find_spec(name) is None]
    if missing:
        context.cannot(f"pages: {', '.join(missing)} is not installed")
        return
    checks = {"summary": _check_summary, "site": _check_site}
    for stage, check in checks.items():
        for record in context.runs(stage):
            if record.settings.get("code") != code_digest(stage):
                continue  # said by the check of code
            if record.settings.get("expected") != expected_digest(context.expected):
                context.cannot(f"{stage}: made with other public numbers than are here")
                continue
            yield from check(context, record)


def _check_summary(context: Context, record: Record) -> Iterator[Finding]:
    e, graph = context.experiments, context.graph
    read = {claim.path for claim in record.inputs.values()}
    runs = [graph.records[path] for path in e.tables.run_records() if path in graph.records]
    tables = [graph.tables[name] for name in e.tables.names() if name in graph.tables]
    if len(tables) < len(e.tables.names()):
        return  # said by the check of files
    texts = report_texts(
        tables,
        sorted(path for path in read if path.endswith(".png")),
        runs,
        expected=context.expected,
        banner=banner(e),
        folder=context.root / e.runs.folder(paths.REPORT),
    )
    yield from _compare(context, texts, e.runs.folder(paths.REPORT))


def _compare(context: Context, texts: Mapping[str, str], folder: str) -> Iterator[Finding]:
    for name, wanted in texts.items():
        path = f"{folder}/{name}"
        try:
            found = (context.root / path).read_bytes().decode("utf-8")
        except FileNotFoundError:
            continue  # said by the check of files
        except ValueError as error:
            yield Finding(kind="file unreadable", path=path, text=str(error))
            continue
        if found != wanted:
            text = f"is not what the tables give: {first_difference(found, wanted)}"
            yield Finding(kind="page edited", path=path, text=text)


def _check_site(context: Context, record: Record) -> Iterator[Finding]:
    from jinja2 import TemplateError

    path = f"{context.experiments.runs.folder(paths.REPORT)}/index.html"
    if not (context.root / path).is_file():
        return  # said by the check of files
    names = figure_names(context.experiments, CODE / "reports" / "notebooks")
    text = Path(context.root, path).read_text(encoding="utf-8")
    plan = site_plan(context.experiments, names, CODE / "reports" / "published")
    try:
        difference = unlike(text, plan, context.expected, context.root)
    except (TemplateError, DataError) as error:  # of records or costs of another form
        difference = f"cannot be written again: {error!r:.200}"
    if difference is not None:
        text = difference + _run_since(context, record)
        yield Finding(kind="page edited", path=path, text=text)


def _run_since(context: Context, page: Record) -> str:
    """Which jobs ran after the page was written: it then shows what they replaced."""
    since = sorted(r.path for r in context.graph.records.values() if r.started > page.ended)
    if not since:
        return ""
    more = f" and {len(since) - 1} more" if len(since) > 1 else ""
    return f"; jobs have run since it was written ({since[0]}{more}): `make` writes it anew"
