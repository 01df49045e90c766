"""Equal conditions in a column, runs that are no copies of each other, the code behind each run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from georecon.audit.commits import digest_here
from georecon.audit.findings import NOTES, Context, Finding
from georecon.commands import command
from georecon.records.chain import Run
from georecon.records.difference import difference
from georecon.records.read import Imported, Record

_OWN = ("name", "method", "seed", "code", "objective", "params")
"""Settings in which the runs of a column may differ."""
_TRAINED = ("pretrain", "finetune", "smoothness", "nve")


def check_columns(context: Context, table: str) -> Iterator[Finding]:
    """All rows of a column have the same seeds, data, split, lengths and fine-tuning settings."""
    cells = [cell for cell in context.graph.cells() if cell.table == table and cell.runs]
    for column in dict.fromkeys(cell.column for cell in cells):
        first: tuple[str, Terms] | None = None
        for cell in [cell for cell in cells if cell.column == column]:
            terms = _terms(context, cell.path)
            if isinstance(terms, Finding):
                yield terms
            elif first is None:
                first = (cell.path, terms)
            elif (text := _unequal(first[1], terms)) is not None:
                text = f"{cell.path} and {first[0]} were not made alike: {text}"
                yield Finding(
                    kind="unequal conditions",
                    path=cell.recorded_in or cell.path,
                    text=text,
                    touches=(cell.path,),
                )


def check_kernels(context: Context, table: str) -> Iterator[Finding]:
    """All trainings behind a column ran on one type of device, kernel and instruction set.

    Others round sums in another order: the same method, with other last digits.
    """
    cells = [cell for cell in context.graph.cells() if cell.table == table and cell.runs]
    for column in dict.fromkeys(cell.column for cell in cells):
        of_column = [cell for cell in cells if cell.column == column]
        links = [link for cell in of_column for link in context.graph.chain(cell.path)]
        runs = [link for link in links if isinstance(link, Run) and link.record.stage in _TRAINED]
        first: dict[str, str] = {}
        for run in runs:
            if words := run.record.compute.arithmetic():
                first.setdefault(words, run.path)
        if len(first) > 1:
            text = "; ".join(f"{path} computed by {words}" for words, path in first.items())
            yield Finding(
                kind="mixed kernels",
                path=of_column[0].recorded_in or of_column[0].path,
                text=f"the runs of column {column} were not computed alike: {text}",
                touches=tuple(cell.path for cell in of_column),
                breaks=False,
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class StageTerms:
    """What the runs of one stage share.

    Attributes:
        settings: but for those in which runs may differ.
        data: hash of the store.
        steps: taken; None where validation decides.
    """

    settings: Mapping[str, object]
    data: Mapping[str, str]
    steps: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a cell's runs have in common.

    Attributes:
        stages: terms by stage.
        splits: hash of the split by stage and seed; a seed may be a draw of labels of its own.
        seeds: of fine-tuning, as text; None for a cell without.
    """

    stages: Mapping[str, StageTerms]
    splits: Mapping[tuple[str, str], str]
    seeds: tuple[str, ...] | None


def _unequal(first: Terms, second: Terms) -> str | None:
    for stage, terms in first.stages.items():
        other = second.stages.get(stage)  # a method from scratch has no pre-training to compare
        if other is not None and (text := _difference(other, terms, stage)) is not None:
            return text
    if first.seeds is not None and second.seeds is not None and first.seeds != second.seeds:
        return f"seeds is {json.dumps(second.seeds)}, there {json.dumps(first.seeds)}"
    for (stage, seed), split in first.splits.items():
        if second.splits.get((stage, seed), split) != split:
            return f"{stage}, seed {seed}: the split is another one"
    return None


def _difference(found: StageTerms, wanted: StageTerms, stage: str) -> str | None:
    if found == wanted:
        return None
    text = difference(asdict(found), asdict(wanted), stage)
    return None if text is None else text.replace("the configuration says", "there")


def _terms(context: Context, cell: str) -> Terms | Finding:
    """What a cell's runs have in common; a finding if its own seeds differ in it."""
    found: dict[str, StageTerms] = {}
    splits: dict[tuple[str, str], str] = {}
    seeds: list[str] = []
    for link in context.graph.chain(cell):
        if not isinstance(link, Run) or link.record.stage not in _TRAINED:
            continue
        record, stage = link.record, link.record.stage
        if stage == "pretrain" and _own_length(context, record.settings.get("method")):
            continue
        terms = StageTerms(
            settings={k: v for k, v in record.settings.items() if k not in _OWN},
            data={k: record.inputs[k].sha256 for k in ("store",) if k in record.inputs},
            steps=_fixed_steps(record),
        )
        if stage == "finetune":
            seeds.append(str(record.seed))
        text = _difference(terms, found.setdefault(stage, terms), stage)
        if (claim := record.inputs.get("split")) is not None:
            first = splits.setdefault((stage, str(record.seed)), claim.sha256)
            if text is None and first != claim.sha256:
                text = f"{stage}, seed {record.seed}: the split is another one"
        if text is not None:
            text = f"the seeds of {cell} differ: {text}"
            return Finding(kind="unequal conditions", path=link.path, text=text, touches=(cell,))
    return Terms(stages=found, splits=splits, seeds=tuple(sorted(seeds)) if seeds else None)


def _fixed_steps(record: Record) -> int | None:
    """Steps of a training, where settings and not validation say when it ends."""
    stopped_by_validation = record.settings.get("train", {}).get("patience")
    return None if stopped_by_validation else record.training.steps


def _own_length(context: Context, method: Any) -> bool:
    """Whether config gives a method a pre-training length of its own, as its label then says.

    Its settings are still those of the configuration: :mod:`georecon.audit.records` checks that.
    """
    known = context.experiments.config.methods.get(method) if isinstance(method, str) else None
    return known is not None and known.steps_factor is not None


def check_code(context: Context) -> Iterator[Finding]:
    """Every run was made by committed code, and by the code that is here."""
    for record in context.runs():
        name, code = record.path, record.code
        if code.commit is None:
            text = f"no commit says which code this was: {code.words()}"
            yield _note("unknown commit", name, text)
        elif code.dirty is not False:
            files = ", ".join(code.changed or ["files"])
            text = f"made by code that was not committed: {files:.300} differed from the commit"
            yield _note("uncommitted code", name, text)
        digest = record.settings.get("code")
        here = digest_here(record)
        if digest is not None and here is not None and digest != here:
            redo = command("all", edition=context.experiments.edition)
            advice = "" if context.bundle else f"; `{redo}` redoes it"
            text = f"made by other code ({digest:.16}) than is here ({here}){advice}"
            yield Finding(kind="other code", path=name, text=text, breaks=not context.bundle)


def _note(kind: str, path: str, text: str) -> Finding:
    return Finding(kind=kind, path=path, text=text, breaks=kind not in NOTES)


def note_imported(context: Context) -> None:
    """Say which runs were taken from published results: they are checked like all others, but
    nobody saw them being made here.
    """
    found: dict[Imported, int] = {}
    for record in context.runs():
        if record.imported is not None:
            found[record.imported] = found.get(record.imported, 0) + 1
    for source, count in found.items():
        context.cannot(
            f"{count} jobs were not run here but taken from {source.name:.80} (sha256 "
            f"{source.sha256:.64}); their records are those of its makers"
        )


_MADE = ("encoder", "objective", "model", "outputs", "predictions", "curve")


def check_copies(context: Context) -> Iterator[Finding]:
    """No two trainings of other settings or seeds wrote the same bytes."""
    first: dict[tuple[str, str], Record] = {}
    for record in context.runs("pretrain", "finetune"):
        for name in _MADE:
            claim = record.outputs.get(name)
            if claim is None:
                continue
            other = first.setdefault((name, claim.sha256), record)
            if other is not record and _own(context, other) != _own(context, record):
                text = f"its {name} is that of {other.path}, whose settings differ"
                touches = (record.path, other.path)
                yield Finding(kind="run copied", path=claim.path, text=text, touches=touches)


def _own(context: Context, record: Record) -> dict[str, object]:
    """All that decides what a training computes; methods of other names may be the same.

    An encoder file names its method, so that its own training is looked at in place of its hash.
    """
    kept = {k: v for k, v in record.settings.items() if k not in ("name", "method", "code")}
    for name, claim in record.inputs.items():
        link = context.graph.links.get(claim.path)
        made = context.graph.records.get(str(link.recorded_in)) if link is not None else None
        encoder = made if name == "encoder" else None
        kept[name] = claim.sha256 if encoder is None else _own(context, encoder)
    return kept
