"""Records: whole, unedited, of the right run, with the settings and inputs that config asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator

from georecon import paths
from georecon.audit.depth import PACKAGES
from georecon.audit.expected_records import (
    Wanted,
    cell_records,
    shown_records,
    table_record,
)
from georecon.audit.findings import CODE, Context, Finding
from georecon.data.raw.lock import identity
from georecon.files import sha256_json
from georecon.records.difference import difference
from georecon.records.read import Record
from georecon.records.record import RECORD_VERSION

WantedRecords = dict[str, tuple[Wanted, list[str]]]


def check_records(context: Context, wanted: WantedRecords) -> Iterator[Finding]:
    """All checks of records.

    Args:
        context: what to check.
        wanted: from :func:`wanted_records`.
    """
    yield from _shown(context)
    for record in context.runs():
        yield from _whole(record)
        yield from _named(record)
    if not context.bundle:  # its configuration has no notebooks
        notebooks = CODE / "reports" / "notebooks"
        shown = shown_records(context.experiments, context.expected, notebooks)
        for name in shown.keys() & context.graph.records.keys():
            yield from _as_configured(context.graph.records[name], shown[name])
    bad = {fault.path for fault in context.graph.faults if fault.kind != "record missing"}
    for name, (entry, cells) in wanted.items():
        if name in context.graph.records:
            yield from _as_configured(context.graph.records[name], entry)
        elif name not in bad:
            text = "the record of a job is gone"
            yield Finding(kind="record missing", path=name, text=text, touches=tuple(cells))


def wanted_records(context: Context) -> WantedRecords:
    """Records that the configuration asks for behind the tables there are, each with its cells."""
    e = context.experiments
    found: WantedRecords = {}
    for table in [name for name in context.graph.tables if name in e.config.tables]:
        for name, entry in table_record(e, table).items():
            found[name] = (entry, [])
        for row in e.tables.rows(table):
            for column in e.tables.columns(table):
                if e.tables.cell(table, row, column).reason is not None:
                    continue
                for name, entry in cell_records(e, table, row, column).items():
                    cells = found.setdefault(name, (entry, []))[1]
                    cells.append(f"{table}/{row.key}/{column.key}")
    return found


def _shown(context: Context) -> Iterator[Finding]:
    """Figures and pages that lie there have records."""
    e = context.experiments
    figures = e.runs.folder(paths.FIGURE, figure="x").rpartition("/")[0]
    records = e.runs.folder(paths.RESULT_RECORD, stage="figure")
    wanted = {
        f"{records}/{path.stem}.json": f"{figures}/{path.name}"
        for path in sorted((context.root / figures).glob("*.pdf"))
    }
    pages = {"summary": "summary.md", "cost": "cost.json", "site": "index.html"}
    for stage, name in pages.items():
        page = f"{e.runs.folder(paths.REPORT)}/{name}"
        if (context.root / page).exists():
            wanted[f"{e.runs.folder(paths.RESULT_RECORD, stage=stage)}/{stage}.json"] = page
    for record, file in wanted.items():
        if record not in context.graph.records:
            yield Finding(kind="record missing", path=record, text=f"the record of {file} is gone")


def _whole(record: Record) -> Iterator[Finding]:
    if record.format_version != RECORD_VERSION:
        text = f"has format {record.format_version!r:.40}, this code reads {RECORD_VERSION}"
    elif record.settings_sha256 != sha256_json(record.settings):
        text = "its settings are not those whose digest it holds: the configuration was changed"
    elif record.sha256 != record.digest:
        text = "its content is not that whose digest it holds"
    else:
        return
    yield Finding(kind="record edited", path=record.path, text=text)


_READ = {
    "pretrain": {"store", "split"},
    "finetune": {"store", "split"},
    "evaluate": {"outputs", "split"},
    "smoothness": {"store", "split"},
    "leak": {"store", "split", "pretrain_store", "pretrain_split"},
    "split": {"store"},
}
WROTE = {
    "fetch": {"raw"},
    "xtb": {"raw", "provenance"},
    "nve": {"metrics", "curve"},
    "import_encoder": {"encoder"},
    "preprocess": {"store"},
    "split": {"split", "sidecar"},
    "leak": {"leak"},
    "pretrain": {"encoder", "objective", "metrics"},
    "finetune": {"model", "outputs", "curve"},
    "evaluate": {"predictions", "metrics"},
    "smoothness": {"metrics"},
}
"""Names of the files that jobs write, by stage; nothing else is in their records."""
_TRAINED = ("pretrain", "finetune", "smoothness", "nve")
_SHOW = {"table": {"json"}, "site": {"page"}}


def _named(record: Record) -> Iterator[Finding]:
    """A record has the files that the checks of its stage look at, and no others."""
    groups = (("read", _READ, record.inputs), ("wrote", WROTE | _SHOW, record.outputs))
    for word, names, there in groups:
        if missing := names.get(record.stage, set()) - {*there}:
            text = f"does not say which {', '.join(sorted(missing))} it {word}"
            yield Finding(kind="record unreadable", path=record.path, text=text)
    if more := {*record.outputs} - WROTE.get(record.stage, {*record.outputs}):
        text = f"says that it wrote {', '.join(sorted(more))}, which no job of its kind does"
        yield Finding(kind="record unreadable", path=record.path, text=text)
    unsaid = {*PACKAGES} - {*record.versions}
    if unsaid and record.stage in _TRAINED:
        text = f"does not say which {', '.join(sorted(unsaid))} it ran with"
        yield Finding(kind="record unreadable", path=record.path, text=text)
    if record.seed != record.settings.get("seed"):
        text = f"is of seed {record.seed}, its settings of seed {record.settings.get('seed')!r:.40}"
        yield Finding(kind="record of another run", path=record.path, text=text)


def _as_configured(record: Record, wanted: Wanted) -> Iterator[Finding]:
    name = record.path
    settings = {key: value for key, value in record.settings.items() if key != "code"}
    if record.stage == "fetch" and isinstance(settings.get("file"), dict):
        settings["file"] = identity(settings["file"])  # an address may change
    expected = json.loads(json.dumps(wanted.settings))
    expected.pop("code", None)
    if (text := difference(settings, expected)) is not None:
        yield Finding(kind="settings differ", path=name, text=f"made with other settings: {text}")
    if not wanted.inputs:
        return
    read = {claim.path for claim in record.inputs.values()}
    needed = set(wanted.inputs.values())
    if read != needed:
        text = f"made from {_names(read - needed)} where it should be {_names(needed - read)}"
        yield Finding(kind="other inputs", path=name, text=text)


def _names(files: set[str]) -> str:
    return ", ".join(sorted(files)) or "nothing"
