"""Which records the configuration asks for, with the settings and inputs they must have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from georecon import paths
from georecon.data.cards import ALL
from georecon.data.raw.lock import identity
from georecon.experiments.experiments import Experiments
from georecon.experiments.specs import Column, Row
from georecon.files import sha256_json
from georecon.keys import as_json
from georecon.records.code import code_digest


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


def cell_records(e: Experiments, row: Row, column: Column) -> dict[str, Wanted]:
    """Records of all jobs behind a cell that has data, by path."""
    source = column.source
    if source == "finetune":
        return _finetune_records(e, row.method, column)
    methods = [row.method] if source == "pretrain" else []
    if source == "smoothness":
        methods = list(dict.fromkeys([row.method, column.ratio_to or row.method]))
    found: dict[str, Wanted] = {}
    for method in methods:
        found |= _pretrain_records(e, method)
        if source == "smoothness":
            found |= _smoothness_records(e, method)
    return found


def _finetune_records(e: Experiments, method: str, column: Column) -> dict[str, Wanted]:
    dataset, target = e.data.dataset_of(column.part), column.target
    unit = e.data.card(dataset).target(target).unit
    found = _pretrain_records(e, method) | data_records(e, dataset, target, leak=True)
    inputs = {"store": _manifest(e, dataset, target), "split": e.data.split(dataset, target)}
    inputs |= _encoder(e, method)
    for seed in e.config.finetune.seeds:
        folder = e.runs.folder(
            paths.FINETUNE, dataset=dataset, target=target, method=method, seed=seed
        )
        settings = e.runs.finetune_settings(dataset, target, method, seed).as_json()
        found[f"{folder}/run.json"] = Wanted(settings, inputs)
        evaluation = {"unit": unit, "code": code_digest("evaluate")}
        outputs = {"outputs": f"{folder}/outputs.safetensors", "split": inputs["split"]}
        found[f"{folder}/evaluate.run.json"] = Wanted(evaluation, outputs)
    return found


def _encoder(e: Experiments, method: str) -> dict[str, str]:
    if not e.methods.is_pretrained(method):
        return {}
    return {"encoder": f"{e.runs.pretrain_folder(method)}/encoder.safetensors"}


def _pretrain_records(e: Experiments, method: str) -> dict[str, Wanted]:
    if not e.methods.is_pretrained(method):
        return {}
    inputs = {"store": f"{e.data.pretrain_store()}/manifest.json", "split": e.data.pretrain_split()}
    settings = e.runs.pretrain_settings(method, e.config.pretrain.seed).as_json()
    found = {f"{e.runs.pretrain_folder(method)}/run.json": Wanted(settings, inputs)}
    stores = _store_records(e, e.data.dataset_of("pretrain"), ALL)
    return found | stores | _split_record(e, e.data.pretrain_split())


def _smoothness_records(e: Experiments, method: str) -> dict[str, Wanted]:
    dataset = e.data.dataset_of(e.config.smoothness.set)
    target, seed = e.data.targets(dataset)[0], e.config.pretrain.seed
    inputs = {"store": _manifest(e, dataset, target), "split": e.data.split(dataset, target)}
    inputs |= _encoder(e, method)
    path = f"{e.runs.folder(paths.SMOOTHNESS, method=method, seed=seed)}/run.json"
    found = {path: Wanted(e.runs.smoothness_settings(method, seed).as_json(), inputs)}
    return found | data_records(e, dataset, target, leak=False)


def data_records(e: Experiments, dataset: str, target: str, *, leak: bool) -> dict[str, Wanted]:
    """Records of the data behind a target: raw files, store, split and, if asked, leak report."""
    found = _store_records(e, dataset, target)
    split = e.data.split(dataset, target)
    found |= _split_record(e, split)
    if leak:
        name = split.removesuffix(".npz").rsplit("/", 1)[-1]
        folder = e.runs.folder(paths.RESULT_RECORD, stage="leak")
        inputs = {
            "store": _manifest(e, dataset, target),
            "split": split,
            "pretrain_store": f"{e.data.pretrain_store()}/manifest.json",
            "pretrain_split": e.data.pretrain_split(),
        }
        settings = {"code": code_digest("leak")}
        found[f"{folder}/{dataset}/{name}.json"] = Wanted(settings, inputs)
    return found


def _manifest(e: Experiments, dataset: str, target: str) -> str:
    return f"{e.data.store(dataset, target)}/manifest.json"


def _store_records(e: Experiments, dataset: str, of: str) -> dict[str, Wanted]:
    folder = paths.RECORD.format(stage="preprocess")
    target = of if e.data.card(dataset).store_per_file else None
    settings = {"card": e.data.reading_card(dataset), "target": target}
    names = e.data.raw_names(dataset, target)
    inputs = {name: f"{paths.RAW}/{dataset}/{name}" for name in names}
    path = f"{folder}/{dataset}/{target}.json" if target else f"{folder}/{dataset}.json"
    found = {path: Wanted(settings | {"code": code_digest("preprocess")}, inputs)}
    if dataset == "xmd17" and target in e.data.targets(dataset):
        path = f"{paths.RECORD.format(stage='xmd17')}/{target}.json"
        simulation = as_json(e.data.card("xmd17").simulation)
        made = {"dataset": "xmd17", "target": target, "simulation": simulation}
        return found | {path: Wanted(made | {"code": code_digest("xmd17")})}
    folder = paths.RECORD.format(stage="fetch")
    for name in names:
        card = {"dataset": dataset, "file": identity(e.data.card_file(dataset, name))}
        found[f"{folder}/{dataset}/{name}.json"] = Wanted(card)
    return found


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
