"""The plan's estimates by table where nothing was measured: GPU-hours, memory and disk.

Hours are bounds of :mod:`georecon.training.estimate` times the steps, validations and predictions
that the configuration has; sizes of data are those of the dataset cards, so that it needs none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from georecon.data.cards import Card, card_source, parts
from georecon.experiments.experiments import Experiments
from georecon.experiments.plan import Training, trainings
from georecon.experiments.settings import FinetuneSettings
from georecon.training.estimate import (
    GPUS,
    Bounds,
    Gpu,
    Load,
    prediction,
    steps_per_batch,
    training_step,
)

_PROPERTY_BYTES, _FRAME_BYTES, _FORCE_BYTES = 64, 64, 4
"""Of a predicted property in outputs.safetensors and predictions.parquet; of errors summed over a
frame; of a force component. Measured on 20,000 frames."""


class Sizes(NamedTuple):
    """Data of a run: mean atoms of a molecule, molecules that validate, and that are predicted."""

    atoms: float
    validation: float
    test: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run takes.

    Attributes:
        hours: by name of the card [h].
        gigabytes: of a card's memory [GB].
        disk: of its outputs [GB].
    """

    hours: Mapping[str, Bounds]
    gigabytes: Bounds
    disk: float


def bracket_lines(experiments: Experiments, root: Path) -> list[str]:
    """Bounds for the runs left of each table and of all, as lines of text.

    Args:
        experiments: the resolved configuration.
        root: working folder; runs whose ``run.json`` is there are done.
    """
    tables: dict[str, dict[str, Training]] = {}
    for name in experiments.tables.names():
        runs = (run for run in trainings(experiments, name) if not run.done(root))
        tables[name] = {run.folder: run for run in runs}
    tables["all"] = {folder: run for runs in tables.values() for folder, run in runs.items()}
    by_load: dict[str, Cost | None] = {}
    costs: dict[str, Cost | None] = {}
    for folder, run in tables["all"].items():
        # runs of one table that differ in their length have one workload
        load = f"{run.workload()} {run.settings.train.steps}"
        if load not in by_load:
            by_load[load] = _cost(experiments, run)
        costs[folder] = by_load[load]
    lines = [
        "Nothing was measured. Bounds from sizes and data sheets, not from a run: GPU-hours of one "
        "card, the most memory a training takes of it, disk for outputs:"
    ]
    for name, left in tables.items():
        if left:
            lines.append(f"  {name}: {_words(costs[folder] for folder in left)}")
    unknown = {
        run.settings.dataset if isinstance(run.settings, FinetuneSettings) else "pre-training"
        for folder, run in tables["all"].items()
        if costs[folder] is None
    }
    if unknown:
        lines.append(f"  without those on {', '.join(sorted(unknown))}: no card says the sizes")
    return lines


def _words(given: Iterable[Cost | None]) -> str:
    costs = [cost for cost in given if cost is not None]
    if not costs:
        return "no estimate"
    hours = []
    for gpu in GPUS:
        total = Bounds(0.0, 0.0)
        for cost in costs:
            total = total.plus(cost.hours[gpu.name])
        hours.append(f"{gpu.name} {_rounded(total.low)} to {_rounded(total.high)} h")
    most = max((cost.gigabytes for cost in costs), key=lambda bounds: bounds.high)
    disk = sum(cost.disk for cost in costs)
    memory = f"{most.low:.0f} to {most.high:.0f} GB of memory"
    return f"{', '.join(hours)}; {memory}; {_rounded(disk)} GB of disk"


def _rounded(value: float) -> str:
    """Two digits, without an exponent."""
    if value < 0.1:
        return f"{value:.2f}"
    two = float(f"{value:.2g}")
    return f"{two:,.0f}" if two >= 10 else f"{two:g}"


def _cost(experiments: Experiments, run: Training) -> Cost | None:
    sizes = sizes_of(experiments, run)
    if sizes is None:
        return None
    step = training_step(run.settings, sizes.atoms)
    hours = {gpu.name: _hours(run, step, sizes, gpu) for gpu in GPUS}
    values = sizes.test * _PROPERTY_BYTES
    if isinstance(run.settings, FinetuneSettings) and run.settings.recipe.forces:
        values += sizes.test * (_FRAME_BYTES + sizes.atoms * 3 * _FORCE_BYTES)
    return Cost(hours, step.gigabytes(), 1e-9 * values)


def _hours(run: Training, step: Load, sizes: Sizes, gpu: Gpu) -> Bounds:
    """Training, validations and test of one run [h]."""
    settings, train = run.settings, run.settings.train
    total = step.seconds(gpu).times(train.steps * steps_per_batch(settings, sizes.atoms))
    validations = min(train.steps, train.evaluations)
    if isinstance(settings, FinetuneSettings):
        for molecules, times in ((sizes.validation, validations), (sizes.test, 1)):
            if molecules:
                batches = math.ceil(molecules / settings.evaluation_batch)
                batch = prediction(settings, molecules, sizes.atoms)
                total = total.plus(batch.seconds(gpu).times(batches * times))
    else:
        all_of_them = replace(step, kind="forward", atoms=sizes.validation * sizes.atoms)
        total = total.plus(all_of_them.seconds(gpu).times(validations))
    return total.times(1 / 3600)


def sizes_of(experiments: Experiments, run: Training) -> Sizes | None:
    """Sizes of a run's data, from configuration and cards; None where no card says the atoms."""
    data, config = experiments.data, experiments.config
    card = data.card(data.dataset_of(run.part))
    if not isinstance(run.settings, FinetuneSettings):
        return Sizes(card.atoms, config.pretrain.validation, 0) if card.atoms else None
    target = card.target(run.target)
    atoms = target.atoms or card.atoms
    if not atoms:
        return None
    split = config.finetune.sets[run.part].split
    total = target.train_val or 0
    validation = split.val if split.val is not None else (split.val_fraction or 0) * total
    train = split.train if split.train is not None else total - validation
    if split.test is not None:
        test = float(split.test)
    else:
        test = max(0.0, molecules(card, run.target) - train - validation)
    return Sizes(atoms, validation, test)


def molecules(card: Card, target: str) -> int:
    """Molecules or frames of a target's files, as far as the card says."""
    _, source = card_source(card)
    own = parts(card, target)
    roles = [target] if own is None else [*own.test.values()]
    found = [source.files[role].expected_molecules for role in roles if role in source.files]
    return sum(filter(None, found)) or source.expected_molecules or card.expected_molecules or 0
