"""Measure what a step and a validation of every training of an edition take on this device.

Runs each distinct workload for a few steps on its real molecules (the stores and splits must have
been made) and writes ``benchmarks/results/rates-<device>.json``, which ``snakemake plan`` reads.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from georecon.experiments.experiments import Experiments
from georecon.experiments.plan import Training, trainings
from georecon.files import read_json, write_json
from georecon.jobs.job import prepare_torch
from georecon.records.record import compute_device
from georecon.stages.finetune import finetune
from georecon.stages.pretrain import pretrain
from georecon.training.world import World

ROOT = Path(__file__).resolve().parents[1]
FEW, MORE = 4, 14


def seconds(run: Training, experiments: Experiments, world: World, steps: int) -> float:
    """Time of a training of ``steps`` steps with one validation [s]."""
    train = replace(run.settings.train, steps=steps, evaluations=1, warmup=1)
    settings = replace(run.settings, train=train).as_json()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common: dict[str, Any] = {"state": folder / "state", "world": world, "say": lambda _: None}
        if run.stage == "pretrain":
            store, split = (
                Path(experiments.data.pretrain_store()),
                Path(experiments.data.pretrain_split()),
            )
            return pretrain(settings, store, split, folder, **common).seconds
        store = Path(experiments.data.store(experiments.data.dataset_of(run.part), run.target))
        split = data_of(run, experiments)
        return finetune(settings, store, split, None, folder, **common).seconds


def data_of(run: Training, experiments: Experiments) -> Path:
    """Split file that a run needs; it exists once its store does."""
    if run.stage == "pretrain":
        return Path(experiments.data.pretrain_split())
    return Path(experiments.data.split(run.part, run.target, run.settings.seed))


def main() -> None:
    """Measure all workloads whose data is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edition", default="laptop")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    options = parser.parse_args()
    experiments = Experiments.load(ROOT / "config", {"edition": options.edition})
    world = World(prepare_torch(1))
    device = compute_device()
    name = f"{device['device']} {device['name']}, {device['threads']} thread(s)"
    path = options.results / f"rates-{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')}.json"
    content = read_json(path) if path.exists() else {"device": name, "rates": {}}
    tables = experiments.tables.names()
    runs = {run.workload(): run for table in tables for run in trainings(experiments, table)}
    measured = 0
    for workload, run in runs.items():
        if not data_of(run, experiments).exists():
            print(f"{run.settings.name}: no data yet, not measured")
            continue
        few, more = (seconds(run, experiments, world, steps) for steps in (FEW, MORE))
        step = max(0.0, (more - few) / (MORE - FEW))
        content["rates"][workload] = {
            "seconds_per_step": step,
            "seconds_per_validation": max(0.0, few - FEW * step),
        }
        measured += 1
        rate = run.settings.train.batch_size / step if step else float("inf")
        print(f"{run.settings.name}: {1000 * step:.1f} ms a step, {rate:.0f} molecules/s")
        write_json(path, content)
    if not measured:
        sys.exit("nothing measured: make the edition's stores and splits first (snakemake tables)")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
