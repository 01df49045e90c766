"""Two trainings with their records and the tables that have numbers of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from georecon.files import write_json, write_text
from georecon.records.chain import Graph, read_graph
from georecon.records.record import RunRecord
from georecon.reporting.molecule_sets import MoleculeSet

STORES = {
    "pcqm": MoleculeSet(
        role="pre-training",
        missing=None,
        title="PCQM | many molecules",
        citation="Somebody (2021)",
        licence="CC BY 4.0",
        stores=("resources/store/pcqm",),
    ),
    "qm9": MoleculeSet(
        role="properties",
        missing=None,
        title="QM9, molecules",
        citation="R. et al. (2014)",
        licence="CC0",
        stores=("resources/store/qm9",),
    ),
}
PRETRAIN = "results/tiny/pretrain/coord/seed1"
FINETUNE = "results/tiny/finetune/property/homo/coord/seed1"
CURVE = "step,train_loss,val_score\n10,1.5,0.9\n20,1.25,nan\n"


def cell(row: str, values: dict[str, float], files: list[str]) -> dict[str, Any]:
    return {
        "row": row, "column": "homo", "value": sum(values.values()) / len(values), "std": None,
        "low": None, "high": None, "n": len(values), "values": values, "reason": None,
        "key": ["property", "mae" if row != "baseline" else "baseline_mae"],
        "runs": [{"path": file, "sha256": "0" * 64} for file in files],
    }  # fmt: skip


def write_results(root: Path) -> None:
    """Below a working folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in STORES:
            write_text(f"resources/store/{name}/manifest.json", '{"files": {}}')
        for file in ("encoder.safetensors", "metrics.csv"):
            write_text(f"{PRETRAIN}/{file}", CURVE)
        settings: dict[str, Any] = {
            "name": "pretrain coord seed 1", "method": "coord", "objective": "denoise",
            "params": {"sigma": 0.04}, "encoder": {"channels": 16}, "train": {"steps": 20},
            "seed": 1, "code": "c0de",
        }  # fmt: skip
        outputs = {
            "encoder": f"{PRETRAIN}/encoder.safetensors",
            "metrics": f"{PRETRAIN}/metrics.csv",
        }
        extra = {"training": {"steps": 20, "best_step": 20, "best_score": 0.9}, "final": {"x": 0.5}}
        RunRecord("pretrain", settings, {"store": "resources/store/pcqm/manifest.json"}).write(
            f"{PRETRAIN}/run.json", outputs, extra
        )
        for file in ("model.safetensors", "outputs.safetensors", "curve.csv"):
            write_text(f"{FINETUNE}/{file}", CURVE)
        write_text(f"{FINETUNE}/metrics.json", "{}")
        settings |= {"name": "finetune homo", "part": "property", "dataset": "qm9",
                     "target": "homo", "label": "homo"}  # fmt: skip
        outputs = {
            "model": f"{FINETUNE}/model.safetensors",
            "outputs": f"{FINETUNE}/outputs.safetensors",
            "curve": f"{FINETUNE}/curve.csv",
        }
        inputs = {
            "store": "resources/store/qm9/manifest.json",
            "encoder": f"{PRETRAIN}/encoder.safetensors",
        }
        RunRecord("finetune", settings, inputs).write(f"{FINETUNE}/run.json", outputs, extra)
        metrics = [f"{FINETUNE}/metrics.json", f"{FINETUNE[:-1]}2/metrics.json"]
        values = {"1": 0.25, "2": 0.75}
        rows = [
            {"key": "baseline", "label": "Mean", "method": "coord", "unit": "", "kind": "baseline"},
            {"key": "coord", "label": "Coord", "method": "coord", "unit": "", "kind": "method"},
        ]
        table = {
            "table": "qm9", "rows": rows,
            "columns": [{"key": "homo", "label": "HOMO", "unit": "eV"}],
            "cells": [cell(row["key"], values, metrics) for row in rows],
        }  # fmt: skip
        write_json("results/tiny/tables/qm9.json", table)


def graph_of(root: Path) -> Graph:
    write_results(root)
    return read_graph(root, "tiny")
