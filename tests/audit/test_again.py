"""When a cell that was trained again holds: to the bit on its machine, by interval elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from georecon.audit import again
from georecon.audit.again import Again
from georecon.audit.findings import Context
from georecon.data.split import Split, write_split
from georecon.experiments.experiments import Experiments
from georecon.experiments.specs import CellSpec
from georecon.records.chain import Graph
from georecon.stages.evaluate import evaluate
from tests.projects import ROOT

SIZE = 200


def run(root: Path, place: str, seed: int, *, worse: float, noise: float) -> str:
    """A fine-tuning run's files; returns its metrics."""
    folder = root / f"{place}/finetune/property/homo/coord/seed{seed}"
    folder.mkdir(parents=True)
    ids = np.arange(SIZE)
    split = root / f"{place}{seed}.npz"
    meta = {"rule": "random", "seed": 1, "store_sha256": "0"}
    write_split(split, Split(ids[:0], ids[:0], ids), meta)
    rng = np.random.default_rng([seed, int(1000 * noise)])
    label = np.random.default_rng(0).normal(size=SIZE)
    error = np.random.default_rng(seed).normal(size=SIZE) * (1.0 + worse)
    columns = {
        "ids": ids, "label": label, "baseline": label * 0, "naive": label * 0,
        "prediction": label + error + noise * rng.normal(size=SIZE),
    }  # fmt: skip
    save_file(columns, folder / "outputs.safetensors")
    paths = (folder / "predictions.parquet", folder / "metrics.json")
    evaluate(folder / "outputs.safetensors", split, *paths, unit="eV", store_path=root)
    return str(paths[1].relative_to(root))


def compared(
    root: Path, *, seeds: int = 3, alike: bool, worse: float = 0.0, noise: float = 0.0
) -> tuple[str | None, Context]:
    specs = []
    for place, more in (
        ("old", {"worse": 0.0, "noise": 0.0}),
        ("new", {"worse": worse, "noise": noise}),
    ):
        files = {seed: run(root, place, seed, **more) for seed in range(1, seeds + 1)}
        spec = CellSpec(row="coord", column="homo", files=files, key=("property", "mae"), unit="eV")
        specs.append(spec)
    experiments = Experiments.load(ROOT / "config", {"edition": "tiny"})
    context = Context(root, experiments, Graph("tiny"), bundle=False)
    found = Again(cell="qm9/coord/homo", old=specs[0], new=specs[1], alike=alike)
    return again._compare(context, found), context


@pytest.mark.parametrize("alike", [True, False])
def test_the_same_bytes_hold_anywhere(alike: bool, tmp_path: Path) -> None:
    text, context = compared(tmp_path, alike=alike)
    assert text is None
    assert "3 of 3 files the same to the bit" in context.checked[0]
    assert "seed 1: 0." in context.checked[0]


def test_other_bytes_on_the_same_machine_do_not_hold(tmp_path: Path) -> None:
    text, _ = compared(tmp_path, alike=True, noise=1e-9)
    assert text is not None
    assert "on the same kind of machine, where all should be" in text


def test_elsewhere_a_difference_like_rounding_holds(tmp_path: Path) -> None:
    text, context = compared(tmp_path, alike=False, noise=0.01)
    assert text is None
    assert not context.unchecked


@pytest.mark.parametrize("worse", [0.5, -0.5])
def test_elsewhere_a_difference_beyond_its_interval_does_not(worse: float, tmp_path: Path) -> None:
    text, _ = compared(tmp_path, alike=False, worse=worse)
    assert text is not None
    assert "which excludes zero" in text


def test_two_seeds_elsewhere_decide_nothing_and_that_is_said(tmp_path: Path) -> None:
    text, context = compared(tmp_path, seeds=2, alike=False, worse=0.5)
    assert text is None
    assert "too few seeds to decide" in context.unchecked[0]
