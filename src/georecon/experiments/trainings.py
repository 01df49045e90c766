"""Trainings of an edition: which a table needs, how much data each has, and kinds of equal cost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from georecon.data.cards import Card, card_source, parts
from georecon.experiments.experiments import Experiments
from georecon.experiments.rates import Rate
from georecon.experiments.references import PRETRAIN
from georecon.experiments.settings import FinetuneSettings, PretrainSettings, encoder_json
from georecon.files import sha256_json
from georecon.keys import Json


class Sizes(NamedTuple):
    """Data of a run, from configuration and card.

    Attributes:
        atoms: of a molecule on average; None where no card says it.
        validation: molecules that validate.
        test: that are predicted; 0 where no card says it.
    """

    atoms: float | None
    validation: float
    test: float


class Estimate(NamedTuple):
    """What a run takes by a rate that was measured.

    Attributes:
        hours, error: training, validation and prediction, and the standard error [h].
        host_gb: memory of the machine [GB].
        device_gb: memory of the GPU [GB]; 0 without one.
        disk_gb: what its files take [GB].
        state_gb: what its saves take besides, until it ends [GB].
    """

    hours: float
    error: float
    host_gb: float
    device_gb: float
    disk_gb: float
    state_gb: float


@dataclass(frozen=True, slots=True)
class Training:
    """One pre-training or fine-tuning run.

    Attributes:
        folder: where its outputs go.
        stage: "pretrain" or "finetune".
        settings: as its rule gets them.
        part, target: what it reads; the pre-training set has no target.
        dataset: that plays the part.
        sizes: of its data.
    """

    folder: str
    stage: str
    settings: PretrainSettings | FinetuneSettings
    part: str
    target: str
    dataset: str
    sizes: Sizes

    def kind(self) -> str:
        """Stage, and a digest of all that the cost of a step and of a predicted molecule depend on.

        Equal for runs that differ in seed, in the encoder they start from, in their number of
        steps, in scales and weights (as long as these are not zero) or in their data, if its
        molecules have as many atoms.
        """
        settings, train = self.settings, self.settings.train
        given: Json = {
            "encoder": encoder_json(settings.encoder),
            "molecules": self.sizes.atoms or [self.dataset, self.target],
            "batch_size": train.batch_size,
            "part_atoms": train.part_atoms,
            "precision": train.precision,
        }
        if isinstance(settings, PretrainSettings):
            given |= {"objective": settings.objective, "params": _without_scales(settings.params)}
        else:
            recipe = settings.recipe
            given |= {
                "head": recipe.head,
                "forces": recipe.forces,
                "noise": bool(recipe.noise_sigma),
                "evaluation_batch": settings.evaluation_batch,
            }
        return f"{self.stage}-{sha256_json(given)[:16]}"

    def done(self, root: Path) -> bool:
        """Whether its record is in the working folder."""
        return (root / self.folder / "run.json").exists()

    def estimate(self, rates: Mapping[str, Rate]) -> Estimate | None:
        """What it takes with the rates of one device; None if this kind was not measured."""
        rate = rates.get(self.kind())
        if rate is None:
            return None
        steps = self.settings.train.steps
        validations = min(steps, self.settings.train.evaluations)
        predicted = validations * self.sizes.validation + self.sizes.test
        seconds = steps * rate.seconds_per_step + predicted * rate.seconds_per_molecule
        error = steps * rate.step_error + predicted * rate.molecule_error
        held = (self.sizes.validation + self.sizes.test) * rate.held_bytes
        return Estimate(
            hours=(rate.startup_seconds + seconds) / 3600.0,
            error=error / 3600.0,
            host_gb=1e-9 * (rate.host_bytes + held),
            device_gb=1e-9 * rate.device_bytes,
            disk_gb=1e-9 * (rate.output_bytes + self.sizes.test * rate.predicted_bytes),
            state_gb=1e-9 * rate.state_bytes,
        )


def _without_scales(value: object) -> object:
    """Parameters whose fractions count as zero or not: scales and weights change no cost."""
    if isinstance(value, Mapping):
        return {name: _without_scales(item) for name, item in value.items()}
    return bool(value) if isinstance(value, float) else value


def trainings(experiments: Experiments, table: str) -> list[Training]:
    """Runs that a table is made of, each once."""
    found: dict[str, Training] = {}
    runs, tables = experiments.runs, experiments.tables
    columns = tables.columns(table)
    for row, column in itertools.product(tables.rows(table), columns):
        cell = tables.cell(table, row, column)
        if cell.reason is not None:
            continue
        for seed in tables.seeds(table):
            if experiments.methods.is_pretrained(row.method):
                folder = runs.pretrain_folder(row.method, seed)
                settings = runs.pretrain_settings(row.method, seed)
                found[folder] = _training(experiments, folder, settings, PRETRAIN, "")
            if column.source == "finetune":
                folder = runs.finetune_folder(column.part, column.target, row.method, seed)
                tuned = runs.finetune_settings(column.part, column.target, row.method, seed)
                found[folder] = _training(experiments, folder, tuned, column.part, column.target)
    return list(found.values())


def _training(
    experiments: Experiments,
    folder: str,
    settings: PretrainSettings | FinetuneSettings,
    part: str,
    target: str,
) -> Training:
    stage = "pretrain" if isinstance(settings, PretrainSettings) else "finetune"
    dataset = experiments.data.dataset_of(part)
    sizes = sizes_of(experiments, part, target)
    return Training(folder, stage, settings, part, target, dataset, sizes)


def all_trainings(experiments: Experiments) -> list[Training]:
    """Runs of all tables, each once."""
    tables = (trainings(experiments, name) for name in experiments.tables.names())
    return list({run.folder: run for runs in tables for run in runs}.values())


def trainings_left(experiments: Experiments, root: Path) -> list[Training]:
    """Runs of all tables whose ``run.json`` is not in the working folder yet, each once."""
    return [run for run in all_trainings(experiments) if not run.done(root)]


def sizes_of(experiments: Experiments, part: str, target: str) -> Sizes:
    """Sizes of the data of a part's target; of the pre-training set without one."""
    data, config = experiments.data, experiments.config
    card = data.card(data.dataset_of(part))
    if part == PRETRAIN:
        return Sizes(card.atoms, config.pretrain.validation, 0)
    entry = card.target(target)
    split = config.finetune.sets[part].split
    total = entry.train_val or 0
    validation = split.val if split.val is not None else (split.val_fraction or 0) * total
    train = split.train if split.train is not None else total - validation
    if split.test is not None:
        test = float(split.test)
    elif parts(card, target) is not None:
        test = float(molecules(card, target))
    else:
        test = max(0.0, molecules(card, target) - train - validation)
    return Sizes(entry.atoms or card.atoms, validation, test)


def molecules(card: Card, target: str) -> int:
    """Molecules or frames of a target's files, of the test files alone where there are such; as far
    as the card says.
    """
    _, source = card_source(card)
    own = parts(card, target)
    roles = [target] if own is None else [*own.test.values()]
    found = [source.files[role].expected_molecules for role in roles if role in source.files]
    return sum(filter(None, found)) or source.expected_molecules or card.expected_molecules or 0
