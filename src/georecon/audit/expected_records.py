"""Which records the configuration asks for, with the settings and inputs they must have."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from georecon import paths
from georecon.data.cards import ALL, computed_files
from georecon.data.raw.lock import identity
from georecon.experiments.experiments import Experiments
from georecon.experiments.specs import Column, Row
from georecon.files import sha256_json
from georecon.keys import as_json
from georecon.records.code import code_digest
from georecon.reporting.expected import Expected, expected_digest
from georecon.reporting.figures.inputs import figure_names, figure_spec, notebook_digest
from georecon.reporting.summary import banner
from georecon.reporting.web.plan import site_plan

_once = functools.lru_cache(maxsize=1024)
"""Records of data and of encoders are behind many cells; what is given back is never changed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a record must say: settings, and the path of each input (the names may differ)."""

    settings: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)


def table_record(experiments: Experiments, table: str) -> dict[str, Wanted]:
    """The record of a table itself, by path."""
    folder = experiments.runs.folder(paths.RESULT_RECORD, stage="table")
    spec = sha256_json(experiments.tables.spec(table).as_json())
    settings = {"table": table, "spec": spec, "code": code_digest("table")}
    return {f"{folder}/{table}.json": Wanted(settings)}


def shown_records(
    e: Experiments, expected: Mapping[str, Expected], notebooks: Path
) -> dict[str, Wanted]:
    """Records of figures and pages, by path: what they must have been made from.

    Args:
        e: of the edition.
        expected: the paper's public numbers.
        notebooks: folder of the figures' notebooks.
    """
    names = figure_names(e, notebooks)
    tables = [f"{e.runs.folder(paths.TABLE, table=name)}.json" for name in e.tables.names()]
    pictures = [f"{e.runs.folder(paths.FIGURE, figure=name)}.png" for name in names]
    files = [file for name in e.tables.names() for file in e.tables.files(name)]
    runs = [f"{file.rsplit('/', 1)[0]}/run.json" for file in files]
    cost = f"{e.runs.folder(paths.REPORT)}/cost.json"
    inputs = {
        "summary": (*tables, *pictures, *runs),
        "cost": (*tables, *runs),
        "site": (*tables, *pictures, *runs, cost),
    }
    digest = expected_digest(expected)
    plan = sha256_json(site_plan(e, names, notebooks.parent / "published"))
    settings: dict[str, dict[str, Any]] = {
        "summary": {"expected": digest, "banner": banner(e)},
        "cost": {},
        "site": {"plan": plan, "expected": digest},
    }
    found = {
        f"{e.runs.folder(paths.RESULT_RECORD, stage=stage)}/{stage}.json": Wanted(
            one | {"code": code_digest(stage)}, {path: path for path in inputs[stage]}
        )
        for stage, one in settings.items()
    }
    for name in names:
        spec = figure_spec(e, name)
        one = {
            "figure": name,
            "spec": spec.as_json(),
            "notebook": notebook_digest(notebooks, name),
            "code": code_digest("figure", "georecon.reporting.figures.shared"),
        }
        path = f"{e.runs.folder(paths.RESULT_RECORD, stage='figure')}/{name}.json"
        found[path] = Wanted(one, {file: file for file in spec.files()})
    return found


def cell_records(e: Experiments, table: str, row: Row, column: Column) -> dict[str, Wanted]:
    """Records of all jobs behind a cell of a table that has data, by path."""
    source = column.source
    if source in ("finetune", "nve"):
        tuned = _finetune_records(e, table, row.method, column)
        return tuned | (_nve_records(e, table, row.method, column) if source == "nve" else {})
    methods = [row.method] if source == "pretrain" else []
    if source == "smoothness":
        methods = list(dict.fromkeys([row.method, column.ratio_to or row.method]))
    found: dict[str, Wanted] = {}
    for method, seed in itertools.product(methods, e.tables.seeds(table)):
        found |= _pretrain_records(e, method, seed)
        if source == "smoothness":
            found |= _smoothness_records(e, method, seed)
    return found


def _finetune_records(e: Experiments, table: str, method: str, column: Column) -> dict[str, Wanted]:
    part, target = column.part, column.target
    dataset = e.data.dataset_of(part)
    unit = e.data.card(dataset).target(target).unit
    found: dict[str, Wanted] = {}
    for seed in e.tables.seeds(table):
        found |= _pretrain_records(e, method, seed) | data_records(e, part, target, seed)
        split = e.data.split(part, target, seed)
        inputs = {"store": _manifest(e, dataset, target), "split": split}
        inputs |= _encoder(e, method, seed)
        folder = e.runs.finetune_folder(part, target, method, seed)
        settings = e.runs.finetune_settings(part, target, method, seed).as_json()
        found[f"{folder}/run.json"] = Wanted(settings, inputs)
        evaluation = {"unit": unit, "code": code_digest("evaluate")}
        outputs = {"outputs": f"{folder}/outputs.safetensors", "split": inputs["split"]}
        found[f"{folder}/evaluate.run.json"] = Wanted(evaluation, outputs)
    return found | _leak_record(e, part, target)


def _encoder(e: Experiments, method: str, seed: int) -> dict[str, str]:
    file = e.runs.encoder_path(method, seed)
    return {} if file is None else {"encoder": file}


@_once
def _pretrain_records(e: Experiments, method: str, seed: int) -> dict[str, Wanted]:
    if (file := e.methods.encoder_file(method)) is not None:
        settings = e.runs.encoder_settings(method).as_json()
        name = f"{paths.ENCODER_FILES}/{file.name}"
        card = e.data.card_file(paths.ENCODER_FILES, str(file.name))
        fetched = {"dataset": paths.ENCODER_FILES, "file": identity(card)}
        run = f"{e.runs.encoder_folder(method)}/run.json"
        return {
            run: Wanted(settings, {"raw": e.runs.encoder_raw(method)}),
            f"{paths.RECORD.format(stage='fetch')}/{name}.json": Wanted(fetched),
        }
    if not e.methods.is_pretrained(method):
        return {}
    inputs = {"store": f"{e.data.pretrain_store()}/manifest.json", "split": e.data.pretrain_split()}
    settings = e.runs.pretrain_settings(method, seed).as_json()
    found = {f"{e.runs.pretrain_folder(method, seed)}/run.json": Wanted(settings, inputs)}
    stores = _store_records(e, e.data.dataset_of("pretrain"), ALL)
    return found | stores | _split_record(e, e.data.pretrain_split())


@_once
def _smoothness_records(e: Experiments, method: str, seed: int) -> dict[str, Wanted]:
    part = e.config.smoothness.set
    dataset = e.data.dataset_of(part)
    target = e.data.targets(dataset)[0]
    split = e.data.test_split(part, target)
    inputs = {"store": _manifest(e, dataset, target), "split": split}
    inputs |= _encoder(e, method, seed)
    path = f"{e.runs.folder(paths.SMOOTHNESS, method=method, seed=seed)}/run.json"
    found = {path: Wanted(e.runs.smoothness_settings(method, seed).as_json(), inputs)}
    return found | _store_records(e, dataset, target) | _split_record(e, split)


def _nve_records(e: Experiments, table: str, method: str, column: Column) -> dict[str, Wanted]:
    found = {}
    for seed in e.tables.seeds(table):
        place = {"part": column.part, "target": column.target, "method": method}
        tuned = e.runs.folder(paths.FINETUNE, **place, seed=seed)
        inputs = {
            "model": f"{tuned}/model.safetensors",
            "store": _manifest(e, e.data.dataset_of(column.part), column.target),
            "split": e.data.split(column.part, column.target, seed),
        }
        settings = e.runs.nve_settings(column.part, column.target, method, seed).as_json()
        found[f"{e.runs.folder(paths.NVE, **place, seed=seed)}/run.json"] = Wanted(settings, inputs)
    return found


@_once
def data_records(e: Experiments, part: str, target: str, seed: int) -> dict[str, Wanted]:
    """Records of the data behind a target of a part: raw files, store and the seed's split."""
    found = _store_records(e, e.data.dataset_of(part), target)
    return found | _split_record(e, e.data.split(part, target, seed))


@_once
def _leak_record(e: Experiments, part: str, target: str) -> dict[str, Wanted]:
    dataset, split = e.data.dataset_of(part), e.data.test_split(part, target)
    name = split.removesuffix(".npz").rsplit("/", 1)[-1]
    folder = e.runs.folder(paths.RESULT_RECORD, stage="leak")
    inputs = {
        "store": _manifest(e, dataset, target),
        "split": split,
        "pretrain_store": f"{e.data.pretrain_store()}/manifest.json",
        "pretrain_split": e.data.pretrain_split(),
    }
    path = f"{folder}/{dataset}/{name}.json"
    return {path: Wanted({"code": code_digest("leak")}, inputs)} | _split_record(e, split)


def _manifest(e: Experiments, dataset: str, target: str) -> str:
    return f"{e.data.store(dataset, target)}/manifest.json"


@_once
def _store_records(e: Experiments, dataset: str, of: str) -> dict[str, Wanted]:
    folder = paths.RECORD.format(stage="preprocess")
    target = of if e.data.card(dataset).store_per_file else None
    settings = {"card": e.data.reading_card(dataset, target), "target": target}
    names = e.data.raw_names(dataset, target)
    inputs = {name: f"{paths.RAW}/{dataset}/{name}" for name in names}
    path = f"{folder}/{dataset}/{target}.json" if target else f"{folder}/{dataset}.json"
    found = {path: Wanted(settings | {"code": code_digest("preprocess")}, inputs)}
    made = computed_files(e.data.card(dataset))
    for name in names:
        stem = name.removesuffix(".npz")
        if stem in made:
            path = f"{paths.RECORD.format(stage='xtb')}/{dataset}/{stem}.json"
            simulated = {"dataset": dataset, "name": stem, "simulation": as_json(made[stem])}
            found[path] = Wanted(simulated | {"code": code_digest("xtb")})
        else:
            card = {"dataset": dataset, "file": identity(e.data.card_file(dataset, name))}
            found[f"{paths.RECORD.format(stage='fetch')}/{dataset}/{name}.json"] = Wanted(card)
    return found


@_once
def _split_record(e: Experiments, split: str) -> dict[str, Wanted]:
    dataset, name = split.removesuffix(".npz").split("/")[-2:]
    plan = e.data.split_plan(dataset, name)
    inputs = {"store": f"{plan.store}/manifest.json"}
    inputs |= {rows.name: f"{paths.RAW}/{dataset}/{rows.name}" for rows in plan.indices.values()}
    found: dict[str, Wanted] = {}
    for test in plan.tests:
        inputs[test.split] = test.split
        inputs[test.store] = f"{test.store}/manifest.json"
        found |= _split_record(e, test.split)
    folder = paths.RECORD.format(stage="split")
    settings = {"plan": plan.as_json(), "code": code_digest("split")}
    return found | {f"{folder}/{dataset}/{name}.json": Wanted(settings, inputs)}
