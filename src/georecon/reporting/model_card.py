"""Model cards: Markdown with a YAML head as model hubs read it, from records and tables alone.

A card says what a file of weights is, which run made it from which data, and the numbers that the
edition's tables have of that very run. No weights are opened: a card is the same with or without
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import yaml

from georecon.keys import Json
from georecon.records.chain import Graph, Run
from georecon.records.read import Record
from georecon.reporting.escape import markdown_escape, one_line
from georecon.reporting.molecule_sets import MoleculeSet
from georecon.units import UNIT_DISPLAY

WEIGHTS = {"pretrain": "encoder", "import_encoder": "encoder", "finetune": "model"}
"""Stages that write weights, each with their name in its record."""
FILE = "MODEL_CARD.md"
"""Name of a card in the folder of its run."""
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast, where libyaml is


class Measure(NamedTuple):
    """A number that a table has of a run.

    Attributes:
        cell: ``<table>/<row>/<column>``.
        method: of the row.
        metric: name of the number in its file, such as "mae".
        value: of the run's seed; ``unit`` for display.
        unit: empty without one.
    """

    cell: str
    method: str
    metric: str
    value: float
    unit: str


class CardBook:
    """Cards of an edition's runs.

    Args:
        graph: of the edition.
        sets: its molecule sets.
    """

    def __init__(self, graph: Graph, sets: Iterable[MoleculeSet]) -> None:
        self.graph = graph
        self.sets = {store: one for one in sets for store in one.stores}
        self.measures: dict[tuple[str, str], list[Measure]] = {}
        for table in graph.tables.values():
            self._read(table)
        self.users: dict[str, list[Record]] = {}
        for record in graph.records.values():
            claim = record.inputs.get("encoder")
            if claim is not None:
                self.users.setdefault(claim.path, []).append(record)

    def _read(self, table: Any) -> None:
        """Numbers of methods' own rows, by metrics file and seed."""
        rows = {row["key"]: row for row in table["rows"] if row.get("kind", "method") == "method"}
        units = {column["key"]: column["unit"] for column in table["columns"]}
        for cell in table["cells"]:
            if (row := rows.get(cell["row"])) is None:
                continue
            for seed, value in cell["values"].items():
                unit = units[cell["column"]] or row.get("unit", "")
                place = f"{table['table']}/{cell['row']}/{cell['column']}"
                found = Measure(
                    place, row.get("method"), cell["key"][-1], value, UNIT_DISPLAY.get(unit, unit)
                )
                for used in cell["runs"]:
                    self.measures.setdefault((used["path"], seed), []).append(found)

    def card(self, record: Record) -> str | None:
        """The card of the weights that a run wrote; None for a run that writes none."""
        if record.outputs.get(WEIGHTS.get(record.stage, "")) is None:
            return None
        name = "-".join(("georecon", self.graph.edition, *_place(record)))
        measures, sets = self._measures(record), self._sets(record)
        head = _head(name, record, measures, sets)
        body = [
            f"# {markdown_escape(str(record.settings.get('name', name)))}",
            *_what(record),
            "## Numbers",
            *_numbers([measure for measure, _ in measures]),
            "## Data",
            *_data(sets),
            "## Where it comes from",
            *_origin(self.graph.edition, record),
            "## Use and limits",
            *_use(record),
        ]
        # every text is one line: none can look like the head's end
        text = yaml.dump(head, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=10_000)
        return f"---\n{text}---\n\n" + "\n\n".join(body) + "\n"

    def _measures(self, record: Record) -> list[tuple[Measure, MoleculeSet | None]]:
        """Numbers of a run, each with its set; of an encoder, those of runs that began with it."""
        own = record.outputs[WEIGHTS[record.stage]].path
        runs = [record] if record.stage == "finetune" else [record, *self.users.get(own, [])]
        found: dict[Measure, MoleculeSet | None] = {}
        for run in runs:
            folder = PurePosixPath(run.path).parent
            for name in ("metrics.json", "metrics.csv", "run.json"):
                for measure in self.measures.get((f"{folder}/{name}", str(run.seed)), ()):
                    if measure.method == record.settings.get("method"):
                        found[measure] = self._set(run)
        return list(found.items())

    def _set(self, run: Record) -> MoleculeSet | None:
        """Set that a run's store is of."""
        store = run.inputs.get("store")
        return None if store is None else self.sets.get(str(PurePosixPath(store.path).parent))

    def _sets(self, record: Record) -> list[tuple[str, MoleculeSet]]:
        """Sets behind a run with what each was for: its own, and that of its encoder."""
        runs = [record]
        encoder = record.inputs.get("encoder")
        if encoder is not None and encoder.path in self.graph.links:
            made = self.graph.links.get(str(self.graph.links[encoder.path].recorded_in))
            runs += [made.record] if isinstance(made, Run) else []
        found = []
        for run in runs:
            if (one := self._set(run)) is not None:
                found.append(("labels" if run.stage == "finetune" else "pre-training", one))
        return found


def _place(record: Record) -> tuple[str, ...]:
    """What tells a run from others of its edition, such as ("pretrain", "coord", "seed1")."""
    return PurePosixPath(record.path).parent.parts[2:]


def _dataset(one: MoleculeSet) -> str:
    return PurePosixPath(one.stores[0]).parts[2]


def _head(
    name: str,
    record: Record,
    measures: list[tuple[Measure, MoleculeSet | None]],
    sets: list[tuple[str, MoleculeSet]],
) -> Json:
    """What hubs read."""
    method = one_line(str(record.settings.get("method")))
    head: Json = {
        # of weights that were made here; somebody else's keep theirs
        "license": "other" if record.stage == "import_encoder" else "mit",
        "library_name": "georecon",
        "tags": ["graph-ml", "chemistry", "molecules", method],
        "datasets": list(dict.fromkeys(_dataset(one) for _, one in sets)),
        "metrics": sorted({measure.metric for measure, _ in measures}),
    }
    results = [_result(measure, one) for measure, one in measures]
    return head | ({"model-index": [{"name": name, "results": results}]} if results else {})


def _result(measure: Measure, one: MoleculeSet | None) -> Json:
    cell = one_line(measure.cell)
    metric: Json = {"type": one_line(measure.metric), "name": cell, "value": measure.value}
    return {
        "task": {"type": "graph-ml", "name": cell},
        "dataset": {
            "type": "unknown" if one is None else _dataset(one),
            "name": "unknown" if one is None else one_line(one.title),
        },
        "metrics": [metric | ({"unit": one_line(measure.unit)} if measure.unit else {})],
    }


def _what(record: Record) -> list[str]:
    settings = record.settings
    sizes = json.dumps(settings.get("encoder"), sort_keys=True)
    if record.stage == "finetune":
        text = (
            f"Fine-tuned for `{settings.get('label')}` of {settings.get('dataset')} "
            f"({settings.get('part')}/{settings.get('target')}), seed {record.seed}, with an "
            f"encoder of method `{settings.get('method')}`; {record.training.steps} steps."
        )
    elif record.stage == "pretrain":
        text = (
            f"Encoder pre-trained by method `{settings.get('method')}`, seed {record.seed}: "
            f"objective `{settings.get('objective')}` with "
            f"`{json.dumps(settings.get('params'), sort_keys=True)}`, "
            f"{record.training.steps} steps."
        )
    else:
        text = f"Encoder of method `{settings.get('method')}`, weights of others read from a file."
    return [text, f"Sizes: `{sizes}`."]


def _numbers(measures: list[Measure]) -> list[str]:
    """A table of the cells; the values are this seed's, tables show means over seeds."""
    if not measures:
        return ["No finished table has a number of it."]
    lines = ["| cell | metric | value | unit |", "|---|---|---:|---|"]
    lines += [
        f"| {markdown_escape(m.cell)} | {markdown_escape(m.metric)} | {m.value:.6g} "
        f"| {markdown_escape(m.unit)} |"
        for m in measures
    ]
    return ["\n".join(lines), "Of this seed alone; the tables show means over seeds."]


def _data(sets: list[tuple[str, MoleculeSet]]) -> list[str]:
    if not sets:
        return ["None that was read here."]
    return [
        "\n".join(
            f"- {purpose}: {markdown_escape(one.title)}"
            + (f"; {markdown_escape(one.citation)}" if one.citation else "")
            + (f"; licence: {markdown_escape(one.licence)}" if one.licence else "")
            for purpose, one in sets
        )
    ]


def _origin(edition: str, record: Record) -> list[str]:
    weights, code = record.outputs[WEIGHTS[record.stage]], record.code
    changed = " with uncommitted changes" if code.dirty else ""
    lines = [
        f"- edition {edition}, record `{record.path}` (sha256 of its content {record.sha256})",
        f"- settings sha256 {record.settings_sha256}",
        f"- weights `{PurePosixPath(weights.path).name}`, sha256 {weights.sha256}",
        f"- code: commit {code.commit or 'not recorded'}{changed}",
        f"- computed on {markdown_escape(record.compute.name or '?')} in {record.seconds} s, "
        f"ended {record.ended}",
    ]
    lines += [
        f"- {name}: `{claim.path}`, sha256 {claim.sha256}" for name, claim in record.inputs.items()
    ]
    if record.final:
        lines.append(f"- measures at its best step: `{json.dumps(record.final, sort_keys=True)}`")
    if record.imported is not None:
        lines.append(
            f"- taken from {markdown_escape(record.imported.name)}, sha256 {record.imported.sha256}"
        )
    return ["\n".join(lines)]


def _use(record: Record) -> list[str]:
    file = PurePosixPath(record.outputs[WEIGHTS[record.stage]].path).name
    made = "predict" if record.stage == "finetune" else "embed"
    limit = (
        "Molecules of other elements or sizes than its training set's are predicted with a warning."
        if record.stage == "finetune"
        else "It predicts nothing by itself, and elements outside of its pre-training set are "
        "unknown to it."
    )
    return [
        f'```python\nimport georecon\n\nfound = georecon.load("{file}").{made}(["CCO"])\n```',
        "Input: atomic numbers and positions [Å] of single molecules; no charges, no cells. "
        + limit,
        "Part of a reproduction of GeoRecon (arXiv 2506.13174); the data sets keep their licences.",
    ]
