"""Measure what a step and a validation of every training of an edition take on this device.

Runs each distinct workload for a few steps on its real molecules (the stores and splits must have
been made) and writes ``benchmarks/results/rates-<device>.json``, which ``snakemake plan`` reads.

A cost is the median of repeated differences between a longer and a shorter training, with the
standard error of that. Where it cannot be told from zero the longer one is made longer, up to
``LONGEST`` steps or validations; what still cannot is not written.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from georecon.commands import command, remember
from georecon.errors import GeoreconError
from georecon.experiments.config import merge
from georecon.experiments.experiments import Experiments
from georecon.experiments.option_texts import read_pairs
from georecon.experiments.plan import Training, trainings
from georecon.experiments.rates import Rate, median_of, read_rates, write_rates
from georecon.experiments.yaml_files import read_mapping
from georecon.jobs.job import prepare_torch
from georecon.records.record import compute_device
from georecon.stages.finetune import finetune
from georecon.stages.pretrain import pretrain
from georecon.training.world import World

ROOT = Path(__file__).resolve().parents[1]
FEW, MORE, LONGEST = 4, 14, 500
REPEATS = 5


def seconds(
    run: Training, experiments: Experiments, world: World, *, steps: int, evaluations: int
) -> float:
    """Time of a short training [s]."""
    train = replace(run.settings.train, steps=steps, evaluations=evaluations, warmup=1)
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


def cost(time: Callable[[int, int], float], few: int, more: int) -> tuple[float, float] | None:
    """What one more of something costs, and the standard error of that [s].

    Args:
        time: of a training with so many, beside another with so many.
        few: of the shorter training.
        more: of the longer one; doubled until the cost can be told from zero.

    Returns:
        None where even ``LONGEST`` do not tell it.
    """
    while True:
        pairs = [(time(few, more), time(more, more)) for _ in range(REPEATS)]
        found = median_of([(long - short) / (more - few) for short, long in pairs])
        if found is not None or more >= LONGEST:
            return found
        more = min(2 * more, LONGEST)


def measure(run: Training, experiments: Experiments, world: World) -> Rate | None:
    """Costs of a workload; None where one of them cannot be told from zero."""

    def of_steps(steps: int, _: int) -> float:
        return seconds(run, experiments, world, steps=steps, evaluations=1)

    def of_validations(evaluations: int, most: int) -> float:
        return seconds(run, experiments, world, steps=most, evaluations=evaluations)

    of_steps(FEW, FEW)  # the first one loads, compiles and fills caches
    step = cost(of_steps, FEW, MORE)
    validation = cost(of_validations, 1, FEW)
    if step is None or validation is None:
        return None
    return Rate(
        seconds_per_step=step[0],
        step_error=step[1],
        seconds_per_validation=validation[0],
        validation_error=validation[1],
    )


def data_of(run: Training, experiments: Experiments) -> Path:
    """Split file that a run needs; it exists once its store does."""
    if run.stage == "pretrain":
        return Path(experiments.data.pretrain_split())
    return Path(experiments.data.split(run.part, run.target, run.settings.seed))


def load(options: argparse.Namespace) -> Experiments:
    """Experiments of the edition under the user's configuration."""
    given: dict[str, Any] = {}
    files, pairs = options.configfile, options.config
    remember(["snakemake", "--configfile", *files, "--config", *pairs])
    for name in (ROOT / "config/config.yaml", *files):
        given = merge(given, read_mapping(Path(name)))
    given = merge(given, read_pairs(pairs))
    return Experiments.load(ROOT / "config", {**given, "edition": options.edition})


def main() -> None:
    """Measure all workloads whose data is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edition", default="laptop")
    parser.add_argument("--configfile", nargs="+", default=[], help="as Snakemake's")
    parser.add_argument("--config", nargs="+", default=[], metavar="key=value", help="likewise")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    options = parser.parse_args()
    try:
        experiments = load(options)
        rates, faults = read_rates(options.results)
    except GeoreconError as error:
        sys.exit(f"calibrate: {error}")
    print(*faults, sep="\n", end="\n" if faults else "")
    world = World(prepare_torch(1))
    device = compute_device()
    name = f"{device['device']} {device['name']}, {device['threads']} thread(s)"
    path = options.results / f"rates-{re.sub('[^A-Za-z0-9]+', '-', name).strip('-')}.json"
    known = rates.get(name, {})
    tables = experiments.tables.names()
    runs = {run.workload(): run for table in tables for run in trainings(experiments, table)}
    measured = 0
    for workload, run in runs.items():
        if not data_of(run, experiments).exists():
            print(f"{run.settings.name}: no data yet, not measured")
            continue
        rate = measure(run, experiments, world)
        if rate is None:
            print(f"{run.settings.name}: cannot be told from zero, not measured")
            continue
        known[workload] = rate
        measured += 1
        print(
            f"{run.settings.name}: {1000 * rate.seconds_per_step:.3g} ± "
            f"{1000 * rate.step_error:.1g} ms a step, {1000 * rate.seconds_per_validation:.3g} ± "
            f"{1000 * rate.validation_error:.1g} ms a validation"
        )
        write_rates(path, name, known)
    if not measured:
        how = command("tables", edition=options.edition)
        sys.exit(f"nothing measured: make the edition's stores and splits first ({how})")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
