"""The plan's bounds by table of what was not measured: hours, memory and disk.

Hours are bounds of :mod:`georecon.training.estimate` times the steps, validations and predictions
that the configuration has; sizes of data are those of the dataset cards, so that it needs none.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from georecon.experiments.experiments import Experiments
from georecon.experiments.settings import FinetuneSettings
from georecon.experiments.trainings import Training, trainings
from georecon.training.estimate import (
    CPUS,
    GPUS,
    Bounds,
    Device,
    Load,
    prediction,
    steps_per_batch,
    training_step,
)

_PROPERTY_BYTES, _FORCE_BYTES = 66, 54
"""Of a predicted property and of a force component in outputs.safetensors and predictions.parquet,
measured on the laptop edition."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run takes.

    Attributes:
        hours: by name of the device [h].
        gigabytes: of a card's memory [GB].
        disk: of its outputs [GB].
    """

    hours: Mapping[str, Bounds]
    gigabytes: Bounds
    disk: float


def bracket_lines(
    experiments: Experiments, root: Path, measured: Collection[str] = ()
) -> list[str]:
    """Bounds for the runs left of each table and of all, as lines of text.

    Args:
        experiments: the resolved configuration.
        root: working folder; runs whose ``run.json`` is there are done.
        measured: kinds of training that need no bounds.
    """
    tables: dict[str, dict[str, Training]] = {}
    for name in experiments.tables.names():
        runs = (run for run in trainings(experiments, name) if not run.done(root))
        tables[name] = {run.folder: run for run in runs if run.kind() not in measured}
    tables["all"] = {folder: run for runs in tables.values() for folder, run in runs.items()}
    if not tables["all"]:
        return []
    devices = GPUS if experiments.config.gpus else CPUS
    by_load: dict[str, Cost | None] = {}
    costs: dict[str, Cost | None] = {}
    for folder, run in tables["all"].items():
        # runs of one table that differ in their length have one kind
        load = f"{run.kind()} {run.settings.train.steps} {run.sizes}"
        if load not in by_load:
            by_load[load] = _cost(run, devices)
        costs[folder] = by_load[load]
    what = "Not measured, bounds only" if measured else "Nothing was measured. Bounds"
    lines = [
        f"{what}, from sizes and data sheets, not from a run: hours of one device, the most memory "
        "of a card that a training takes, disk for outputs:"
    ]
    for name, left in tables.items():
        if left:
            words = _words([costs[folder] for folder in left], devices)
            lines.append(f"  {name}: {words}")
    unknown = {
        run.settings.dataset if isinstance(run.settings, FinetuneSettings) else "pre-training"
        for folder, run in tables["all"].items()
        if costs[folder] is None
    }
    if unknown:
        lines.append(f"  without those on {', '.join(sorted(unknown))}: no card says the sizes")
    return lines


def _words(given: Iterable[Cost | None], devices: Sequence[Device]) -> str:
    costs = [cost for cost in given if cost is not None]
    if not costs:
        return "no estimate"
    hours = []
    for device in devices:
        total = Bounds(0.0, 0.0)
        for cost in costs:
            total = total.plus(cost.hours[device.name])
        hours.append(f"{device.name} {_rounded(total.low)} to {_rounded(total.high)} h")
    found = [", ".join(hours)]
    cards = [device for device in devices if device.card]
    if cards:
        most = max((cost.gigabytes for cost in costs), key=lambda bounds: bounds.high)
        memory = f"{_rounded(most.low)} to {_rounded(most.high)} GB of memory"
        small = [card.name for card in cards if card.gigabytes < most.low]
        found.append(memory + (f", too much for {' and '.join(small)}" if small else ""))
    disk = sum(cost.disk for cost in costs)
    return "; ".join([*found, f"{_rounded(disk)} GB of disk"])


def _rounded(value: float) -> str:
    """Two digits, without an exponent."""
    if value < 0.1:
        return f"{value:.2f}"
    two = float(f"{value:.2g}")
    return f"{two:,.0f}" if two >= 10 else f"{two:g}"


def _cost(run: Training, devices: Iterable[Device]) -> Cost | None:
    sizes = run.sizes
    if sizes.atoms is None:
        return None
    step = training_step(run.settings, sizes.atoms)
    hours = {device.name: _hours(run, step, sizes.atoms, device) for device in devices}
    values = sizes.test * _PROPERTY_BYTES
    if isinstance(run.settings, FinetuneSettings) and run.settings.recipe.forces:
        values += sizes.test * sizes.atoms * 3 * _FORCE_BYTES
    return Cost(hours, step.gigabytes(), 1e-9 * values)


def _hours(run: Training, step: Load, atoms: float, device: Device) -> Bounds:
    """Training, validations and test of one run [h]."""
    settings, train, sizes = run.settings, run.settings.train, run.sizes
    total = step.seconds(device).times(train.steps * steps_per_batch(settings, atoms))
    validations = min(train.steps, train.evaluations)
    if isinstance(settings, FinetuneSettings):
        for molecules, times in ((sizes.validation, validations), (sizes.test, 1)):
            if molecules:
                batches = math.ceil(molecules / settings.evaluation_batch)
                batch = prediction(settings, molecules, atoms)
                total = total.plus(batch.seconds(device).times(batches * times))
    else:
        all_of_them = replace(step, kind="forward", atoms=sizes.validation * atoms)
        total = total.plus(all_of_them.seconds(device).times(validations))
    return total.times(1 / 3600)
