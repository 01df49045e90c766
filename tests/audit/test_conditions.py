"""What the runs of a column must share, on records made up for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from georecon.audit.conditions import check_columns
from georecon.audit.findings import Context, Finding
from georecon.experiments.experiments import Experiments
from georecon.experiments.sections import Method
from georecon.files import read_json, write_json
from georecon.records.chain import read_graph
from tests.projects import ROOT

METHODS = ("coord", "coord_long", "georecon")


def entry(path: str) -> dict[str, Any]:
    return {"path": path, "bytes": 1, "sha256": "0" * 64}


def findings(
    folder: Path,
    steps: dict[str, int],
    seeds: dict[str, int],
    draws: dict[str, str] | None = None,
) -> list[Finding]:
    """A table of one column.

    Each method has its pre-training steps, fine-tuning seed, and draw of training molecules.
    """
    cells = []
    for method in METHODS:
        encoder = f"results/tiny/pretrain/{method}/seed1"
        run = f"results/tiny/finetune/property/homo/{method}/seed{seeds[method]}"
        outputs = {encoder: "encoder.safetensors", run: "metrics.json"}
        for place, stage, seed in ((encoder, "pretrain", 1), (run, "finetune", seeds[method])):
            length = steps[method] if stage == "pretrain" else 40
            record = {
                "stage": stage,
                "seed": seed,
                "settings": {"method": method, "seed": seed, "train": {"steps": length}},
                "inputs": {} if stage == "pretrain" else
                {"encoder": entry(f"{encoder}/{outputs[encoder]}"),
                 "split": entry("s.npz") | {"sha256": (draws or {}).get(method, "a") * 64}},
                "outputs": {"file": entry(f"{place}/{outputs[place]}")},
                "job": {},
                "training": {"steps": length},
            }  # fmt: skip
            write_json(folder / place / "run.json", record)
        runs = [{"path": f"{run}/metrics.json", "sha256": "0" * 64}]
        cells.append({"row": method, "column": "homo", "runs": runs})
    rows = [{"key": method} for method in METHODS]
    table = {"table": "qm9", "rows": rows, "columns": [{"key": "homo"}], "cells": cells}
    write_json(folder / "results/tiny/tables/qm9.json", table)
    experiments = Experiments.load(ROOT / "config", {"edition": "tiny"})
    # an edition may leave this method out
    config = experiments.config
    long = Method(label="x", objective="denoise", params={}, steps_factor=2)
    experiments = Experiments(replace(config, methods={**config.methods, "coord_long": long}))
    context = Context(folder, experiments, read_graph(folder, "tiny"), bundle=False)
    return list(check_columns(context, "qm9"))


SAME = dict.fromkeys(METHODS, 1)


@pytest.fixture
def folder_of_two_seeds(tmp_path: Path) -> list[Finding]:
    """The same with a second seed in every cell, which has another draw."""
    steps = dict.fromkeys(METHODS, 20)
    findings(tmp_path, steps, dict.fromkeys(METHODS, 2), dict.fromkeys(METHODS, "b"))
    findings(tmp_path, steps, SAME)
    path = tmp_path / "results/tiny/tables/qm9.json"
    table = read_json(path)
    for cell in table["cells"]:
        (run,) = cell["runs"]
        cell["runs"].append(run | {"path": run["path"].replace("seed1", "seed2")})
    write_json(path, table)
    experiments = Experiments.load(ROOT / "config", {"edition": "tiny"})
    context = Context(tmp_path, experiments, read_graph(tmp_path, "tiny"), bundle=False)
    return list(check_columns(context, "qm9"))


@pytest.mark.parametrize("long", [20, 40])
def test_equal_compute_is_no_unequal_condition(long: int, tmp_path: Path) -> None:
    steps = {"coord": 20, "coord_long": long, "georecon": 20}
    assert findings(tmp_path, steps, SAME) == []


def test_any_other_longer_pretraining_is(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, {"coord": 20, "coord_long": 40, "georecon": 40}, SAME)
    assert (found.kind, found.touches) == ("unequal conditions", ("qm9/georecon/homo",))
    assert "pretrain.settings.train.steps is 40, there 20" in found.text


def test_another_seed_is(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, dict.fromkeys(METHODS, 20), SAME | {"coord_long": 2})
    assert found.touches == ("qm9/coord_long/homo",)
    assert "seeds" in found.text


def test_seeds_with_draws_of_their_own_are_not(folder_of_two_seeds: list[Finding]) -> None:
    assert folder_of_two_seeds == []


def test_another_draw_of_labels_is(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, dict.fromkeys(METHODS, 20), SAME, {"georecon": "b"})
    assert found.touches == ("qm9/georecon/homo",)
    assert "finetune, seed 1: the split is another one" in found.text
