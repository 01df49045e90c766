"""Settings of runs against the configuration that lies in the commit they name.

A record's settings are those of today's configuration (:mod:`georecon.audit.records`), and whoever
can edit records can edit that too. The commit has what it was when the run was made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from georecon.audit.findings import STUMBLES, Context, Finding
from georecon.audit.records import WantedRecords, wanted_records
from georecon.experiments.experiments import Experiments
from georecon.files import sha256_file
from georecon.records.difference import difference
from georecon.records.read import Record
from georecon.reporting.expected import expected_digest, load_expected

CONFIG, EXPECTED = "config", "reports/expected"
"""What of a commit this looks at."""


def check_configuration(
    context: Context, commit: str, tree: Path, records: list[Record]
) -> Iterator[Finding]:
    """What was configured when runs were made is what is configured now.

    Settings that the user gave by ``--config`` and ``--configfile`` are in no commit, and are not
    asked about.

    Args:
        context: what to check.
        commit: that the records name.
        tree: its files.
        records: that name it.
    """
    if context.bundle:  # its settings are in the bundle, resolved
        return
    yield from _public_numbers(commit, tree, records)
    here, there = context.code / CONFIG, tree / CONFIG
    if _hashes(here) == _hashes(there):
        return
    try:
        used, now, then = (
            wanted_records(replace(context, experiments=experiments))
            for experiments in (
                context.experiments,
                *(Experiments.load(f, {"edition": context.graph.edition}) for f in (here, there)),
            )
        )
    except STUMBLES:  # a configuration of another form, or without this edition
        context.cannot(f"configuration of commit {commit:.12}: this code cannot read it")
        return
    for record in records:
        path = record.path
        if path in used and path in now and path in then:
            yield from _compare(record, commit, used, now, then)


def _compare(
    record: Record, commit: str, used: WantedRecords, now: WantedRecords, then: WantedRecords
) -> Iterator[Finding]:
    places = (used, now, then)
    mine, here, there = (
        {key: value for key, value in wanted[record.path][0].settings.items() if key != "code"}
        for wanted in places
    )
    if mine != here or (text := difference(here, there)) is None:
        return
    text = f"{text.replace('the configuration says', f'in commit {commit:.12} it is')}"
    if record.stage == "fetch":  # made anew after any change of what is to be fetched
        claim = record.outputs.get("raw")
        path = record.path if claim is None else claim.path
        yield Finding(kind="other raw file", path=path, text=f"its dataset card: {text}")
        return
    text = f"its settings are not those of the commit that it names: {text}"
    yield Finding(kind="other configuration", path=record.path, text=text, breaks=False)


def _public_numbers(commit: str, tree: Path, records: list[Record]) -> Iterator[Finding]:
    """Pages were made with the public numbers that lie in the commit they name."""
    shown = [record for record in records if isinstance(record.settings.get("expected"), str)]
    if not shown or not (tree / EXPECTED).is_dir():
        return
    try:
        digest = expected_digest(load_expected(tree / EXPECTED))
    except STUMBLES:
        return  # of another form
    for record in shown:
        if record.settings["expected"] != digest:
            text = f"made with other public numbers of the paper than commit {commit:.12} has"
            yield Finding(kind="other configuration", path=record.path, text=text, breaks=False)


def _hashes(folder: Path) -> dict[str, str]:
    """Hash of each file of a configuration."""
    paths = sorted(folder.rglob("*.yaml"))
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}
