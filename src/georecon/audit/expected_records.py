"""Which records the configuration asks for, with the settings and inputs they must have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from georecon import paths
from georecon.data.cards import ALL
from georecon.data.raw.lock import identity
from georecon.experiments.cells import Column, Experiments, Row
from georecon.files import sha256_json
from georecon.records.code import code_digest


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a record must say: settings, and the path of each input (the names may differ)."""

    settings: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)


def table_record(experiments: Experiments, table: str) -> dict[str, Wanted]:
    """The record of a table itself, by path."""
    folder = experiments.folder(paths.RESULT_RECORD, stage="table")
    spec = sha256_json(experiments.table_spec(table))
    settings = {"table": table, "spec": spec, "code": code_digest("table")}
    return {f"{folder}/{table}.json": Wanted(settings)}


def cell_records(e: Experiments, row: Row, column: Column) -> dict[str, Wanted]:
    """Records of all jobs behind a cell that has data, by path."""
    source = column.spec["source"]
    if source == "finetune":
        return _finetune_records(e, row.method, column)
    methods = [row.method] if source == "pretrain" else []
    if source == "smoothness":
        methods = list(dict.fromkeys([row.method, column.spec.get("ratio_to", row.method)]))
    found: dict[str, Wanted] = {}
    for method in methods:
        found |= _pretrain_records(e, method)
        if source == "smoothness":
            found |= _smoothness_records(e, method)
    return found


def _finetune_records(e: Experiments, method: str, column: Column) -> dict[str, Wanted]:
    dataset, target = e.dataset_of(column.spec["set"]), column.spec["target"]
    unit = e.card(dataset)["targets"][target]["unit"]
    found = _pretrain_records(e, method) | data_records(e, dataset, target, leak=True)
    inputs = {"store": _manifest(e, dataset, target), "split": e.split(dataset, target)}
    inputs |= _encoder(e, method)
    for seed in e.config["finetune"]["seeds"]:
        where = {"dataset": dataset, "target": target, "method": method, "seed": seed}
        folder = e.folder(paths.FINETUNE, **where)
        settings = e.finetune_settings(dataset, target, method, seed)
        found[f"{folder}/run.json"] = Wanted(settings, inputs)
        evaluation = {"unit": unit, "code": code_digest("evaluate")}
        outputs = {"outputs": f"{folder}/outputs.safetensors", "split": inputs["split"]}
        found[f"{folder}/evaluate.run.json"] = Wanted(evaluation, outputs)
    return found


def _encoder(e: Experiments, method: str) -> dict[str, str]:
    if not e.is_pretrained(method):
        return {}
    return {"encoder": f"{e.pretrain_folder(method)}/encoder.safetensors"}


def _pretrain_records(e: Experiments, method: str) -> dict[str, Wanted]:
    if not e.is_pretrained(method):
        return {}
    inputs = {"store": f"{e.pretrain_store()}/manifest.json", "split": e.pretrain_split()}
    settings = e.pretrain_settings(method, e.config["pretrain"]["seed"])
    found = {f"{e.pretrain_folder(method)}/run.json": Wanted(settings, inputs)}
    stores = _store_records(e, e.dataset_of("pretrain"), ALL)
    return found | stores | _split_record(e, e.pretrain_split())


def _smoothness_records(e: Experiments, method: str) -> dict[str, Wanted]:
    dataset = e.dataset_of(e.config["smoothness"]["set"])
    target, seed = e.targets(dataset)[0], e.config["pretrain"]["seed"]
    inputs = {"store": _manifest(e, dataset, target), "split": e.split(dataset, target)}
    inputs |= _encoder(e, method)
    path = f"{e.folder(paths.SMOOTHNESS, method=method, seed=seed)}/run.json"
    found = {path: Wanted(e.smoothness_settings(method, seed), inputs)}
    return found | data_records(e, dataset, target, leak=False)


def data_records(e: Experiments, dataset: str, target: str, *, leak: bool) -> dict[str, Wanted]:
    """Records of the data behind a target: raw files, store, split and, if asked, leak report."""
    found = _store_records(e, dataset, target)
    split = e.split(dataset, target)
    found |= _split_record(e, split)
    if leak:
        name = split.removesuffix(".npz").rsplit("/", 1)[-1]
        folder = e.folder(paths.RESULT_RECORD, stage="leak")
        inputs = {
            "store": _manifest(e, dataset, target),
            "split": split,
            "pretrain_store": f"{e.pretrain_store()}/manifest.json",
            "pretrain_split": e.pretrain_split(),
        }
        settings = {"code": code_digest("leak")}
        found[f"{folder}/{dataset}/{name}.json"] = Wanted(settings, inputs)
    return found


def _manifest(e: Experiments, dataset: str, target: str) -> str:
    return f"{e.store(dataset, target)}/manifest.json"


def _store_records(e: Experiments, dataset: str, of: str) -> dict[str, Wanted]:
    folder = paths.RECORD.format(stage="preprocess")
    target = of if e.card(dataset)["store_per_file"] else None
    settings = {"card": e.reading_card(dataset), "target": target}
    names = e.raw_names(dataset, target)
    inputs = {name: f"{paths.RAW}/{dataset}/{name}" for name in names}
    path = f"{folder}/{dataset}/{target}.json" if target else f"{folder}/{dataset}.json"
    found = {path: Wanted(settings | {"code": code_digest("preprocess")}, inputs)}
    if dataset == "xmd17" and target in e.targets(dataset):
        path = f"{paths.RECORD.format(stage='xmd17')}/{target}.json"
        simulation = e.card("xmd17")["simulation"]
        made = {"dataset": "xmd17", "target": target, "simulation": simulation}
        return found | {path: Wanted(made | {"code": code_digest("xmd17")})}
    folder = paths.RECORD.format(stage="fetch")
    for name in names:
        card = {"dataset": dataset, "file": identity(e.card_file(dataset, name))}
        found[f"{folder}/{dataset}/{name}.json"] = Wanted(card)
    return found


def _split_record(e: Experiments, split: str) -> dict[str, Wanted]:
    dataset, name = split.removesuffix(".npz").split("/")[-2:]
    plan = e.split_plan(dataset, name)
    inputs = {"store": f"{plan['store']}/manifest.json"}
    inputs |= {file["name"]: f"{paths.RAW}/{dataset}/{file['name']}"
               for file in plan.get("indices", {}).values()}  # fmt: skip
    found: dict[str, Wanted] = {}
    for entry in plan.get("tests", []):
        inputs[entry["split"]] = entry["split"]
        inputs[entry["store"]] = f"{entry['store']}/manifest.json"
        found |= _split_record(e, entry["split"])
    folder = paths.RECORD.format(stage="split")
    settings = {"plan": plan, "code": code_digest("split")}
    return found | {f"{folder}/{dataset}/{name}.json": Wanted(settings, inputs)}
