"""The trial: one short training of every kind that an edition has, and what its job is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from georecon import paths
from georecon.experiments.experiments import Experiments
from georecon.experiments.settings import FinetuneSettings, PretrainSettings, encoder_modules
from georecon.experiments.trainings import Training, all_trainings
from georecon.keys import Json, as_json
from georecon.records.code import code_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialJob:
    """What a job that measures a kind of training is given.

    Attributes:
        kind: of the training; ``name`` is that of the run that stands for it.
        stage: "pretrain" or "finetune".
        settings: of that run, as its rule gets them.
        dataset: of its molecules.
        store, split: its data, taken if they are there.
        atoms: of a synthetic molecule otherwise; None where no card says it.
        validation: molecules that validate it.
        code: digest of the sources that measure and of those that are measured.
    """

    kind: str
    name: str
    stage: str
    settings: Mapping[str, object]
    dataset: str
    store: str
    split: str
    atoms: float | None
    validation: int
    code: str

    def as_json(self) -> Json:
        """For the rule's parameters."""
        found: Json = as_json(self)
        return found


def trial_jobs(experiments: Experiments) -> dict[str, TrialJob]:
    """Jobs of an edition's trial by kind; the first run of each kind stands for it."""
    kinds: dict[str, Training] = {}
    for run in all_trainings(experiments):
        kinds.setdefault(run.kind(), run)
    return {kind: _job(experiments, kind, run) for kind, run in kinds.items()}


def _job(experiments: Experiments, kind: str, run: Training) -> TrialJob:
    data, settings = experiments.data, run.settings
    if isinstance(settings, FinetuneSettings):
        store = data.store(run.dataset, run.target)
        split = data.split(run.part, run.target, settings.seed)
    else:
        store, split = data.pretrain_store(), data.pretrain_split()
    return TrialJob(
        kind=kind,
        name=settings.name,
        stage=run.stage,
        settings=settings.as_json(),
        dataset=run.dataset,
        store=store,
        split=split,
        atoms=run.sizes.atoms,
        validation=max(1, round(run.sizes.validation)),
        code=code_digest("measure", *_modules(settings)),
    )


def _modules(settings: PretrainSettings | FinetuneSettings) -> tuple[str, ...]:
    """Modules that a run imports by name."""
    if isinstance(settings, PretrainSettings):
        return (f"georecon.objectives.{settings.objective}",)
    return encoder_modules(settings.encoder)


def trial_files(experiments: Experiments) -> list[str]:
    """Files that the trial of an edition writes."""
    kinds = dict.fromkeys(run.kind() for run in all_trainings(experiments))
    return [paths.TRIAL.format(kind=kind) for kind in kinds]
